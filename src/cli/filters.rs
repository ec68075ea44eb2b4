//! The options by which commands select events, and their form in the query of a request.

use clap::builder::PossibleValuesParser;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::event::Kind;

/// Command-line options that select events.
#[derive(Debug, clap::Args)]
pub(super) struct Filters {
    /// Only events of the source with this name
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only the event that this source gave this key
    #[arg(long, value_name = "KEY", requires = "source")]
    key: Option<String>,
    /// Only events of this kind
    #[arg(long, value_name = "KIND", value_parser = PossibleValuesParser::new(Kind::ALL.map(|(_, word)| word)))]
    kind: Option<String>,
    /// Only events from exactly this person or number
    #[arg(long, value_name = "NAME")]
    sender: Option<String>,
    /// Only events to exactly this person or number
    #[arg(long, value_name = "NAME")]
    recipient: Option<String>,
    /// Only events of this conversation
    #[arg(long, value_name = "NAME")]
    thread: Option<String>,
    /// Only events about this object
    #[arg(long, value_name = "NAME")]
    r#ref: Option<String>,
}

impl Filters {
    /// The parameters of a query that say the same, such as `from=%2B1`: those of these options, and `more` by name and value.
    pub(super) fn parameters(&self, more: &[(&str, &Option<String>)]) -> Vec<String> {
        let own = [
            ("source", &self.source),
            ("key", &self.key),
            ("kind", &self.kind),
            ("from", &self.sender),
            ("to", &self.recipient),
            ("thread", &self.thread),
            ("ref", &self.r#ref),
        ];
        let given = own.iter().chain(more).filter_map(|(name, value)| Some((name, value.as_deref()?)));
        given.map(|(name, value)| format!("{name}={}", encoded(value))).collect()
    }

    /// Those of the options that messages are not selected by.
    pub(super) fn of_events_only(&self) -> impl Iterator<Item = &'static str> {
        let options = [
            ("--key", &self.key),
            ("--kind", &self.kind),
            ("--thread", &self.thread),
            ("--ref", &self.r#ref),
        ];
        options.into_iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name)
    }
}

/// A value as a part of a query.
pub(super) fn encoded(value: &str) -> String {
    utf8_percent_encode(value, NON_ALPHANUMERIC).to_string()
}
