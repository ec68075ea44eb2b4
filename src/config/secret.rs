//! Secrets: reading them, splitting a list of them, and warning of one that looks wrong. No text made here holds a part of
//! a secret.

use std::fmt;
use std::path::Path;

/// Bytes that nobody may see. `Debug` does not print them.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Keeps `bytes` secret.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Reads a file, without the line ends that editors and `echo` put at its end. An error does not hold the path, since
    /// somebody may have put the secret itself there.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let mut bytes =
            std::fs::read(path).map_err(|error| format!("cannot read the file that it names: {error}"))?;
        while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
            bytes.pop();
        }
        if bytes.is_empty() { Err("the file that it names is empty".to_owned()) } else { Ok(Self(bytes)) }
    }

    /// Whether the secret has blanks, line ends and commas only, which separate the secrets of a list.
    pub(super) fn is_blank(&self) -> bool {
        self.0.iter().all(|byte| byte.is_ascii_whitespace() || *byte == b',')
    }

    /// Splits a list of secrets, with a line end or a comma between them. Each secret is returned in all the forms that it
    /// may have been valid in: with the blanks around it and without them; the whole line, with its commas; and the whole
    /// list. So any secret of today can be the only one in the list, or on a line, tomorrow. Longer forms come first.
    pub(super) fn listed(&self) -> Vec<Vec<Self>> {
        let mut listed: Vec<Vec<Self>> = Vec::new();
        let mut around = vec![self.clone()];
        for line in self.0.split(|byte| matches!(byte, b'\n' | b'\r')) {
            around.push(Self::new(line));
            for part in line.split(|byte| *byte == b',') {
                let parts = [Self::new(part), Self::new(part.trim_ascii())];
                if parts.iter().all(Self::is_blank) {
                    continue;
                }
                let mut forms = Vec::new();
                for form in around.drain(..).chain(parts) {
                    if !form.is_blank() && !forms.contains(&form) {
                        forms.push(form);
                    }
                }
                listed.push(forms);
            }
        }
        listed
    }

    /// Describes characters that hardly belong to the secret: "begins with a quotation mark", for example.
    pub(crate) fn oddity(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.0);
        let mut first = named(text.chars());
        if matches!(self.0.as_slice(), [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) {
            first.push("a byte-order mark of UTF-16");
        }
        let last = named(text.chars().rev());
        let within =
            text.contains(['\n', '\r']) && !last.iter().any(|name| *name == LINE_FEED || *name == RETURN);
        let mut oddities = Vec::new();
        oddities.extend((!first.is_empty()).then(|| format!("begins with {}", first.join(" and "))));
        oddities.extend((!last.is_empty()).then(|| format!("ends with {}", last.join(" and "))));
        oddities.extend(within.then(|| "has a line end in it".to_owned()));
        (!oddities.is_empty()).then(|| oddities.join(", "))
    }

    /// Whether a header's value can hold the secret: it has no control character, and no white space at its end, which is
    /// not part of the value (RFC 9110, section 5.5).
    pub(super) fn fits_a_header(&self) -> bool {
        let printable = |byte: &u8| !byte.is_ascii_control() || *byte == b'\t';
        self.0.iter().all(printable) && !matches!(self.0.last(), Some(b' ' | b'\t'))
    }
}

const LINE_FEED: &str = "a line feed";
const RETURN: &str = "a carriage return";

/// The names of the first characters, up to one that may well belong to a secret.
fn named(characters: impl Iterator<Item = char>) -> Vec<&'static str> {
    let mut names = Vec::new();
    for name in characters.map_while(name) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The name of a character that hardly belongs at an end of a secret.
fn name(character: char) -> Option<&'static str> {
    Some(match character {
        '\n' => LINE_FEED,
        '\r' => RETURN,
        '\u{feff}' => "a byte-order mark",
        '"' | '\'' | '`' | '\u{2018}'..='\u{201f}' => "a quotation mark",
        other if other.is_whitespace() => "a blank",
        '\u{200b}'..='\u{200f}' | '\u{2060}' => "a character that cannot be seen",
        other if other.is_control() => "a control character",
        _ => return None,
    })
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn listed(given: &str) -> Vec<Vec<String>> {
        let text = |form: Secret| String::from_utf8(form.0).unwrap();
        let listed = Secret::new(given).listed();
        listed.into_iter().map(|forms| forms.into_iter().map(text).collect()).collect()
    }

    #[test]
    fn a_list_has_a_number_for_each_secret_whatever_forms_it_has() {
        assert_eq!(listed("one"), [["one"]]);
        assert_eq!(listed("one\n"), [["one\n", "one"]]);
        assert_eq!(listed(" one"), [[" one", "one"]]);
        assert_eq!(listed("one,two"), [vec!["one,two", "one"], vec!["two"]]);
        assert_eq!(
            listed("one,\r\n,\n  two, three"),
            [
                vec!["one,\r\n,\n  two, three", "one,", "one"],
                vec!["  two, three", "  two", "two"],
                vec![" three", "three"]
            ]
        );
        for nothing in ["", " ", ",", "\n,\r\n\t"] {
            assert!(listed(nothing).is_empty(), "{nothing:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_a_secret_alone_is_one_in_a_list_too(bytes in prop::collection::vec(
            prop_oneof![any::<u8>(), prop::sample::select(b",\n\r \t\"a".as_slice())], 1..12
        )) {
            let secret = Secret::new(bytes);
            prop_assume!(!secret.is_blank());
            let listed = secret.listed();
            prop_assert!(listed[0].contains(&secret));
            // As a line of several, unless it has lines itself.
            prop_assume!(!secret.0.contains(&b'\n') && !secret.0.contains(&b'\r'));
            let lines = Secret::new([b"first\n", secret.expose(), b"\nlast"].concat()).listed();
            prop_assert!(lines.concat().contains(&secret));
        }
    }

    #[test]
    fn what_hardly_belongs_to_a_secret_is_named() {
        for (given, oddity) in [
            ("plain, with a comma and \"quotes\" within", None),
            ("secret\n", Some("ends with a line feed")),
            ("secret\r\n", Some("ends with a line feed and a carriage return")),
            ("secret\r", Some("ends with a carriage return")),
            (" secret", Some("begins with a blank")),
            ("secret\t", Some("ends with a blank")),
            ("\u{a0}secret", Some("begins with a blank")),
            ("\u{feff}secret", Some("begins with a byte-order mark")),
            ("\"secret\"", Some("begins with a quotation mark, ends with a quotation mark")),
            ("'secret'\n", Some("begins with a quotation mark, ends with a line feed and a quotation mark")),
            ("secret\u{201d}", Some("ends with a quotation mark")),
            ("two\nlines", Some("has a line end in it")),
            ("secret\0", Some("ends with a control character")),
            ("secret\u{200b}", Some("ends with a character that cannot be seen")),
        ] {
            assert_eq!(Secret::new(given).oddity().as_deref(), oddity, "{given:?}");
        }
        // As PowerShell's `>` writes a file.
        let utf16 = Secret::new(b"\xff\xfes\0e\0c\0r\0e\0t\0\r\0\n\0");
        assert!(utf16.oddity().unwrap().starts_with("begins with a byte-order mark of UTF-16"));
    }

    #[test]
    fn what_no_header_can_carry_is_known() {
        for (given, fits) in [
            ("token", true),
            (" token", true),
            ("t\u{e9}", true),
            ("t\n", false),
            ("t\rt", false),
            ("t ", false),
            ("\0t", false),
        ] {
            assert_eq!(Secret::new(given).fits_a_header(), fits, "{given:?}");
        }
    }
}
