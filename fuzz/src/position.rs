//! A position: 32 hexadecimal digits, and nothing else, are one, of which the first half is an arrival number.

use lyftr::event::Position;

/// A text.
///
/// # Panics
/// If a text is read as a position that is none, or the other way; if one does not come back as it was.
pub fn position(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    // An arrival number is greater than zero, and fits into the half of all numbers of 64 bits that have a sign.
    let is_position = text.len() == 32
        && text.bytes().all(is_digit)
        && text.as_bytes()[0] < b'8'
        && text.as_bytes()[..16].iter().any(|digit| *digit != b'0');
    match text.parse::<Position>() {
        Ok(position) => {
            assert!(is_position, "{text:?} is no position");
            assert_eq!(position.to_string(), text);
            assert_eq!(serde_json::to_string(&position).unwrap(), format!("{text:?}"));
            assert_eq!(format!("{:016x}{:016x}", position.seq, position.tag), text);
        }
        Err(_) => assert!(!is_position, "{text:?} is a position, but is refused"),
    }
}
