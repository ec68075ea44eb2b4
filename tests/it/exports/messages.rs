//! `GET /messages` as an export: which messages are in it, and in which order.

use serde_json::Value;

use super::{MANY, exported, filled, store_mixed, turned};
use crate::support::chunked::Chunked;
use crate::support::message_with;
use crate::support::service::{Fault, Service};

#[test]
fn an_export_has_what_the_pages_have_in_their_order_whatever_the_filters() {
    let service = filled();
    let mut client = service.client();
    let id = client.json("/messages?limit=1")["data"][0]["message_id"].as_str().unwrap().to_owned();
    let id = format!("id={}", id.replace(' ', "%20"));
    for filter in [
        "",
        "from=%2B49173",
        "to=%2B1",
        "from=%2B49173&to=%2B1",
        "since=2025-01-10T10:00:00Z",
        "until=2025-01-20T10:30:00.5Z",
        "since=2025-01-10T10:21:00Z&until=2025-01-10T10:21:00.500000001Z",
        "source=shop",
        "source=webhook",
        "source=none",
        "source=shop&from=%2B49173",
        "source=webhook&to=%2B1&since=2025-01-03T00:00:00Z",
        "q=secret",
        "q=1",
        "q=xyzxyzxyzxyzxyzxyzxyzxyzxyzxyzxyzxyz",
        "q=%D0%BF%D1%80%D0%B8%D0%B2%D0%B5%D1%82&to=%2B2&until=2025-01-25T00:00:00Z",
        "q=secret&source=shop",
        "q=secret&source=webhook&to=%2B0",
        "q=nowhere",
        &id,
    ] {
        for order in ["asc", "desc"] {
            let pages = turned(&mut client, &format!("/messages?limit=100&order={order}&{filter}"), "cursor");
            let all = exported(&service, &format!("/messages?order={order}&{filter}"));
            assert!(all == pages, "{order} {filter}: {} and {}", all.len(), pages.len());
        }
    }
    assert_eq!(exported(&service, "/messages").len(), MANY);
}

#[test]
fn an_export_without_the_index_is_the_same() {
    let service = Service::start();
    store_mixed(&service, 2_500);
    let (all, some) = (exported(&service, "/messages"), exported(&service, "/messages?q=secret&order=desc"));
    assert_eq!((all.len(), some.len()), (2_500, 2_000));
    // Arrived just now.
    let mut client = service.client();
    client.store(&message_with("new", "+1", "2024-01-01T00:00:00Z", Some("SECRET")));
    let id = |messages: &[Value], nth: usize| messages[nth]["message_id"].clone();
    assert_eq!(id(&exported(&service, "/messages"), 0), "new");
    assert_eq!(id(&exported(&service, "/messages?q=secret&order=desc"), 2_000), "new");
}

#[test]
fn an_export_has_a_bound_if_it_is_given_one() {
    let service = filled();
    let all = exported(&service, "/messages");
    for limit in [1, 100, 101, 1_000, 1_001, 2_999, 3_000, 1_000_000] {
        let some = exported(&service, &format!("/messages?limit={limit}"));
        assert!(some == all[..limit.min(MANY)], "{limit}: {}", some.len());
    }
    let found = exported(&service, "/messages?q=secret");
    for limit in [1, 1_000, 1_700] {
        let some = exported(&service, &format!("/messages?q=secret&limit={limit}"));
        assert!(some == found[..limit], "{limit}: {}", some.len());
    }
}

#[test]
fn an_export_may_begin_where_a_page_has_ended() {
    let service = filled();
    let mut client = service.client();
    for order in ["asc", "desc"] {
        let all = exported(&service, &format!("/messages?order={order}"));
        let page = client.json(&format!("/messages?order={order}&limit=70"));
        let next = page["next"].as_str().unwrap();
        let rest = exported(&service, &format!("/messages?order={order}&cursor={next}"));
        assert!(rest == all[70..], "{order}: {}", rest.len());
        let some = exported(&service, &format!("/messages?order={order}&cursor={next}&limit=2"));
        assert!(some == all[70..72], "{order}: {some:?}");
    }
    let prev = client.json("/messages?offset=5&limit=1")["prev"].as_str().unwrap().to_owned();
    let wrong = |query: &str| {
        let reply = service.client().get(&format!("/messages?format=csv&{query}"));
        assert_eq!(reply.status, 422, "{query}");
        reply.json()["detail"][0]["loc"][1].as_str().unwrap().to_owned()
    };
    assert_eq!(wrong(&format!("cursor={prev}")), "cursor", "it would go backwards");
    assert_eq!((wrong("offset=1"), wrong("limit=0")), ("offset".to_owned(), "limit".to_owned()));
}

#[test]
fn what_arrives_or_is_erased_meanwhile_counts_if_the_export_has_yet_to_come_there() {
    let service = Service::builder().admin_token("an-admin-token-for-the-tests").start();
    let mut client = service.client();
    store_mixed(&service, 2_500);
    let all = exported(&service, "/messages");
    // The first page is read before the response begins.
    service.faulty().reads.nth(2, Fault::Block);
    let export = Chunked::open(service.address(), "/messages?format=ndjson", &[]);
    service.faulty().reads.wait_blocked(1);
    for (id, ts) in [("behind", "2024-01-01T00:00:00Z"), ("ahead", "2026-01-01T00:00:00Z")] {
        client.store(&message_with(id, "+1", ts, None));
    }
    let admin = [("Authorization", "Bearer an-admin-token-for-the-tests")];
    for sender in ["+49173", "+49174"] {
        let target = format!("/events?from={}", sender.replace('+', "%2B"));
        assert_eq!(client.request("DELETE", &target, &admin, b"").status, 200);
    }
    service.faulty().heal();
    let reply = export.whole();
    let seen: Vec<Value> = reply.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(seen[..1_000] == all[..1_000], "what was read before");
    let is_erased = |message: &&Value| ["+49173", "+49174"].map(Value::from).contains(&message["from"]);
    let mut rest: Vec<_> = all[1_000..].iter().filter(|message| !is_erased(message)).collect();
    assert!(rest.len() < 1_500);
    let ahead = seen.last().unwrap();
    assert_eq!(ahead["message_id"], "ahead");
    rest.push(ahead);
    assert!(seen[1_000..].iter().eq(rest), "{}", seen.len());
}
