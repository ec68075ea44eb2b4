//! The secrets of a source: named, and by reference only.

use std::ops::Range;

use ed25519_dalek::VerifyingKey;
use toml::de::{DeTable, DeValue};

use super::super::mac::{Key, base64};
use super::super::{NamedSecret, Provider};
use super::fields::Fields;
use super::{Reader, shown};
use crate::config::{Secret, short};

/// Maximum length of the name of a secret.
const NAME_MAX: usize = 64;
/// Maximum number of secrets of a source: each costs a signature with each request.
const SECRETS_MAX: usize = 16;

impl Fields<'_, '_, '_> {
    /// The secrets, at least one; empty after noting what is wrong with them.
    pub(super) fn secrets(&mut self, provider: Option<Provider>) -> Vec<NamedSecret> {
        const FORM: &str =
            "`secrets` should be a list of { name = \"…\", file = \"…\" } and { name = \"…\", env = \"…\" }";
        let Some(value) = self.get("secrets") else {
            self.reader.missing(&self.at.clone(), "`secrets` is missing; each source has at least one");
            return Vec::new();
        };
        let DeValue::Array(items) = value.get_ref() else {
            self.reader.wrong(&value.span(), FORM);
            return Vec::new();
        };
        if items.is_empty() || items.len() > SECRETS_MAX {
            self.reader.wrong(&value.span(), format!("`secrets` should hold 1 to {SECRETS_MAX} secrets"));
        }
        let mut secrets: Vec<NamedSecret> = Vec::new();
        for item in items {
            let at = item.span();
            let DeValue::Table(table) = item.get_ref() else {
                self.reader.wrong(&at, FORM);
                continue;
            };
            let name = self.reader.secret_name(table, &at);
            if let Some(name) = &name
                && secrets.iter().any(|other| other.name == *name)
            {
                self.reader.wrong(&at, format!("`secrets` has two of the name `{name}`"));
            }
            let what = name.as_ref().map_or("a secret".to_owned(), |name| format!("secret `{name}`"));
            let Some(given) = self.reader.secret(table, &at, &what, &["name"]) else { continue };
            let line = super::line_of(self.reader.text, at.start);
            let oddity = given.oddity().map(|oddity| format!("{what} {oddity}"));
            let warnings = oddity.into_iter().chain(short(&what, &given));
            self.reader.warnings.extend(warnings.map(|warning| format!("line {line}: {warning}")));
            match key(&given, provider) {
                Ok(key) => secrets.extend(name.map(|name| NamedSecret { name, key, given })),
                Err(why) => self.reader.wrong(&at, format!("{what} {why}")),
            }
        }
        secrets
    }
}

impl Reader<'_> {
    fn secret_name(&mut self, table: &DeTable<'_>, at: &Range<usize>) -> Option<String> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let name = match table.get("name").map(|value| (value.get_ref(), value.span())) {
            None => {
                self.missing(at, "a secret has no `name`; metrics and log lines know it by that");
                return None;
            }
            Some((DeValue::String(name), at)) => (name, at),
            Some((_, at)) => {
                self.wrong(&at, "the `name` of a secret should be a text in quotation marks");
                return None;
            }
        };
        let (name, at) = name;
        if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(is_plain) {
            let what =
                "the `name` of a secret should be 1 to 64 letters, digits, dots, hyphens and underscores";
            self.wrong(&at, what);
            return None;
        }
        Some(name.to_string())
    }

    /// What `env` or `file` of a table leads to. `others` are further keys that the table may have.
    pub(super) fn secret(
        &mut self,
        table: &DeTable<'_>,
        at: &Range<usize>,
        what: &str,
        others: &[&str],
    ) -> Option<Secret> {
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if name != "env" && name != "file" && !others.contains(&name) {
                let line = "there are only `env` and `file`, since a secret stands elsewhere";
                self.wrong(&key.span(), format!("{what} has the unknown key `{}`; {line}", shown(name)));
            }
        }
        let place = |key: &str| table.get(key).map(|value| (value.get_ref(), value.span()));
        let (is_file, (value, at)) = match (place("env"), place("file")) {
            (Some(variable), None) => (false, variable),
            (None, Some(file)) => (true, file),
            (Some(_), Some(_)) => {
                self.wrong(at, format!("{what} has both `env` and `file`; one of them is enough"));
                return None;
            }
            (None, None) => {
                self.missing(at, format!("{what} has neither `env` nor `file`"));
                return None;
            }
        };
        let key = if is_file { "file" } else { "env" };
        let found = match value {
            DeValue::String(place) if !place.is_empty() => self.look_up(is_file, place),
            _ => Err("should be a text in quotation marks".to_owned()),
        };
        found.map_err(|why| self.wrong(&at, format!("{what}: `{key}`: {why}"))).ok()
    }
}

/// The key that a secret is for a provider.
fn key(given: &Secret, provider: Option<Provider>) -> Result<Key, &'static str> {
    if provider != Some(Provider::StandardWebhooks) {
        return Ok(Key::Shared(given.clone()));
    }
    let text = given.expose();
    if let Some(text) = text.strip_prefix(b"whpk_") {
        const BAD: &str = "should be whpk_ and the Base64 of an Ed25519 public key";
        let bytes: [u8; 32] = base64(text).and_then(|bytes| bytes.try_into().ok()).ok_or(BAD)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| BAD)?;
        return if key.is_weak() { Err(BAD) } else { Ok(Key::Public(Box::new(key))) };
    }
    if text.starts_with(b"whsk_") {
        return Err(
            "is a private key, which only the sender should have; Lyftr needs the public one, whpk_…",
        );
    }
    let text = text.strip_prefix(b"whsec_").unwrap_or(text);
    // Some senders leave the padding out.
    let padding = "=".repeat(text.len().wrapping_neg() % 4);
    let bytes = base64(&[text, padding.as_bytes()].concat()).filter(|bytes| !bytes.is_empty());
    bytes.map(|bytes| Key::Shared(Secret::new(bytes))).ok_or("should be whsec_ and Base64")
}
