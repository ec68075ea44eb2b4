//! From a query string to a [`Filter`], a [`Page`] and the [`Form`] of the answer.

use super::form::form;
use super::parameters::{Checker, Violation, instant, integer, name, pairs};
use super::{Filter, Form, LIMIT_DEFAULT, LIMIT_MAX, Page, PageCursor, SEARCH_CHARS_MAX, Search};
use crate::message::longer_than;
use crate::validation::ValidationError;

/// Reads the query string of `GET /messages`. An empty parameter counts as absent, the last one of a repeated parameter
/// counts, and unknown parameters are ignored. The answer has the `accepted` form unless `format` names another one. An
/// export has the order of the page and begins at its cursor; the limit of the page means nothing for it.
///
/// # Errors
/// Every validation error, at most one for each parameter.
pub fn parse(query: &str, accepted: Form) -> Result<(Filter, Page, Form), Vec<ValidationError>> {
    let mut parameters = Parameters::default();
    for (name, value) in pairs(query) {
        if let Some(slot) = parameters.slot(&name) {
            *slot = value;
        }
    }
    parameters.check(accepted)
}

/// The values of the known parameters, an empty string for an absent one.
#[derive(Default)]
struct Parameters {
    limit: String,
    offset: String,
    order: String,
    cursor: String,
    from: String,
    to: String,
    since: String,
    until: String,
    search: String,
    id: String,
    source: String,
    format: String,
}

impl Parameters {
    fn slot(&mut self, name: &str) -> Option<&mut String> {
        match name {
            "limit" => Some(&mut self.limit),
            "offset" => Some(&mut self.offset),
            "order" => Some(&mut self.order),
            "cursor" => Some(&mut self.cursor),
            "from" => Some(&mut self.from),
            "to" => Some(&mut self.to),
            "since" => Some(&mut self.since),
            "until" => Some(&mut self.until),
            "q" => Some(&mut self.search),
            "id" => Some(&mut self.id),
            "source" => Some(&mut self.source),
            "format" => Some(&mut self.format),
            _ => None,
        }
    }

    fn check(self, accepted: Form) -> Result<(Filter, Page, Form), Vec<ValidationError>> {
        let mut checker = Checker::default();
        let mut form = checker.take("format", &self.format, form).unwrap_or(accepted);
        let is_export = matches!(form, Form::Export(_));
        let limit = form.read_limit(&mut checker, &self.limit, LIMIT_MAX).unwrap_or(LIMIT_DEFAULT);
        let offset = checker.take("offset", &self.offset, |text| offset(text, is_export)).unwrap_or(0);
        let descending = checker.take("order", &self.order, descending).unwrap_or(false);
        let cursor = checker.take("cursor", &self.cursor, |text| cursor(text, offset, is_export));
        let since = checker.take("since", &self.since, instant);
        let until = checker.take("until", &self.until, instant);
        let search = checker.take("q", &self.search, search);
        if !checker.errors.is_empty() {
            return Err(checker.errors);
        }
        let present = |given: String| Some(given).filter(|given| !given.is_empty());
        let (id, source) = (present(self.id), present(self.source));
        let filter = Filter { id, source, from: name(self.from), to: name(self.to), since, until, search };
        Ok((filter, Page { limit, offset, descending, cursor }, form))
    }
}

fn search(text: &str) -> Result<Search, Violation> {
    if longer_than(text, SEARCH_CHARS_MAX) {
        let reason = format!("String should have at most {SEARCH_CHARS_MAX} characters");
        return Err(("string_too_long", reason));
    }
    Ok(Search::new(text))
}

fn descending(text: &str) -> Result<bool, Violation> {
    match text {
        "asc" => Ok(false),
        "desc" => Ok(true),
        _ => Err(("literal_error", "Input should be 'asc' or 'desc'".into())),
    }
}

fn offset(text: &str, is_export: bool) -> Result<u64, Violation> {
    match integer(text)? {
        offset if offset > 0 && is_export => {
            Err(("value_error", "An export has no offset; it may begin at a cursor".into()))
        }
        offset => Ok(offset),
    }
}

