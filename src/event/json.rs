//! The JSON of an event, with `data` byte for byte as it was sent.

use serde::Serialize;

use super::{Event, Kind, Position, Recorded, Source};
use crate::message::{Name, Timestamp};

/// Every member but `data`, in the order of the contract.
#[derive(Serialize)]
struct Head<'a> {
    position: Position,
    source: &'a Source,
    kind: Kind,
    r#type: &'a Option<Name>,
    key: &'a Name,
    from: &'a Option<Name>,
    to: &'a Option<Name>,
    user_id: &'a Option<Name>,
    thread: &'a Option<Name>,
    r#ref: &'a Option<Name>,
    account: &'a Option<Name>,
    ts: Option<Timestamp>,
    received_at: Option<Timestamp>,
    text: Option<&'a str>,
}

impl Recorded {
    /// Its JSON, with `data` byte for byte as it was sent.
    pub fn json(&self) -> String {
        let position = self.position;
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
        } = &self.arrived.event;
        let (kind, ts, received_at, text) = (*kind, *ts, *received_at, text.as_deref());
        let head = Head {
            position,
            source,
            kind,
            r#type,
            key,
            from,
            to,
            user_id,
            thread,
            r#ref,
            account,
            ts,
            received_at,
            text,
        };
        // A struct of strings always serializes.
        let mut json = serde_json::to_string(&head).unwrap_or_default();
        json.pop();
        json.push_str(",\"data\":");
        json.push_str(data.as_ref().map_or("null", |data| data.as_str()));
        json.push('}');
        json
    }

    /// Its JSON on one line: a line end in `data` stands between values, where a space says as much.
    pub fn json_line(&self) -> String {
        let json = self.json();
        let has_line_end =
            self.arrived.event.data.as_ref().is_some_and(|data| data.as_str().contains(['\n', '\r']));
        if has_line_end { json.replace(['\n', '\r'], " ") } else { json }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Arrived, Data};
    use super::*;
    use crate::message;

    const BODY: &str =
        r#"{"message_id":"m\"1","from":"+1","to":"+2","ts":"2025-01-15T10:00:00.50Z","text":"a\nb"}"#;

    #[test]
    fn every_member_stands_in_the_order_of_the_contract_and_data_as_it_was_sent() {
        let message = message::parse(BODY.as_bytes()).unwrap();
        let received_at = Timestamp::from_parts(1_736_935_201, 234_000_000, 3).ok();
        let data = Data::from_json("{\"n\":1e400,\r\n \"x\":\"\\u00e9\"}");
        let arrived = Arrived { seq: 9, event: Event::of_message(message, received_at, Some(data)) };
        let recorded = Recorded::new(&[1; 16], arrived);
        let position = recorded.position;
        let expected = format!(
            "{{\"position\":\"{position}\",\"source\":\"webhook\",\"kind\":\"message\",\"type\":\"text\",\"key\":\"m\\\"1\",\
             \"from\":\"+1\",\"to\":\"+2\",\"user_id\":null,\"thread\":\"+1\",\"ref\":null,\"account\":null,\
             \"ts\":\"2025-01-15T10:00:00.50Z\",\"received_at\":\"2025-01-15T10:00:01.234Z\",\"text\":\"a\\nb\",\
             \"data\":{{\"n\":1e400,\r\n \"x\":\"\\u00e9\"}}}}"
        );
        assert_eq!(recorded.json(), expected);
        assert_eq!(recorded.json_line(), expected.replace("\r\n", "  "));
    }
}
