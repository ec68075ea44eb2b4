//! Sources, held to `../shared/vectors/`: at the level of the library configuration, verification, handshakes and events; and
//! all of it through the front door.

mod configuration;
mod doctor;
mod door;
mod properties;
mod providers;
mod serving;
mod vectors;
mod whatsapp;

use std::ffi::OsString;
use std::io;
use std::path::Path;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use lyftr::config::ConfigErrors;
use lyftr::source::{Config, Outside, Request, Settings};

/// Reads a configuration whose variables and files have these values.
pub(crate) fn parse(
    text: &str,
    variables: &[(&str, &str)],
    files: &[(&str, &[u8])],
) -> Result<Config, ConfigErrors> {
    let variable = |name: &str| {
        let found = variables.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| OsString::from(value))
    };
    let file = |path: &Path| {
        let found = files.iter().find(|(file, _)| Path::new(file) == path);
        found.map(|(_, content)| content.to_vec()).ok_or(io::Error::from(io::ErrorKind::NotFound))
    };
    Config::parse(text, Outside { variable: &variable, file: &file })
}

/// A request that can be lent out.
#[derive(Debug, Clone)]
struct Captured {
    target: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Captured {
    fn new(target: &str, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let pair = |(name, value): &(&str, &str)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
        };
        let mut map = HeaderMap::new();
        headers.iter().map(pair).for_each(|(name, value)| {
            map.append(name, value);
        });
        Self { target: target.to_owned(), headers: map, body: body.to_vec() }
    }

    fn lent(&self) -> Request<'_> {
        Request { target: &self.target, headers: &self.headers, body: &self.body }
    }
}

/// The one source of a text, of which `SECRET` is a secret named `current`.
fn source(keys: &str, secret: &str) -> Settings {
    let text =
        format!("[[source]]\nname = \"a\"\nsecrets = [{{ name = \"current\", env = \"SECRET\" }}]\n{keys}");
    let mut config = parse(&text, &[("SECRET", secret)], &[]).unwrap_or_else(|errors| panic!("{errors}"));
    config.sources.pop().unwrap()
}
