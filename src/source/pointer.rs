//! JSON pointers (RFC 6901).

use std::str::FromStr;

use super::json::{Json, Unreadable};

/// The way to a value within a JSON document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer(Vec<String>);

/// The text is no JSON pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("should be a JSON pointer such as /order/id, in which ~1 stands for a slash and ~0 for a tilde")]
pub struct BadPointer;

impl FromStr for Pointer {
    type Err = BadPointer;

    fn from_str(text: &str) -> Result<Self, BadPointer> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let rest = text.strip_prefix('/').ok_or(BadPointer)?;
        rest.split('/').map(unescaped).collect::<Option<_>>().map(Self).ok_or(BadPointer)
    }
}

/// The name that a part of a pointer stands for; `None` if a tilde is followed by neither 0 nor 1.
fn unescaped(part: &str) -> Option<String> {
    let mut name = String::new();
    let mut characters = part.chars();
    while let Some(character) = characters.next() {
        name.push(match character {
            '~' => match characters.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            other => other,
        });
    }
    Some(name)
}

impl Pointer {
    /// The names on the way.
    pub(super) fn names(&self) -> &[String] {
        &self.0
    }

    /// The value that it leads to; `None` if there is none, or a null.
    pub(crate) fn find<'a>(&self, json: Json<'a>) -> Result<Option<Json<'a>>, Unreadable> {
        let mut at = Some(json);
        for name in &self.0 {
            at = match at {
                Some(json) if json.is_object() => json.member(name)?,
                Some(json) => index(name).and_then(|nth| json.item(nth)),
                None => None,
            };
        }
        Ok(at.filter(|json| json.as_str() != "null"))
    }
}

/// The place in an array that a part of a pointer names: digits without a leading zero.
fn index(name: &str) -> Option<usize> {
    let is_plain = name == "0" || !name.starts_with('0');
    (is_plain && name.bytes().all(|byte| byte.is_ascii_digit())).then(|| name.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The document of RFC 6901, section 5, and a list of lists.
    const DOCUMENT: &str = r#"{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8,
        "deep":[[{"x":null,"y":"z"}]]}"#;

    #[test]
    fn pointers_lead_where_the_rfc_says() {
        let json = Json::of(DOCUMENT).unwrap();
        for (pointer, expected) in [
            ("", Some(DOCUMENT)),
            ("/foo", Some(r#"["bar","baz"]"#)),
            ("/foo/0", Some("\"bar\"")),
            ("/", Some("0")),
            ("/a~1b", Some("1")),
            ("/c%d", Some("2")),
            ("/e^f", Some("3")),
            ("/g|h", Some("4")),
            ("/i\\j", Some("5")),
            ("/k\"l", Some("6")),
            ("/ ", Some("7")),
            ("/m~0n", Some("8")),
            ("/deep/0/0/y", Some("\"z\"")),
            ("/deep/0/0/x", None),
            ("/foo/2", None),
            ("/foo/-", None),
            ("/foo/00", None),
            ("/foo/+1", None),
            ("/foo/", None),
            ("/foo/99999999999999999999", None),
            ("/a/b", None),
            ("/foo/0/x", None),
        ] {
            let found = pointer.parse::<Pointer>().unwrap().find(json).unwrap();
            assert_eq!(found.map(Json::as_str), expected, "{pointer}");
        }
    }

    #[test]
    fn other_texts_are_no_pointers() {
        for bad in ["a", "a/b", "#/a", "/~", "/~2", "/a~", " /a"] {
            assert_eq!(bad.parse::<Pointer>(), Err(BadPointer), "{bad:?}");
        }
    }
}
