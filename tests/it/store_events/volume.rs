//! How many messages there are in each step of time.

use std::collections::BTreeMap;

use lyftr::event::{Event, Kind};
use lyftr::query::{Filter, STEPS_MAX, Search};

use super::{Place, bare, engines, event, name, ts};
use crate::support::settle;

engines! { sqlite: (
    messages_are_counted_in_steps_from_the_epoch_on
    more_steps_than_there_may_be_are_refused
) }

fn at(second: i64, n: usize) -> Event {
    let source = ["webhook", "shop", "bot"][n % 3];
    let mut message = event(source, &format!("{second} {n}"));
    let parties = ["+491701", "+491702", "Bot 7"];
    message.from = (n % 4 != 3).then(|| name(parties[n % 4]));
    message.to = Some(name(parties[n % 2]));
    message.ts =
        lyftr::message::Timestamp::from_parts(second, u32::try_from(n % 2).unwrap() * 999_999_999, 9).ok();
    if source == "webhook" {
        message.from = Some(name("+491701"));
        message.to = Some(name("+491702"));
    }
    message.with_implied()
}

fn messages_are_counted_in_steps_from_the_epoch_on(place: &Place) {
    const SECONDS: [i64; 12] = [-3_601, -3_600, -60, -1, 0, 1, 59, 60, 3_599, 3_600, 86_399, 90_000];
    let store = place.open();
    let mut events: Vec<_> = SECONDS.iter().flat_map(|second| (0..7).map(|n| at(*second, n))).collect();
    let mut status = bare("shop", "a status", Kind::Status);
    status.ts = Some(ts("1970-01-01T00:00:00Z"));
    events.push(status);
    let filters = [
        Filter::default(),
        Filter { from: Some("+491701".into()), ..Filter::default() },
        Filter { from: Some("Bot 7".into()), ..Filter::default() },
        Filter { from: Some("none of them".into()), ..Filter::default() },
        Filter { from: Some("+491701".into()), to: Some("+491702".into()), ..Filter::default() },
        Filter { source: Some("shop".into()), ..Filter::default() },
        Filter { source: Some("webhook".into()), to: Some("+491702".into()), ..Filter::default() },
        Filter { source: Some("none".into()), ..Filter::default() },
        Filter {
            since: Some(ts("1969-12-31T23:59:59.5Z")),
            until: Some(ts("1970-01-01T00:01:00Z")),
            ..Filter::default()
        },
        Filter { since: Some(ts("1971-01-01T00:00:00Z")), ..Filter::default() },
        Filter { search: Some(Search::new("HELLO")), source: Some("bot".into()), ..Filter::default() },
        Filter { id: Some("60 3".into()), ..Filter::default() },
    ];
    // Unknown to the index, in it, and past it again.
    for (upto, settles) in [(40, false), (80, true), (events.len(), false), (events.len(), true)] {
        store.insert(&events[..upto]).unwrap();
        if settles {
            settle(store.as_ref());
        }
        for step in [60, 300, 3_600, 86_400] {
            for filter in &filters {
                let mut expected = BTreeMap::new();
                for message in events[..upto].iter().filter(|event| matches(filter, event)) {
                    let second = message.ts.unwrap().second();
                    *expected.entry(second.div_euclid(step) * step).or_insert(0_u64) += 1;
                }
                let expected: Vec<_> = expected.into_iter().collect();
                let count = expected.last().map_or(0, |last| (last.0 - expected[0].0) / step + 1);
                let expected = (count <= i64::try_from(STEPS_MAX).unwrap()).then_some(expected);
                let volume = store.volume(filter, u32::try_from(step).unwrap()).unwrap();
                assert_eq!(volume.map(|volume| volume.steps), expected, "{upto} {step} {filter:?}");
            }
        }
    }
}

fn matches(filter: &Filter, event: &Event) -> bool {
    let Filter { id, source, from, to, since, until, search: _ } = filter;
    let is = |wanted: &Option<String>, found: Option<&str>| wanted.is_none() || wanted.as_deref() == found;
    event.kind == Kind::Message
        && is(id, Some(event.key.as_str()))
        && is(source, Some(event.source.as_str()))
        && is(from, event.from.as_ref().map(lyftr::message::Name::as_str))
        && is(to, event.to.as_ref().map(lyftr::message::Name::as_str))
        && since.is_none_or(|since| event.ts.unwrap().moment() >= since.moment())
        && until.is_none_or(|until| event.ts.unwrap().moment() < until.moment())
}

fn more_steps_than_there_may_be_are_refused(place: &Place) {
    let store = place.open();
    let last = i64::try_from(STEPS_MAX).unwrap();
    store.insert(&[at(59, 0), at(60 * (last - 1), 0)]).unwrap();
    for settles in [false, true] {
        if settles {
            settle(store.as_ref());
        }
        for filter in [Filter::default(), Filter { search: Some(Search::new("hello")), ..Filter::default() }]
        {
            let steps = store.volume(&filter, 60).unwrap().unwrap().steps;
            assert_eq!(steps, [(0, 1), (60 * (last - 1), 1)]);
            assert_eq!(store.volume(&filter, 59).unwrap(), None, "one step too many");
        }
    }
    store.insert(&[at(60 * last, 1)]).unwrap();
    assert_eq!(store.volume(&Filter::default(), 60).unwrap(), None);
    // A filter may leave out what was too far away.
    let until = Filter { until: Some(ts("1970-01-01T01:00:00Z")), ..Filter::default() };
    assert_eq!(store.volume(&until, 60).unwrap().unwrap().steps, [(0, 1)]);
}
