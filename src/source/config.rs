//! The sources as they are configured: from TOML to checked settings, or to every mistake with its line.
//!
//! No error repeats a value: somebody may have put a secret there.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Provider, Scheme, Settings};
use crate::config::{ConfigErrors, Secret};
use crate::event::Source;

mod fields;
mod hmac;
mod secrets;

use fields::Fields;

/// Bytes of a body by default.
const BODY_BYTES: u64 = 4 << 20;
/// Maximum that a source may allow.
const BODY_BYTES_MAX: u64 = 64 << 20;
/// Maximum tolerance: a day.
const TOLERANCE_SECS_MAX: u64 = 86_400;

/// All sources that are configured.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The sources, each with a name of its own, in the order of the text.
    pub sources: Vec<Settings>,
    /// What is allowed and hardly meant, each in words.
    pub warnings: Vec<String>,
}

/// The world outside the text: where its references lead.
#[derive(Clone, Copy)]
pub struct Outside<'a> {
    /// Gives the value of a variable of the environment.
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// Gives the content of a file.
    pub file: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>,
}

impl std::fmt::Debug for Outside<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outside")
    }
}

impl Config {
    /// Reads the file at the path that `SOURCES_FILE` holds, or the text of `SOURCES`; no sources if both are empty.
    ///
    /// # Errors
    /// Every mistake at once.
    pub fn read(path: &str, text: &str, outside: Outside<'_>) -> Result<Self, ConfigErrors> {
        let only = |why: String| ConfigErrors(vec![why]);
        let (name, text) = match (path, text) {
            ("", "") => return Ok(Self::default()),
            ("", text) => ("SOURCES", text.to_owned()),
            (path, "") => {
                let bytes = (outside.file)(Path::new(path)).map_err(|error| {
                    only(format!("SOURCES_FILE: cannot read the file that it names: {error}"))
                })?;
                let text = String::from_utf8(bytes);
                ("SOURCES_FILE", text.map_err(|_| only("SOURCES_FILE should hold TOML in UTF-8".to_owned()))?)
            }
            _ => return Err(only("SOURCES and SOURCES_FILE are both set; set one of them".to_owned())),
        };
        let of_name = |told: Vec<String>| told.into_iter().map(|told| format!("{name}, {told}")).collect();
        Self::parse(&text, outside)
            .map(|config| Self { warnings: of_name(config.warnings), ..config })
            .map_err(|ConfigErrors(errors)| ConfigErrors(of_name(errors)))
    }

    /// Reads the text.
    ///
    /// # Errors
    /// Every mistake at once, each beginning with `line N: `, in the order of the lines.
    pub fn parse(text: &str, outside: Outside<'_>) -> Result<Self, ConfigErrors> {
        let (table, syntax) = DeTable::parse_recoverable(text);
        let mut reader = Reader { text, outside, mistakes: Vec::new(), warnings: Vec::new() };
        let sources = reader.sources(&table);
        let mut mistakes = reader.mistakes;
        if !syntax.is_empty() {
            // What seems to be missing may stand on the line that could not be read.
            mistakes.retain(|mistake| !mistake.is_missing);
        }
        for error in &syntax {
            let line = line_of(text, error.span().map_or(0, |span| span.start));
            mistakes.retain(|mistake| mistake.line != line);
            mistakes.push(Mistake { line, what: error.message().to_owned(), is_missing: false });
        }
        if mistakes.is_empty() {
            return Ok(Self { sources, warnings: reader.warnings });
        }
        mistakes.sort_by_key(|mistake| mistake.line);
        Err(ConfigErrors(mistakes.iter().map(|at| format!("line {}: {}", at.line, at.what)).collect()))
    }
}

/// One thing that is wrong with the text.
struct Mistake {
    line: usize,
    what: String,
    /// A key is missing, rather than wrong.
    is_missing: bool,
}

/// Reads the text, and keeps what is wrong with it.
struct Reader<'a> {
    text: &'a str,
    outside: Outside<'a>,
    mistakes: Vec<Mistake>,
    warnings: Vec<String>,
}

/// The line, counted from 1, of a byte of the text.
fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

