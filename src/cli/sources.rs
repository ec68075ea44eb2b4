//! The configured sources, as commands look them up.

use super::Failure;
use crate::config::{ConfigErrors, Environment};
use crate::source::{Config, Outside, Settings};

/// The source of this name.
///
/// # Errors
/// In words, with the names that there are.
pub(super) fn find<'a>(config: &'a Config, name: &str) -> Result<&'a Settings, Failure> {
    let found = config.sources.iter().find(|source| source.name.as_str() == name);
    found.ok_or_else(|| {
        let names: Vec<_> = config.sources.iter().map(|source| source.name.as_str()).collect();
        let there_are = if names.is_empty() { "there are none".to_owned() } else { names.join(", ") };
        format!("no source of this name is configured in SOURCES_FILE or SOURCES: {there_are}").into()
    })
}

/// A source that is configured elsewhere, known by its kind and by the secret in `WEBHOOK_SECRET` or `WEBHOOK_SECRET_FILE`.
///
/// # Errors
/// Every mistake at once.
pub(super) fn elsewhere(name: &str, kind: &str, environment: Environment) -> Result<Settings, ConfigErrors> {
    let secret = crate::config::webhook_secret(environment).map_err(|why| ConfigErrors(vec![why]))?;
    // A string of JSON is one of TOML too.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let text = format!(
        "[[source]]\nname = {}\nkind = {}\nsecrets = [{{ name = \"current\", env = \"WEBHOOK_SECRET\" }}]\n",
        quoted(name),
        quoted(kind)
    );
    let variable = |_: &str| Some(std::os::unix::ffi::OsStringExt::from_vec(secret.expose().to_vec()));
    let file = |_: &std::path::Path| Err(std::io::Error::from(std::io::ErrorKind::NotFound));
    let outside = Outside { variable: &variable, file: &file };
    let wrong = || ConfigErrors(vec!["no source".to_owned()]);
    Config::parse(&text, outside)?.sources.pop().ok_or_else(wrong)
}
