//! Comma-separated values (RFC 4180) for spreadsheets: no field is a formula there, nor a number.

use std::borrow::Cow;

/// Without it Excel takes UTF-8 for another encoding.
pub(super) const BYTE_ORDER_MARK: &str = "\u{feff}";
/// Goes before what a spreadsheet would take for something else than a text.
const GUARD: char = '\'';

/// Appends a record. A field that is `None` is empty; an empty text has quotes.
pub(super) fn record<'a>(out: &mut Vec<u8>, fields: impl IntoIterator<Item = Option<Cow<'a, str>>>) {
    for (nth, field) in fields.into_iter().enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        if let Some(text) = field {
            append(out, &text);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Semicolons and tabs need quotes by no rule, but some spreadsheets take them for separators too.
fn append(out: &mut Vec<u8>, text: &str) {
    let guard = if needs_guard(text) { "'" } else { "" };
    if text.is_empty() || text.contains(['"', ',', ';', '\t', '\r', '\n']) {
        out.extend_from_slice(format!("\"{guard}{}\"", text.replace('"', "\"\"")).as_bytes());
    } else {
        out.extend_from_slice(guard.as_bytes());
        out.extend_from_slice(text.as_bytes());
    }
}

/// Whether a guard goes before a text: it begins with what begins a formula, by itself or after white space, or with a guard, or
/// it is a number, which would lose its leading zeros, or all but its first 15 digits.
fn needs_guard(text: &str) -> bool {
    let begins_formula = |text: &str| text.starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']);
    text.starts_with([GUARD, '\t', '\r', '\n']) || begins_formula(text.trim_start()) || is_number(text)
}

fn is_number(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b',' | b'e' | b'E' | b'+' | b'-');
    let begins = |first: u8| first.is_ascii_digit() || matches!(first, b'.' | b',');
    text.bytes().next().is_some_and(begins)
        && text.bytes().all(is_part)
        && text.bytes().any(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(fields: &[Option<&str>]) -> String {
        let mut out = Vec::new();
        record(&mut out, fields.iter().map(|field| field.map(Cow::Borrowed)));
        String::from_utf8(out).unwrap()
    }

    /// Reads one record, as RFC 4180 has it: each field as a reader sees it, `None` where it is empty without quotes.
    fn read(mut csv: &str) -> Vec<Option<String>> {
        let mut fields = Vec::new();
        loop {
            let field = if let Some(mut rest) = csv.strip_prefix('"') {
                let mut text = String::new();
                loop {
                    let (before, after) = rest.split_once('"').expect("the end of a field in quotes");
                    text += before;
                    rest = after;
                    match rest.strip_prefix('"') {
                        Some(more) => rest = more,
                        None => break,
                    }
                    text.push('"');
                }
                csv = rest;
                Some(text)
            } else {
                let (field, rest) = csv.split_at(csv.find([',', '\r']).expect("the end of a record"));
                assert!(!field.contains(['"', '\n']), "{field:?}");
                csv = rest;
                (!field.is_empty()).then(|| field.to_owned())
            };
            fields.push(field);
            match csv.strip_prefix(',') {
                Some(rest) => csv = rest,
                None => break,
            }
        }
        assert_eq!(csv, "\r\n");
        fields
    }

    #[test]
    fn fields_have_quotes_where_they_need_them() {
        let fields = [
            Some("a b"),
            None,
            Some(""),
            Some("a,b"),
            Some("\"a\""),
            Some("a\r\nb"),
            Some("ä😀"),
            Some("a;b\tc"),
        ];
        assert_eq!(encoded(&fields), "a b,,\"\",\"a,b\",\"\"\"a\"\"\",\"a\r\nb\",ä😀,\"a;b\tc\"\r\n");
    }

    #[test]
    fn what_a_spreadsheet_would_not_take_for_a_text_has_an_apostrophe_before_it() {
        for text in [
            "=1+1",
            "+919876543210",
            "-1",
            "@SUM(A1)",
            "\t=1",
            "\ra",
            "\na",
            "'",
            "'=1",
            "＝1",
            "＋1",
            "－1",
            "＠a",
            " =1",
            "\u{a0}+1",
            "919876543210",
            "007",
            "1.5",
            "1e5",
            ".5",
            ",5",
            "1,000",
            "0000000000000007e1",
        ] {
            let seen = read(&encoded(&[Some(text)])).remove(0).unwrap();
            assert_eq!(seen, format!("'{text}"), "{text:?}");
        }
        for text in ["a", "a=1", "2025-01-15T10:00:00Z", "7a", "m 1", "1 2", "e5", ".", "\u{2019}a", "a'"] {
            assert_eq!(encoded(&[Some(text)]), format!("{text}\r\n"));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_field_is_a_formula_and_each_comes_back_without_its_apostrophe(
            fields in prop::collection::vec(prop::option::of("[=+@'\",\r\n\t a0-9e.＝－-]{0,6}|\\PC{0,20}"), 1..6)
        ) {
            let given: Vec<_> = fields.iter().map(Option::as_deref).collect();
            let seen = read(&encoded(&given));
            for field in seen.iter().flatten() {
                prop_assert!(!field.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']), "{field:?}");
                prop_assert!(field.is_empty() || field.parse::<f64>().is_err() || field.starts_with(char::is_alphabetic), "{field:?}");
            }
            let back: Vec<_> = seen.iter().map(|field| {
                field.as_deref().map(|field| field.strip_prefix(GUARD).unwrap_or(field))
            }).collect();
            prop_assert_eq!(back, given);
        }
    }
}