impl Reader<'_> {
    fn wrong(&mut self, at: &Range<usize>, what: impl Into<String>) {
        let line = line_of(self.text, at.start);
        self.mistakes.push(Mistake { line, what: what.into(), is_missing: false });
    }

    fn missing(&mut self, at: &Range<usize>, what: impl Into<String>) {
        let line = line_of(self.text, at.start);
        self.mistakes.push(Mistake { line, what: what.into(), is_missing: true });
    }

    /// The document: tables `[[source]]` and nothing else.
    fn sources(&mut self, document: &Spanned<DeTable<'_>>) -> Vec<Settings> {
        let mut sources = Vec::new();
        let mut names: HashMap<String, usize> = HashMap::new();
        for (key, value) in document.get_ref() {
            if key.get_ref() != "source" {
                self.wrong(
                    &key.span(),
                    format!("unknown key `{}`; there is only [[source]]", shown(key.get_ref())),
                );
                continue;
            }
            let DeValue::Array(items) = value.get_ref() else {
                self.wrong(&key.span(), "`source` should be a list of tables: write [[source]]");
                continue;
            };
            for item in items {
                let DeValue::Table(table) = item.get_ref() else {
                    self.wrong(&item.span(), "`source` should be a list of tables: write [[source]]");
                    continue;
                };
                let Some(settings) = self.source(table, &item.span(), &mut names) else { continue };
                sources.push((item.span().start, settings));
            }
        }
        sources.sort_by_key(|(at, _)| *at);
        sources.into_iter().map(|(_, settings)| settings).collect()
    }

    /// One source; `None` after noting what is wrong with it.
    fn source(
        &mut self,
        table: &DeTable<'_>,
        at: &Range<usize>,
        names: &mut HashMap<String, usize>,
    ) -> Option<Settings> {
        let before = self.mistakes.len();
        let mut fields = Fields::new(self, table, at.clone());
        let name = fields.name(names);
        let provider = fields.provider();
        let secrets = fields.secrets(provider);
        let max_body_bytes = fields.number("max_body_bytes", 1, BODY_BYTES_MAX).unwrap_or(BODY_BYTES);
        let kept_for = fields.kept_for();
        let mut scheme = provider.and_then(Scheme::of);
        let (mut verify_token, mut public_url, mut pointers) = (None, None, super::Pointers::default());
        match provider {
            Some(Provider::WhatsApp) => verify_token = fields.reference("verify_token"),
            Some(Provider::StandardWebhooks) => pointers.key = fields.parsed("key"),
            Some(Provider::Twilio) => public_url = fields.public_url(),
            Some(Provider::Hmac) => {
                scheme = fields.scheme();
                pointers = fields.pointers();
            }
            _ => {}
        }
        let has_time = match provider {
            Some(Provider::Hmac) => fields.has("timestamp_header"),
            Some(_) => scheme.as_ref().is_some_and(|scheme| scheme.signed.has(&super::Part::Timestamp)),
            None => true,
        };
        if has_time
            && let Some(secs) = fields.number("tolerance_secs", 1, TOLERANCE_SECS_MAX)
            && let Some(scheme) = &mut scheme
        {
            scheme.tolerance_secs = secs;
        }
        fields.end(provider);
        if self.mistakes.len() > before {
            return None;
        }
        Some(Settings {
            name: Source::new(&name?).ok()?,
            provider: provider?,
            secrets,
            scheme: scheme?,
            verify_token,
            max_body_bytes: usize::try_from(max_body_bytes).ok()?,
            public_url,
            pointers,
            kept_for,
        })
    }

    /// What a reference leads to.
    fn look_up(&self, is_file: bool, place: &str) -> Result<Secret, String> {
        let bytes = if is_file {
            let mut bytes = (self.outside.file)(Path::new(place))
                .map_err(|error| format!("cannot read the file that it names: {error}"))?;
            if bytes.pop_if(|last| *last == b'\n').is_some() {
                bytes.pop_if(|last| *last == b'\r');
            }
            bytes
        } else {
            let value = (self.outside.variable)(place);
            value.ok_or("the variable that it names is not set")?.into_encoded_bytes()
        };
        let what = if is_file { "file" } else { "variable" };
        if bytes.is_empty() {
            return Err(format!("the {what} that it names is empty"));
        }
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(format!("the {what} that it names holds nothing but blanks"));
        }
        Ok(Secret::new(bytes))
    }
}

/// A key of the text as it may stand in an error: short, and without what could break a line.
fn shown(key: &str) -> String {
    let plain = |character: &char| !character.is_control();
    let mut shown: String = key.chars().filter(plain).take(40).collect();
    if shown.len() < key.len() {
        shown.push('…');
    }
    shown
}
