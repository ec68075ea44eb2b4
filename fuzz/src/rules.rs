//! The rules for the fields of a message, as docs/http-api.md has them.

/// 1 to 255 characters, no control character.
pub fn is_message_id(text: &str) -> bool {
    let is_control = |c: char| c <= '\u{1f}' || ('\u{7f}'..='\u{9f}').contains(&c);
    (1..=255).contains(&text.chars().count()) && !text.chars().any(is_control)
}

/// `+` and 1 to 15 ASCII digits.
pub fn is_phone(text: &str) -> bool {
    let mut characters = text.chars();
    characters.next() == Some('+') && (2..=16).contains(&text.len()) && characters.all(|c| c.is_ascii_digit())
}

/// At most 4096 characters, no NUL.
pub fn is_text(text: &str) -> bool {
    text.chars().count() <= 4096 && !text.chars().any(|c| c == '\0')
}

/// A real date and time, a fraction of 1 to 9 digits or none, in UTC.
pub fn is_timestamp(text: &str) -> bool {
    // Its digits as zeros, so that the form is a matter of comparing.
    let form: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let fraction = form.strip_prefix("0000-00-00T00:00:00").and_then(|rest| rest.strip_suffix('Z'));
    let fraction_is_right = fraction.is_some_and(|fraction| {
        fraction.is_empty()
            || fraction.strip_prefix('.').is_some_and(|digits| {
                (1..=9).contains(&digits.len()) && digits.bytes().all(|digit| digit == b'0')
            })
    });
    if !fraction_is_right {
        return false;
    }
    let number = |at: std::ops::Range<usize>| text[at].parse::<u32>().unwrap();
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        _ => 0,
    };
    (1..=days).contains(&day) && number(11..13) < 24 && number(14..16) < 60 && number(17..19) < 60
}
