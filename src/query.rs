//! Questions to the inbox and their answers. Pure: no I/O, no clock, no SQL.

use percent_encoding::percent_decode;
use serde::Serialize;
use serde_json::Value;

use crate::complaint::Complaint;
use crate::message::{Message, Phone, Timestamp, longer_than};

/// Most messages on a page.
pub const LIMIT_MAX: u32 = 100;
/// Messages on a page when nothing is said.
pub const LIMIT_DEFAULT: u32 = 50;
/// Longest search text, in Unicode scalar values: as long as the longest text that can be found.
pub const SEARCH_CHARS_MAX: usize = crate::message::TEXT_CHARS_MAX;

/// Which messages are asked for; all filters must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only messages from exactly this number.
    pub from: Option<String>,
    /// Only messages of this instant and later ones.
    pub since: Option<Timestamp>,
    /// Only messages whose text contains this.
    pub search: Option<Search>,
}

/// A text to look for, case-insensitively, every character standing for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search(String);

/// Which part of the matching messages is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// At most so many messages, 1 to [`LIMIT_MAX`].
    pub limit: u32,
    /// Passing over so many.
    pub offset: u64,
}

/// A page of messages, ordered by instant, then by `message_id` bytewise. Serializes to the answer of
/// `GET /messages`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// The page.
    pub data: Vec<Message>,
    /// How many messages match in all, in the same snapshot as `data`.
    pub total: u64,
    /// As asked.
    pub limit: u32,
    /// As asked.
    pub offset: u64,
}

/// Figures over all messages, of one snapshot. Serializes to the answer of `GET /stats`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Messages stored.
    pub total_messages: u64,
    /// Different senders among them.
    pub senders_count: u64,
    /// The ten senders with most messages, by count descending, then by number.
    pub messages_per_sender: Vec<SenderCount>,
    /// The least `ts`; none in an empty store.
    pub first_message_ts: Option<Timestamp>,
    /// The greatest `ts`.
    pub last_message_ts: Option<Timestamp>,
}

/// How many messages a sender has sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SenderCount {
    /// The sender.
    pub from: Phone,
    /// Its messages.
    pub count: u64,
}

impl Default for Page {
    fn default() -> Self {
        Self { limit: LIMIT_DEFAULT, offset: 0 }
    }
}

impl Search {
    /// Makes ready to look for `text`.
    pub fn new(text: &str) -> Self {
        Self(fold(text))
    }

    /// The text to look for, as [`fold`] leaves it.
    pub fn folded(&self) -> &str {
        &self.0
    }
}

/// Takes the differences of case out of a text: Unicode's default case folding (Unicode Standard 3.13, D145),
/// under which "STRASSE", "Straße" and "strasse" are the same.
pub fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    icu_casemap::CaseMapper::new().fold_string(text).into_owned()
}

/// Reads the query string of `GET /messages`. An empty parameter is no filter, of a repeated one the last
/// counts, unknown ones are passed over.
///
/// # Errors
/// Everything that is wrong, one complaint a parameter.
pub fn parse(query: &str) -> Result<(Filter, Page), Vec<Complaint>> {
    let mut given = Given::default();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let Some(slot) = given.slot(&decode(name)) {
            *slot = decode(value);
        }
    }
    given.check()
}

/// The known parameters as given, the empty string for absent.
#[derive(Default)]
struct Given {
    limit: String,
    offset: String,
    from: String,
    since: String,
    search: String,
}

impl Given {
    fn slot(&mut self, name: &str) -> Option<&mut String> {
        match name {
            "limit" => Some(&mut self.limit),
            "offset" => Some(&mut self.offset),
            "from" => Some(&mut self.from),
            "since" => Some(&mut self.since),
            "q" => Some(&mut self.search),
            _ => None,
        }
    }

    fn check(self) -> Result<(Filter, Page), Vec<Complaint>> {
        let mut complaints = Vec::new();
        let mut complain = |name: &str, broken: Broken, input: &str| {
            complaints.push(Complaint::field(broken.0, name, broken.1, Value::String(input.to_owned())));
        };
        let limit = match present(&self.limit).map(limit).transpose() {
            Ok(limit) => limit.unwrap_or(LIMIT_DEFAULT),
            Err(broken) => {
                complain("limit", broken, &self.limit);
                LIMIT_DEFAULT
            }
        };
        let offset = match present(&self.offset).map(integer).transpose() {
            Ok(offset) => offset.unwrap_or(0),
            Err(broken) => {
                complain("offset", broken, &self.offset);
                0
            }
        };
        let since = match present(&self.since).map(Timestamp::parse).transpose() {
            Ok(since) => since,
            Err(bad) => {
                complain("since", ("datetime_parsing", format!("Input {bad}")), &self.since);
                None
            }
        };
        if longer_than(&self.search, SEARCH_CHARS_MAX) {
            let broken =
                ("string_too_long", format!("String should have at most {SEARCH_CHARS_MAX} characters"));
            complain("q", broken, &self.search);
        }
        if !complaints.is_empty() {
            return Err(complaints);
        }
        let filter =
            Filter { from: sender(self.from), since, search: present(&self.search).map(Search::new) };
        Ok((filter, Page { limit, offset }))
    }
}

