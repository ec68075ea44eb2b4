//! An event as a line for a person at a terminal. Pure.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::Deserialize;
use unicode_width::UnicodeWidthChar as _;

/// What a person sees of an event; members that are not named here are passed over.
#[derive(Deserialize)]
struct Shown<'a> {
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    r#type: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    from: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    to: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    r#ref: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    ts: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    received_at: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
}

/// The line of an event, without its end: the time of its arrival (or its own, where that is not known), source, kind, from
/// and to, and what it says. It has no control character, and takes no more than `columns` of a terminal.
pub(super) fn line(event: &str, columns: usize) -> String {
    let Ok(shown) = serde_json::from_str::<Shown<'_>>(event) else { return cut(&visible(event), columns) };
    let mut fields = vec![
        shown.received_at.or(shown.ts).unwrap_or("-".into()),
        shown.source,
        shown.kind,
        format!("{} → {}", shown.from.as_deref().unwrap_or("-"), shown.to.as_deref().unwrap_or("-")).into(),
    ];
    fields.extend(shown.r#type.filter(|kind| kind != "text").map(|kind| format!("[{kind}]").into()));
    fields.extend(shown.text.or(shown.r#ref));
    cut(&visible(&fields.join("  ")), columns)
}

/// The text with its control characters, and those that turn the direction of a line, in a form that can be seen.
pub(in crate::cli) fn visible(text: &str) -> String {
    let mut seen = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\0'..='\u{1f}' => seen.extend(char::from_u32(0x2400 + u32::from(character))),
            '\u{7f}' => seen.push('\u{2421}'),
            '\u{80}'..='\u{9f}'
            | '\u{ad}'
            | '\u{61c}'
            | '\u{200b}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}' => {
                // A string takes anything.
                let _always = write!(seen, "{}", character.escape_unicode());
            }
            plain => seen.push(plain),
        }
    }
    seen
}

/// As much of the text as fits into the columns; the last one then says that there is more.
fn cut(text: &str, columns: usize) -> String {
    // A sequence of characters is at most as wide as all of them, if the one that asks for an emoji in the place of a letter
    // counts as one column more.
    let mut widths = text.char_indices().scan(0, |width, (at, character)| {
        *width += if character == '\u{fe0f}' { 1 } else { character.width().unwrap_or(0) };
        Some((at, *width))
    });
    let mut end = 0;
    for (at, width) in widths.by_ref() {
        if width > columns {
            return format!("{}…", text.get(..end).unwrap_or_default());
        }
        if width < columns {
            end = at + text.get(at..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
        }
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_width::UnicodeWidthStr as _;

    use super::*;

    const EVENT: &str = r#"{"position":"01","source":"webhook","kind":"message","type":"text","key":"m1","from":"+1","to":"+2","user_id":null,"thread":"+1","ref":null,"account":null,"ts":"2025-01-15T10:00:00Z","received_at":"2025-01-15T10:00:01.234Z","text":"He said \"é\"\n\u001b[31m","data":{"text":"x"}}"#;

    #[test]
    fn a_message_is_one_line_with_all_that_a_person_wants_to_see() {
        assert_eq!(
            line(EVENT, 200),
            "2025-01-15T10:00:01.234Z  webhook  message  +1 → +2  He said \"é\"␊␛[31m"
        );
        let status = r#"{"position":"01","source":"shop","kind":"status","type":"read","key":"k","from":null,"to":"+2","ref":"wamid.1","ts":"2025-01-15T10:00:00Z","received_at":null,"text":null,"data":null}"#;
        assert_eq!(line(status, 200), "2025-01-15T10:00:00Z  shop  status  - → +2  [read]  wamid.1");
    }

    #[test]
    fn what_is_no_event_is_shown_as_it_is() {
        assert_eq!(line("nothing\u{9b}\n", 80), "nothing\\u{9b}␊");
    }

    #[test]
    fn a_line_ends_where_the_terminal_does() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("日本語", 6), "日本語");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(cut("e\u{301}e\u{301}e\u{301}", 2), "e\u{301}…");
        assert_eq!(cut("ab", 1), "…");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_text_moves_the_cursor_of_a_terminal_or_takes_a_second_line(
            text in "(\\PC|\\p{Cc}|\\p{Cf}|[日本語😀\u{200d}\u{301}]){0,60}", columns in 1..60_usize
        ) {
            let event = serde_json::json!({ "source": "a", "kind": "message", "from": text, "text": text }).to_string();
            let line = line(&event, columns);
            prop_assert!(line.width() <= columns, "{line:?}");
            prop_assert!(!line.chars().any(|c| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c) || c == '\u{2028}'), "{line:?}");
        }
    }
}
