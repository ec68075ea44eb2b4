//! Messages and events as the lines of an export.

use std::borrow::Cow;

use axum::body::Bytes;

use super::csv;
use crate::event::{Event, Recorded};
use crate::message::{Message, Name};
use crate::query::Lines;

/// Lines of an export that are to be sent.
#[derive(Debug)]
pub(in crate::http) struct Rows {
    lines: Lines,
    bytes: Vec<u8>,
}

impl Rows {
    /// The columns of a message.
    pub(super) const OF_MESSAGES: &[&str] = &["message_id", "source", "from", "to", "ts", "text"];
    /// The columns of an event.
    pub(super) const OF_EVENTS: &[&str] = &[
        "position",
        "source",
        "kind",
        "type",
        "key",
        "from",
        "to",
        "user_id",
        "thread",
        "ref",
        "account",
        "ts",
        "received_at",
        "text",
        "data",
    ];

    /// The beginning of an export with these columns.
    pub(super) fn new(lines: Lines, columns: &[&'static str]) -> Self {
        let mut bytes = Vec::new();
        if lines == Lines::Csv {
            bytes.extend_from_slice(csv::BYTE_ORDER_MARK.as_bytes());
            csv::record(&mut bytes, columns.iter().map(|name| Some(Cow::Borrowed(*name))));
        }
        Self { lines, bytes }
    }

    /// Adds a message.
    pub(super) fn message(&mut self, message: &Message) {
        match self.lines {
            Lines::Ndjson => {
                // A struct of strings always serializes.
                self.bytes.extend(serde_json::to_vec(message).unwrap_or_default());
                self.bytes.push(b'\n');
            }
            Lines::Csv => {
                let Message { message_id, from, to, ts, text, source } = message;
                let fields = [
                    Some(message_id.as_str().into()),
                    Some(source.as_str().into()),
                    name(from.as_ref()),
                    name(to.as_ref()),
                    Some(ts.to_string().into()),
                    text.as_deref().map(Cow::Borrowed),
                ];
                csv::record(&mut self.bytes, fields);
            }
        }
    }

    /// Adds an event.
    pub(super) fn event(&mut self, recorded: &Recorded) {
        match self.lines {
            Lines::Ndjson => {
                self.bytes.extend_from_slice(recorded.json_line().as_bytes());
                self.bytes.push(b'\n');
            }
            Lines::Csv => {
                let Event {
                    source,
                    key,
                    kind,
                    r#type,
                    from,
                    to,
                    user_id,
                    thread,
                    r#ref,
                    account,
                    ts,
                    received_at,
                    text,
                    data,
                } = &recorded.arrived.event;
                let fields = [
                    Some(recorded.position.to_string().into()),
                    Some(source.as_str().into()),
                    Some(kind.as_str().into()),
                    name(r#type.as_ref()),
                    Some(key.as_str().into()),
                    name(from.as_ref()),
                    name(to.as_ref()),
                    name(user_id.as_ref()),
                    name(thread.as_ref()),
                    name(r#ref.as_ref()),
                    name(account.as_ref()),
                    ts.map(|ts| ts.to_string().into()),
                    received_at.map(|received_at| received_at.to_string().into()),
                    text.as_deref().map(Cow::Borrowed),
                    data.as_ref().map(|data| data.one_line()),
                ];
                csv::record(&mut self.bytes, fields);
            }
        }
    }

    /// The number of bytes that are to be sent.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes them out.
    pub(super) fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.bytes).into()
    }
}

fn name(name: Option<&Name>) -> Option<Cow<'_, str>> {
    name.map(|name| Cow::Borrowed(name.as_str()))
}
