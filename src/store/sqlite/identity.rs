//! The identity of an event: source and key as one string, which a unique index keeps.
//!
//! For the built-in source it is the key itself, so that the index costs what it did when there was no other. For another
//! source it is U+001F, the name of the source, U+001F, and the key. Neither names nor keys hold control characters, so no
//! two events share an identity, and all other sources lie together before every key of the built-in one.

use std::borrow::Cow;
use std::sync::Arc;

use rusqlite::Row;

use super::rows::checked;
use crate::event::Source;
use crate::message::{Name, RuleViolation};

/// Stands before and after the name of a source. Less than every character of a key.
pub(super) const SEPARATOR: char = '\u{1f}';
/// Greater than [`SEPARATOR`], and not greater than any character of a name or a key.
const AFTER_SEPARATOR: char = ' ';

/// The identity of the event of this source and key.
pub(super) fn identity<'a>(source: &Source, key: &'a Name) -> Cow<'a, str> {
    if source.is_built_in() {
        Cow::Borrowed(key.as_str())
    } else {
        Cow::Owned(format!("{SEPARATOR}{}{SEPARATOR}{}", source.as_str(), key.as_str()))
    }
}

/// What the identities of a source other than the built-in one begin with, and no others.
pub(super) fn prefix(source: &str) -> String {
    format!("{SEPARATOR}{source}{SEPARATOR}")
}

/// The first text after all identities of a source other than the built-in one, and before those of the next one.
pub(super) fn after(source: &str) -> String {
    format!("{SEPARATOR}{source}{AFTER_SEPARATOR}")
}

/// The identities of all events of a source: from the first text on, and below the second one if there is one.
pub(super) fn identities_of(source: &str) -> (String, Option<String>) {
    if source == Source::WEBHOOK.as_str() {
        (AFTER_SEPARATOR.to_string(), None)
    } else {
        (prefix(source), Some(after(source)))
    }
}

/// The name of a source other than the built-in one, and the key, of an identity that has them.
pub(super) fn parts(identity: &str) -> Option<(&str, &str)> {
    identity.strip_prefix(SEPARATOR)?.split_once(SEPARATOR)
}

/// The source and the key in a column that holds an identity.
pub(super) fn source_and_key(row: &Row<'_>, column: usize) -> rusqlite::Result<(Source, Name)> {
    checked(row, column, split)
}

/// The order key of the message whose identity is in a column: by it messages of one moment are listed. It is the `message_id`,
/// [`SEPARATOR`], which is less than every character of an id, and the name of the source.
pub(super) fn order_key(row: &Row<'_>, column: usize) -> rusqlite::Result<Arc<str>> {
    let identity = row.get_ref(column)?.as_str()?;
    let (source, id) = parts(identity).unwrap_or((Source::WEBHOOK.as_str(), identity));
    Ok(format!("{id}{SEPARATOR}{source}").into())
}

/// The name that stands for the source of the message whose identity this is, among those of senders and recipients, none of
/// which begins so; `None` for the built-in source.
pub(super) fn source_name(identity: &str) -> Option<&str> {
    let end = identity.strip_prefix(SEPARATOR)?.find(SEPARATOR)?;
    identity.get(..SEPARATOR.len_utf8() + end)
}

/// The same for a source other than the built-in one.
pub(super) fn name_of_source(source: &str) -> String {
    format!("{SEPARATOR}{source}")
}

fn split(identity: &str) -> Result<(Source, Name), RuleViolation> {
    match parts(identity) {
        Some((source, key)) => Ok((Source::new(source)?, Name::new(key)?)),
        None => Ok((Source::WEBHOOK, Name::new(identity)?)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_identity_comes_apart_again_and_those_of_other_sources_come_first(
            source in "webhook|[a-z0-9-]{1,40}", key in "\\PC{1,40}", other in "\\PC{1,40}"
        ) {
            let (source, key) = (Source::new(&source).unwrap(), Name::new(&key).unwrap());
            let stored = identity(&source, &key);
            prop_assert_eq!(split(&stored), Ok((source.clone(), key.clone())));
            let is_built_in = *stored >= *AFTER_SEPARATOR.to_string();
            prop_assert_eq!(is_built_in, source.is_built_in());
            prop_assert!(source.is_built_in() || *stored < *other);
        }
    }

    #[test]
    fn what_no_event_can_have_is_no_identity() {
        for bad in
            ["", "\u{1f}", "\u{1f}shop", "\u{1f}shop\u{1f}", "\u{1f}Shop\u{1f}k", "a\u{1f}b", "\u{1f}\u{1f}k"]
        {
            assert!(split(bad).is_err(), "{bad:?}");
        }
    }
}
