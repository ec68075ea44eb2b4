//! From a query string to a read of the log.

use serde_json::Value;

use super::form::{Form, form};
use super::parameters::{Checker, Violation, integer, name, number, pairs, present};
use crate::event::{EVENTS_DEFAULT, EVENTS_MAX, Kind, LogFilter, Position, Start};
use crate::validation::ValidationError;

/// Maximum time that a read of the log waits for an event, in seconds.
pub const WAIT_SECONDS_MAX: u32 = 60;

/// The query of `GET /events`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogQuery {
    /// Where the read begins.
    pub origin: Origin,
    /// The events that it lets through.
    pub filter: LogFilter,
    /// The form of the answer.
    pub form: Form,
    /// Maximum number of events on a page.
    pub limit: u32,
    /// How long to wait for a page if there is nothing yet, in seconds.
    pub wait_seconds: u32,
}

/// Where a read of the log begins, as a client says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// There.
    At(Start),
    /// At the cursor of this name, which may be none.
    Cursor(String),
}

/// Reads the query string of `GET /events`; the rules for parameters are those of [`parse`](super::parse()). Of
/// `last_event_id`, `after` and `cursor` the first that is there counts; the others are not looked at. The answer has the
/// `accepted` form unless `format` names another one.
///
/// # Errors
/// Every validation error, at most one for each parameter.
pub fn parse(
    query: &str,
    last_event_id: Option<Position>,
    accepted: Form,
) -> Result<LogQuery, Vec<ValidationError>> {
    let mut parameters = Parameters::default();
    for (name, value) in pairs(query) {
        if let Some(slot) = parameters.slot(&name) {
            *slot = value;
        }
    }
    parameters.check(last_event_id, accepted)
}

/// The values of the known parameters, an empty string for an absent one.
#[derive(Default)]
struct Parameters {
    after: String,
    before: String,
    cursor: String,
    limit: String,
    wait: String,
    source: String,
    key: String,
    kind: String,
    from: String,
    to: String,
    thread: String,
    r#ref: String,
    format: String,
}