/// A kind and a reason.
type Broken = (&'static str, String);

fn present(value: &str) -> Option<&str> {
    Some(value).filter(|value| !value.is_empty())
}

/// A number is often sent with its plus unencoded, which then decodes to a space.
fn sender(given: String) -> Option<String> {
    match given.strip_prefix(' ') {
        Some(digits) => Some(format!("+{digits}")),
        None => Some(given).filter(|given| !given.is_empty()),
    }
}

fn limit(text: &str) -> Result<u32, Broken> {
    match integer(text)? {
        0 => Err(("greater_than_equal", "Input should be greater than or equal to 1".into())),
        n => u32::try_from(n)
            .ok()
            .filter(|n| *n <= LIMIT_MAX)
            .ok_or_else(|| ("less_than_equal", format!("Input should be less than or equal to {LIMIT_MAX}"))),
    }
}

/// A whole number of 64 bits, not below 0.
fn integer(text: &str) -> Result<u64, Broken> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err((
            "int_parsing",
            "Input should be a valid integer, unable to parse string as an integer".into(),
        ));
    }
    let value = digits.parse::<u64>().map_err(|_| {
        let (kind, word) =
            if negative { ("greater_than_equal", "greater") } else { ("less_than_equal", "less") };
        let bound = if negative { 0 } else { u64::MAX };
        (kind, format!("Input should be {word} than or equal to {bound}"))
    })?;
    if negative && value != 0 {
        return Err(("greater_than_equal", "Input should be greater than or equal to 0".into()));
    }
    Ok(value)
}

/// Undoes the encoding of a query (`application/x-www-form-urlencoded`, WHATWG URL); what is not UTF-8 then
/// becomes U+FFFD, which matches nothing.
fn decode(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_decode(spaced.as_bytes()).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kinds(query: &str) -> Vec<String> {
        let complaints = parse(query).unwrap_err();
        complaints.iter().map(|c| format!("{} {:?}", c.kind, c.place)).collect()
    }

    #[test]
    fn nothing_and_empty_parameters_mean_the_defaults() {
        for query in ["", "limit=&offset=&from=&since=&q=", "&&=&unknown=1&limit"] {
            assert_eq!(parse(query).unwrap(), (Filter::default(), Page { limit: 50, offset: 0 }), "{query}");
        }
    }

    #[test]
    fn the_last_of_a_repeated_parameter_counts() {
        assert_eq!(parse("limit=7&limit=9&offset=1&offset=").unwrap().1, Page { limit: 9, offset: 0 });
    }

    #[test]
    fn a_plus_may_come_unencoded() {
        for query in ["from=+9198", "from=%2B9198", "from=%209198"] {
            assert_eq!(parse(query).unwrap().0.from.as_deref(), Some("+9198"));
        }
    }

    #[test]
    fn numbers_out_of_range_say_which_way() {
        assert_eq!(kinds("limit=0"), [r#"greater_than_equal Field("limit")"#]);
        assert_eq!(kinds("limit=-1"), [r#"greater_than_equal Field("limit")"#]);
        assert_eq!(kinds("limit=101"), [r#"less_than_equal Field("limit")"#]);
        assert_eq!(kinds("offset=18446744073709551616"), [r#"less_than_equal Field("offset")"#]);
        assert_eq!(kinds("offset=-18446744073709551616"), [r#"greater_than_equal Field("offset")"#]);
        assert_eq!(parse("offset=18446744073709551615").unwrap().1.offset, u64::MAX);
        for bad in ["1.0", "abc", "+1", "0x1", "١", "1e3", "-"] {
            assert_eq!(kinds(&format!("limit={bad}")), [r#"int_parsing Field("limit")"#], "{bad}");
        }
    }

    #[test]
    fn every_wrong_parameter_is_named_at_once() {
        let query = format!("limit=x&offset=-1&since=yesterday&q={}", "a".repeat(4097));
        assert_eq!(kinds(&query).len(), 4);
    }

    #[test]
    fn a_search_holds_its_text_folded() {
        assert_eq!(Search::new("Straße").folded(), "strasse");
    }

    #[test]
    fn case_is_folded_for_all_of_unicode() {
        for (one, other) in [
            ("STRASSE", "straße"),
            ("ΣΊΣΥΦΟΣ", "σίσυφος"),
            ("ПРИВЕТ", "привет"),
            ("ÅÉ", "åé"),
            ("K", "\u{212a}"),
        ] {
            assert_eq!(fold(one), fold(other), "{one} {other}");
        }
        assert_ne!(fold("a"), fold("b"));
    }

    proptest! {
        #[test]
        fn any_query_is_answered(query in "\\PC{0,80}") {
            drop(parse(&query));
        }

        #[test]
        fn an_encoded_search_text_arrives(text in "\\PC{1,40}") {
            let encoded = percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC);
            let (filter, _) = parse(&format!("q={encoded}")).unwrap();
            prop_assert_eq!(filter.search, Some(Search::new(&text)));
        }

        #[test]
        fn folding_twice_changes_nothing_more(text in "\\PC{0,40}") {
            prop_assert_eq!(fold(&fold(&text)), fold(&text));
        }
    }
}
