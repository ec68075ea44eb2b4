//! The keys of one `[[source]]`.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::ops::Range;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::Provider;
use super::{Reader, shown};
use crate::config::{KEEP_DAYS_MAX, Secret};
use crate::erasure::KeptFor;
use crate::event::Source;

/// The keys of one table. A key that nobody has asked for is unknown.
pub(super) struct Fields<'r, 'a, 't> {
    pub(super) reader: &'r mut Reader<'a>,
    table: &'t DeTable<'t>,
    /// The place of the table.
    pub(super) at: Range<usize>,
    asked: HashSet<&'static str>,
}

impl<'r, 'a, 't> Fields<'r, 'a, 't> {
    pub(super) fn new(reader: &'r mut Reader<'a>, table: &'t DeTable<'t>, at: Range<usize>) -> Self {
        Self { reader, table, at, asked: HashSet::new() }
    }

    /// The value of a key.
    pub(super) fn get(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.asked.insert(key);
        self.table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    /// Whether there is a key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.iter().any(|(name, _)| name.get_ref() == key)
    }

    /// The text of a key; `None` if it is absent, or, once that is noted, no text.
    pub(super) fn text(&mut self, key: &'static str) -> Option<(&'t str, Range<usize>)> {
        let value = self.get(key)?;
        if let DeValue::String(text) = value.get_ref() {
            return Some((text, value.span()));
        }
        self.reader.wrong(&value.span(), format!("`{key}` should be a text in quotation marks"));
        None
    }

    /// As [`Self::text`], noting that a key is absent.
    pub(super) fn needed(&mut self, key: &'static str, whose: &str) -> Option<(&'t str, Range<usize>)> {
        if !self.has(key) {
            self.reader.missing(&self.at.clone(), format!("`{key}` is missing; {whose}"));
        }
        self.text(key)
    }

    /// The value of a key, read from its text.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&mut self, key: &'static str) -> Option<T> {
        let (text, at) = self.text(key)?;
        text.parse().map_err(|why| self.reader.wrong(&at, format!("`{key}` {why}"))).ok()
    }

    /// The value of a key that has a word of these.
    pub(super) fn word<T: Copy>(&mut self, key: &'static str, words: &[(T, &str)]) -> Option<T> {
        let (text, at) = self.text(key)?;
        let found = words.iter().find(|(_, word)| *word == text).map(|(value, _)| *value);
        if found.is_none() {
            let all: Vec<_> = words.iter().map(|(_, word)| *word).collect();
            self.reader.wrong(&at, format!("`{key}` should be one of {}", all.join(", ")));
        }
        found
    }

    /// The whole number of a key.
    pub(super) fn number(&mut self, key: &'static str, min: u64, max: u64) -> Option<u64> {
        let value = self.get(key)?;
        let number = match value.get_ref() {
            DeValue::Integer(integer) => u64::from_str_radix(integer.as_str(), integer.radix()).ok(),
            _ => None,
        };
        let number = number.filter(|number| (min..=max).contains(number));
        if number.is_none() {
            self.reader.wrong(&value.span(), format!("`{key}` should be a whole number from {min} to {max}"));
        }
        number
    }

    /// How long events are kept: a number of days, or `"forever"`.
    pub(super) fn kept_for(&mut self) -> Option<KeptFor> {
        let value = self.get("keep_days")?;
        let days = match value.get_ref() {
            DeValue::String(word) if word == "forever" => return Some(KeptFor::Ever),
            DeValue::Integer(integer) => u32::from_str_radix(integer.as_str(), integer.radix()).ok(),
            _ => None,
        };
        let days = days.filter(|days| (1..=KEEP_DAYS_MAX).contains(days));
        if days.is_none() {
            let what =
                format!("`keep_days` should be a whole number from 1 to {KEEP_DAYS_MAX}, or \"forever\"");
            self.reader.wrong(&value.span(), what);
        }
        days.map(KeptFor::Days)
    }

    /// The name of the source. One that stands twice is noted with the line of the other.
    pub(super) fn name(&mut self, names: &mut HashMap<String, usize>) -> Option<String> {
        let (name, at) = self.needed("name", "each source has one")?;
        match Source::new(name) {
            Err(_) => {
                self.reader.wrong(&at, "`name` should be 1 to 40 lower-case letters, digits and hyphens");
                return None;
            }
            Ok(source) if source.is_built_in() => {
                self.reader.wrong(&at, "`name` is that of the built-in source `webhook`; choose another");
                return None;
            }
            Ok(_) => {}
        }
        let line = super::line_of(self.reader.text, at.start);
        if let Some(other) = names.get(name) {
            self.reader.wrong(&at, format!("`{name}` is the name of the source of line {other} too"));
            return None;
        }
        names.insert(name.to_owned(), line);
        Some(name.to_owned())
    }

    /// The provider.
    pub(super) fn provider(&mut self) -> Option<Provider> {
        self.needed("kind", "each source has one")?;
        self.word("kind", &Provider::ALL)
    }

    /// A secret by reference: `{ env = "…" }` or `{ file = "…" }`.
    pub(super) fn reference(&mut self, key: &'static str) -> Option<Secret> {
        let value = self.get(key)?;
        let DeValue::Table(table) = value.get_ref() else {
            self.reader.wrong(
                &value.span(),
                format!("`{key}` should be a reference, {{ env = \"…\" }} or {{ file = \"…\" }}"),
            );
            return None;
        };
        self.reader.secret(table, &value.span(), &format!("`{key}`"), &[])
    }

    /// The address that Twilio sends to.
    pub(super) fn public_url(&mut self) -> Option<String> {
        let (text, at) = self.needed("public_url", "twilio signs the address that it sends to")?;
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let is_plain = |rest: &str| {
            let has_host = rest.starts_with(|first: char| first != '/');
            has_host && rest.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'))
        };
        if rest.is_some_and(is_plain) {
            return Some(text.to_owned());
        }
        self.reader.wrong(
            &at,
            "`public_url` should be an address such as https://hooks.example.com, without the path of the source",
        );
        None
    }

    /// Notes the keys that nobody has asked for.
    pub(super) fn end(self, provider: Option<Provider>) {
        const OTHERS: [&str; 16] = [
            "verify_token",
            "public_url",
            "tolerance_secs",
            "key",
            "header",
            "prefix",
            "encoding",
            "hash",
            "signed",
            "timestamp_header",
            "type",
            "from",
            "to",
            "ts",
            "text",
            "thread",
        ];
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if self.asked.contains(name) {
                continue;
            }
            let what = match provider {
                // Its keys cannot be told from others.
                None if OTHERS.contains(&name) => continue,
                Some(Provider::Hmac) if name == "tolerance_secs" => {
                    "`tolerance_secs` needs a `timestamp_header`".to_owned()
                }
                Some(provider) if OTHERS.contains(&name) => {
                    format!("`{name}` is no key of a source of kind {}", provider.as_str())
                }
                _ => format!("unknown key `{}`", shown(name)),
            };
            self.reader.wrong(&key.span(), what);
        }
    }
}