impl Parameters {
    fn slot(&mut self, name: &str) -> Option<&mut String> {
        match name {
            "after" => Some(&mut self.after),
            "before" => Some(&mut self.before),
            "cursor" => Some(&mut self.cursor),
            "limit" => Some(&mut self.limit),
            "wait" => Some(&mut self.wait),
            "source" => Some(&mut self.source),
            "key" => Some(&mut self.key),
            "kind" => Some(&mut self.kind),
            "from" => Some(&mut self.from),
            "to" => Some(&mut self.to),
            "thread" => Some(&mut self.thread),
            "ref" => Some(&mut self.r#ref),
            "format" => Some(&mut self.format),
            _ => None,
        }
    }

    fn check(
        self,
        last_event_id: Option<Position>,
        accepted: Form,
    ) -> Result<LogQuery, Vec<ValidationError>> {
        let mut checker = Checker::default();
        let mut form = checker.take("format", &self.format, form).unwrap_or(accepted);
        let limit = form.read_limit(&mut checker, &self.limit, EVENTS_MAX);
        let wait = checker.take("wait", &self.wait, |text| wait(text, form)).unwrap_or(0);
        let key = checker.take("key", &self.key, |text| key(text, &self.source));
        let kind = checker.take("kind", &self.kind, kind);
        let goes_on = last_event_id.is_some() || !self.after.is_empty() || !self.cursor.is_empty();
        let is_alone = !goes_on && integer(&self.wait).unwrap_or(0) == 0 && form != Form::Stream;
        let before = checker.take("before", &self.before, |text| before(text, is_alone));
        let after = match last_event_id {
            Some(position) => Some(Start::After(position)),
            None => checker.take("after", &self.after, |text| start(text, Start::Now, Start::After)),
        };
        if !checker.errors.is_empty() {
            return Err(checker.errors);
        }
        let origin = match before.or(after) {
            Some(start) => Origin::At(start),
            None if self.cursor.is_empty() => Origin::At(Start::Beginning),
            None => Origin::Cursor(self.cursor),
        };
        let filter = LogFilter {
            source: present(self.source),
            key,
            kind,
            from: name(self.from),
            to: name(self.to),
            thread: name(self.thread),
            r#ref: present(self.r#ref),
        };
        Ok(LogQuery { origin, filter, form, limit: limit.unwrap_or(EVENTS_DEFAULT), wait_seconds: wait })
    }
}

/// Reads the header `Last-Event-ID`, which a client of a stream sends when it connects again. `None` if it is empty.
///
/// # Errors
/// The one validation error.
pub fn last_event_id(header: &[u8]) -> Result<Option<Position>, Vec<ValidationError>> {
    if header.is_empty() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(header);
    text.parse().map(Some).map_err(|_| {
        let given = Value::from(text.into_owned());
        vec![ValidationError::field("value_error", "last-event-id", POSITION, given)]
    })
}

/// The rule for a position.
pub const POSITION: &str = "Input should be the position of an event, unchanged";

fn start(text: &str, now: Start, at: fn(Position) -> Start) -> Result<Start, Violation> {
    if text == "now" {
        return Ok(now);
    }
    text.parse().map(at).map_err(|_| ("value_error", format!("{POSITION}, or now")))
}

fn wait(text: &str, form: Form) -> Result<u32, Violation> {
    match number(text, 0, WAIT_SECONDS_MAX)? {
        seconds if seconds > 0 && matches!(form, Form::Export(_)) => {
            Err(("value_error", "An export ends at the end of the log, and waits for nothing".into()))
        }
        seconds => Ok(seconds),
    }
}

fn before(text: &str, is_alone: bool) -> Result<Start, Violation> {
    if !is_alone {
        let reason = "before goes with neither after, cursor, Last-Event-ID, wait nor a stream; leave it out";
        return Err(("value_error", reason.to_owned()));
    }
    start(text, Start::Latest, Start::Before)
}

/// A key, which says nothing without the source that gave it.
pub(super) fn key(text: &str, source: &str) -> Result<String, Violation> {
    if source.is_empty() {
        let reason = "key goes with source, within which it is unique; give both";
        return Err(("value_error", reason.to_owned()));
    }
    Ok(text.to_owned())
}

pub(super) fn kind(text: &str) -> Result<Kind, Violation> {
    text.parse().map_err(|_| {
        let words: Vec<_> = Kind::ALL.iter().map(|(_, word)| format!("'{word}'")).collect();
        let (last, others) =
            words.split_last().map_or(("", &[][..]), |(last, others)| (last.as_str(), others));
        ("literal_error", format!("Input should be {} or {last}", others.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Export, Lines};
    use super::*;

    const POSITION: Position = Position { seq: 5, tag: 7 };

    fn read(query: &str) -> LogQuery {
        parse(query, None, Form::Page).unwrap()
    }

    fn errors(query: &str, last_event_id: Option<Position>, accepted: Form) -> Vec<String> {
        let errors = parse(query, last_event_id, accepted).unwrap_err();
        errors.iter().map(|error| format!("{} {:?}", error.kind, error.location)).collect()
    }

    #[test]
    fn nothing_and_empty_parameters_mean_the_defaults() {
        let defaults = LogQuery {
            origin: Origin::At(Start::Beginning),
            filter: LogFilter::default(),
            form: Form::Page,
            limit: 100,
            wait_seconds: 0,
        };
        let empty = "after=&before=&cursor=&limit=&wait=&source=&key=&kind=&from=&to=&thread=&ref=";
        for query in ["", empty, "unknown=1&&="] {
            assert_eq!(read(query), defaults, "{query}");
        }
    }

    #[test]
    fn the_first_of_last_event_id_after_and_cursor_counts() {
        let query = format!("after={POSITION}&cursor=c");
        let other = Position { seq: 6, tag: 8 };
        let origin = |query: &str, id| parse(query, id, Form::Stream).unwrap().origin;
        assert_eq!(origin(&query, Some(other)), Origin::At(Start::After(other)));
        assert_eq!(origin(&query, None), Origin::At(Start::After(POSITION)));
        assert_eq!(origin("after=&cursor=a b", None), Origin::Cursor("a b".into()));
        assert_eq!(origin("after=now", None), Origin::At(Start::Now));
        assert_eq!(origin("after=wrong", Some(other)), Origin::At(Start::After(other)), "is not looked at");
    }

    #[test]
    fn before_goes_with_nothing_that_reads_on() {
        assert_eq!(read("before=now&wait=0").origin, Origin::At(Start::Latest));
        assert_eq!(read(&format!("before={POSITION}")).origin, Origin::At(Start::Before(POSITION)));
        let wrong = [r#"value_error Field("before")"#];
        for other in ["after=now", "cursor=c", "wait=1"] {
            assert_eq!(errors(&format!("before=now&{other}"), None, Form::Page), wrong, "{other}");
        }
        assert_eq!(errors("before=now", None, Form::Stream), wrong);
        assert_eq!(errors("before=now", Some(POSITION), Form::Page), wrong);
    }

    #[test]
    fn a_key_goes_with_its_source() {
        let filter = read("key=+m%201&source=shop").filter;
        assert_eq!(filter.source_and_key(), Some(("shop", " m 1")), "it is no name of a person");
        for query in ["key=m1", "key=m1&source="] {
            assert_eq!(errors(query, None, Form::Page), [r#"value_error Field("key")"#], "{query}");
        }
    }

    #[test]
    fn every_wrong_parameter_is_named_at_once() {
        assert_eq!(
            errors("limit=0&wait=61&kind=Message&before=x&after=y", None, Form::Page),
            [
                r#"greater_than_equal Field("limit")"#,
                r#"less_than_equal Field("wait")"#,
                r#"literal_error Field("kind")"#,
                r#"value_error Field("before")"#,
                r#"value_error Field("after")"#,
            ]
        );
        assert_eq!(errors("limit=1001", None, Form::Page), [r#"less_than_equal Field("limit")"#]);
        assert_eq!(errors("wait=-1", None, Form::Page), [r#"greater_than_equal Field("wait")"#]);
        assert_eq!(errors("wait=0.5", None, Form::Page), [r#"int_parsing Field("wait")"#]);
        assert_eq!((read("limit=1000").limit, read("wait=60").wait_seconds), (1000, 60));
    }

    #[test]
    fn an_export_may_go_backwards_has_any_bound_and_waits_for_nothing() {
        let ndjson = |limit| Form::Export(Export { lines: Lines::Ndjson, limit });
        let exported = |query: &str| parse(query, None, ndjson(None)).unwrap();
        assert_eq!(exported("before=now&wait=0&limit=1000001").form, ndjson(Some(1_000_001)));
        assert_eq!(exported("before=now").origin, Origin::At(Start::Latest));
        assert_eq!(
            errors("wait=1&limit=0", None, ndjson(None)),
            [r#"greater_than_equal Field("limit")"#, r#"value_error Field("wait")"#]
        );
        assert_eq!(read("format=ndjson").form, ndjson(None));
        assert_eq!(exported("format=json&wait=1").form, Form::Page);
        assert_eq!(errors("format=text", None, Form::Stream), [r#"literal_error Field("format")"#]);
    }

    #[test]
    fn filters_are_taken_as_they_are_but_for_a_leading_plus() {
        let filter = read("source=No+such&kind=status&from=+1&to=%202&thread=+3&ref=+4").filter;
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            filter,
            LogFilter {
                source: some("No such"),
                key: None,
                kind: Some(Kind::Status),
                from: some("+1"),
                to: some("+2"),
                thread: some("+3"),
                r#ref: some(" 4"),
            }
        );
    }

    #[test]
    fn a_header_with_an_id_holds_a_position_or_nothing() {
        assert_eq!(last_event_id(b""), Ok(None));
        assert_eq!(last_event_id(POSITION.to_string().as_bytes()), Ok(Some(POSITION)));
        for bad in
            [&b"x"[..], b"\xff", b" ", POSITION.to_string().to_uppercase().replace('0', "A").as_bytes()]
        {
            assert_eq!(last_event_id(bad).unwrap_err()[0].kind, "value_error", "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_query_is_answered(query in "\\PC{0,80}") {
            drop(parse(&query, None, Form::Page));
        }
    }
}
