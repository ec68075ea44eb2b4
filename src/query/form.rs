//! The form of an answer that has messages or events.

use super::parameters::{Checker, Violation, bound, number};

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A page, in JSON.
    Page,
    /// Events as they arrive, as Server-Sent Events.
    Stream,
    /// All that the filters select, line by line.
    Export(Export),
}

/// An export: all that the filters select, of any size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Export {
    /// What the lines are.
    pub lines: Lines,
    /// Maximum number of messages or events in it, if it has a bound.
    pub limit: Option<u64>,
}

/// The form of the lines of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// A JSON object on each line.
    Ndjson,
    /// Comma-separated values (RFC 4180), for spreadsheets.
    Csv,
}

impl Form {
    /// An export of these lines without a bound.
    pub const fn export(lines: Lines) -> Self {
        Self::Export(Export { lines, limit: None })
    }

    /// Reads `limit`: the bound of an export, or the limit of a page, which is `page_max` at most and is returned.
    pub(super) fn read_limit(&mut self, checker: &mut Checker, given: &str, page_max: u32) -> Option<u32> {
        if let Self::Export(export) = self {
            export.limit = checker.take("limit", given, bound);
            return None;
        }
        checker.take("limit", given, |text| number(text, 1, page_max))
    }
}

/// The form that `format` names.
pub(super) fn form(text: &str) -> Result<Form, Violation> {
    match text {
        "json" => Ok(Form::Page),
        "ndjson" => Ok(Form::export(Lines::Ndjson)),
        "csv" => Ok(Form::export(Lines::Csv)),
        _ => Err(("literal_error", "Input should be 'json', 'ndjson' or 'csv'".into())),
    }
}