fn cursor(text: &str, offset: u64, is_export: bool) -> Result<PageCursor, Violation> {
    if offset != 0 {
        return Err((
            "value_error",
            "A cursor and an offset exclude each other; leave out one of them".into(),
        ));
    }
    match text.parse() {
        Ok(PageCursor::Before(_)) if is_export => {
            Err(("value_error", "An export begins after a message: at the next of an earlier answer".into()))
        }
        Ok(cursor) => Ok(cursor),
        Err(_) => {
            Err(("value_error", "Input should be the next or prev of an earlier answer, unchanged".into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Lines, Place, fold};
    use super::*;
    use crate::event::Source;
    use crate::message::{Name, Timestamp};

    const CSV: Form = Form::export(Lines::Csv);

    /// As for a client that accepts pages.
    fn parse(query: &str) -> Result<(Filter, Page), Vec<ValidationError>> {
        super::parse(query, Form::Page).map(|(filter, page, _)| (filter, page))
    }

    fn kinds(query: &str) -> Vec<String> {
        let errors = parse(query).unwrap_err();
        errors.iter().map(|c| format!("{} {:?}", c.kind, c.location)).collect()
    }

    #[test]
    fn nothing_and_empty_parameters_mean_the_defaults() {
        for query in ["", "limit=&offset=&order=&cursor=&from=&to=&since=&until=&q=", "&&=&unknown=1&limit"] {
            assert_eq!(parse(query).unwrap(), (Filter::default(), Page::default()), "{query}");
        }
    }

    #[test]
    fn the_last_of_a_repeated_parameter_counts() {
        assert_eq!(
            parse("limit=7&limit=9&offset=1&offset=").unwrap().1,
            Page { limit: 9, ..Page::default() }
        );
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
        let wrong = "limit=x&offset=-1&order=up&cursor=x&since=yesterday&until=tomorrow";
        let query = format!("{wrong}&q={}", "a".repeat(4097));
        assert_eq!(
            kinds(&query),
            [
                r#"int_parsing Field("limit")"#,
                r#"greater_than_equal Field("offset")"#,
                r#"literal_error Field("order")"#,
                r#"value_error Field("cursor")"#,
                r#"datetime_parsing Field("since")"#,
                r#"datetime_parsing Field("until")"#,
                r#"string_too_long Field("q")"#,
            ]
        );
    }

    #[test]
    fn an_order_is_one_of_two_words() {
        assert!(!parse("order=asc").unwrap().1.descending);
        assert!(parse("order=desc").unwrap().1.descending);
        for bad in ["DESC", "descending", "-1"] {
            assert_eq!(kinds(&format!("order={bad}")), [r#"literal_error Field("order")"#], "{bad}");
        }
    }

    #[test]
    fn a_cursor_and_an_offset_exclude_each_other() {
        let position = Place {
            moment: Timestamp::parse("2025-01-15T10:00:00.5Z").unwrap().moment(),
            message_id: Name::new("m 1").unwrap(),
            source: Source::WEBHOOK,
        };
        let cursor = PageCursor::After(position);
        assert_eq!(parse(&format!("cursor={cursor}&offset=0")).unwrap().1.cursor, Some(cursor.clone()));
        assert_eq!(kinds(&format!("cursor={cursor}&offset=1")), [r#"value_error Field("cursor")"#]);
    }

    #[test]
    fn a_format_comes_before_what_the_client_accepts() {
        for (query, accepted, form) in [
            ("", CSV, CSV),
            ("format=", CSV, CSV),
            ("format=json", CSV, Form::Page),
            ("format=csv", Form::Page, CSV),
            ("format=csv&format=ndjson", CSV, Form::export(Lines::Ndjson)),
        ] {
            assert_eq!(super::parse(query, accepted).unwrap().2, form, "{query}");
        }
        assert_eq!(
            kinds("format=CSV&limit=0"),
            [r#"literal_error Field("format")"#, r#"greater_than_equal Field("limit")"#]
        );
    }

    #[test]
    fn an_export_has_no_bound_but_that_of_its_query() {
        let limit = |query: &str| match super::parse(query, CSV).unwrap().2 {
            Form::Export(export) => export.limit,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            (limit(""), limit("limit=1"), limit("limit=5000000000")),
            (None, Some(1), Some(5_000_000_000))
        );
        let kinds = |query: &str| -> Vec<_> {
            super::parse(query, CSV).unwrap_err().iter().map(|error| error.kind).collect()
        };
        assert_eq!(kinds("limit=0&offset=1"), ["greater_than_equal", "value_error"]);
        let place = Place {
            moment: Timestamp::EPOCH.moment(),
            message_id: Name::new("m").unwrap(),
            source: Source::WEBHOOK,
        };
        assert!(super::parse(&format!("offset=0&cursor={}", PageCursor::After(place.clone())), CSV).is_ok());
        assert_eq!(kinds(&format!("cursor={}", PageCursor::Before(place))), ["value_error"]);
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
        fn a_search_is_in_a_text_if_it_is_there_after_folding(text in "[aAbßſsSıİi ]{0,12}", q in "[aAbßſsSıİi ]{1,3}") {
            prop_assert_eq!(Search::new(&q).is_in(&text), fold(&text).contains(&fold(&q)));
        }

        #[test]
        fn folding_twice_changes_nothing_more(text in "\\PC{0,40}") {
            prop_assert_eq!(fold(&fold(&text)), fold(&text));
        }
    }
}
