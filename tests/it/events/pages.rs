//! `GET /events` in pages, and `GET /events/{position}`.

use insta::assert_snapshot;
use lyftr::event::Kind;
use serde_json::{Value, json};

use super::{event_of, keys, next, read_on, store};
use crate::support::message;
use crate::support::service::Service;

/// The limit of a page, in bytes.
const PAGE_BYTES: usize = 1 << 20;

#[test]
fn an_empty_log_is_an_empty_page_without_a_place() {
    let service = Service::start();
    let mut client = service.client();
    for query in ["", "?after=now", "?before=now", "?limit=1000&kind=status", "?wait=0"] {
        let reply = client.get(&format!("/events{query}"));
        assert_eq!(reply.line(), r#"200 {"data":[],"next":null,"end":true}"#, "{query}");
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        assert_eq!(reply.header("content-type"), Some("application/json"));
    }
}

#[test]
fn an_event_of_the_built_in_source_says_what_its_message_said_and_when_it_was_accepted() {
    let service = Service::start();
    let mut client = service.client();
    let before = lyftr::clock::received_at().to_string();
    client.store(&message("m1"));
    let after = lyftr::clock::received_at().to_string();
    let page = client.json("/events");
    let event = &page["data"][0];
    let received_at = event["received_at"].as_str().unwrap();
    assert!(
        before.as_str() <= received_at && received_at <= after.as_str(),
        "{before} {received_at} {after}"
    );
    assert_eq!(received_at.len(), "2025-01-15T10:00:00.000Z".len());
    assert_eq!((event["position"].as_str().unwrap(), &page["end"]), (next(&page), &true.into()));
    let mut event = event.clone();
    (event["position"], event["received_at"]) = ("P".into(), "R".into());
    assert_snapshot!(event.to_string(), @r#"{"position":"P","source":"webhook","kind":"message","type":"text","key":"m1","from":"+919876543210","to":"+14155550100","user_id":null,"thread":"+919876543210","ref":null,"account":null,"ts":"2025-01-15T10:00:00Z","received_at":"R","text":"Hello","data":null}"#);
    let mut silent = message("m2");
    silent.as_object_mut().unwrap().remove("text");
    client.store(&silent);
    let event = &client.json("/events?before=now&limit=1")["data"][0];
    assert_eq!((&event["type"], &event["text"]), (&Value::Null, &Value::Null));
}

#[test]
fn an_event_of_another_source_has_all_that_its_source_said() {
    let service = Service::start();
    service.store().insert(&[event_of("shop", "k1", Kind::Status)]).unwrap();
    let mut client = service.client();
    let reply = client.get("/events");
    let body = reply.text().to_owned();
    let position = reply.json()["next"].as_str().unwrap().to_owned();
    let expected = r#"{"data":[{"position":"P","source":"shop","kind":"status","type":"image","key":"k1","from":"a person","to":"+2","user_id":"user","thread":"thread","ref":"about","account":"account","ts":"2025-01-15T10:00:00.5Z","received_at":"2025-01-15T10:00:01.250Z","text":null,"data":{"a":1.50e3}}],"next":"P","end":true}"#;
    assert_eq!(body.replace(&position, "P"), expected);
}

#[test]
fn a_body_with_more_members_than_the_five_is_kept_as_it_was_sent() {
    let service = Service::start();
    let mut client = service.client();
    let body = "{ \"message_id\":\"m1\",\"from\":\"+1\",\"to\":\"+2\",\r\n\"ts\":\"2025-01-15T10:00:00Z\", \"n\":1.000e-400,\"x\":{\"\\u00e9\":[ ]}}";
    assert_eq!(client.send_bytes(body.as_bytes()).status, 200);
    let text = client.get("/events").text().to_owned();
    assert!(text.contains(&format!("\"data\":{body}}}],\"next\"")), "{text}");
    let position = client.json("/events")["next"].as_str().unwrap().to_owned();
    let one = client.get(&format!("/events/{position}"));
    assert!(one.text().ends_with(&format!("\"data\":{body}}}")), "{}", one.text());
}

#[test]
fn pages_lead_on_and_give_each_event_once_in_the_order_of_arrival() {
    let service = Service::start();
    let mut client = service.client();
    let ids: Vec<String> = (0..205).map(|n| format!("m{}", n * 7919 % 1000)).collect();
    store(&mut client, &ids);
    let first = client.json("/events");
    assert_eq!((keys(&first).len(), &first["end"]), (100, &false.into()), "the default");
    for limit in [1, 7, 100, 205, 206, 1000] {
        let (events, _) = read_on(&mut client, None, &format!("limit={limit}"));
        let found: Vec<_> = events.iter().map(|event| event["key"].as_str().unwrap()).collect();
        assert_eq!(found, ids, "{limit}");
    }
    let exactly = client.json("/events?limit=205");
    assert_eq!(exactly["end"], true, "there is nothing after a full page");
    let last = next(&exactly).to_owned();
    let nothing = client.json(&format!("/events?after={last}"));
    assert_eq!(nothing, json!({"data": [], "next": last, "end": true}));
    store(&mut client, ["later"]);
    assert_eq!(keys(&client.json(&format!("/events?after={last}"))), ["later"]);
}

#[test]
fn now_is_the_end_and_what_comes_later_is_after_it() {
    let service = Service::start();
    let mut client = service.client();
    store(&mut client, ["m1", "m2"]);
    let page = client.json("/events?after=now");
    assert_eq!((keys(&page).len(), &page["end"]), (0, &true.into()));
    assert_eq!(next(&page), next(&client.json("/events")));
    store(&mut client, ["m3"]);
    assert_eq!(keys(&client.json(&format!("/events?after={}", next(&page)))), ["m3"]);
}

#[test]
fn before_goes_back_to_the_beginning_newest_first() {
    let service = Service::start();
    let mut client = service.client();
    store(&mut client, ["m1", "m2", "m3", "m4", "m5"]);
    let page = client.json("/events?before=now&limit=2");
    assert_eq!((keys(&page), &page["end"]), (vec!["m5", "m4"], &false.into()));
    let page = client.json(&format!("/events?before={}&limit=2", next(&page)));
    assert_eq!((keys(&page), &page["end"]), (vec!["m3", "m2"], &false.into()));
    let page = client.json(&format!("/events?before={}&limit=2", next(&page)));
    assert_eq!((keys(&page), &page["end"]), (vec!["m1"], &true.into()));
    let nothing = client.json(&format!("/events?before={}", next(&page)));
    assert_eq!(nothing, json!({"data": [], "next": next(&page), "end": true}));
    assert_eq!(keys(&client.json(&format!("/events?after={}", next(&page)))), ["m2", "m3", "m4", "m5"]);
}

#[test]
fn what_was_acknowledged_is_on_the_very_next_page() {
    let service = Service::start();
    let mut client = service.client();
    let mut after = "now".to_owned();
    after = client.json(&format!("/events?after={after}"))["next"].as_str().unwrap_or_default().to_owned();
    for n in 0..50 {
        let id = format!("m{n}");
        store(&mut client, [&id]);
        let wait = if n % 2 == 0 { "" } else { "&wait=60" };
        let page = client.json(&format!("/events?after={after}{wait}"));
        assert_eq!(keys(&page), [id], "{after}");
        next(&page).clone_into(&mut after);
    }
}

/// The sizes of the pages of the whole log without the last event of each, and with it.
fn sizes(client: &mut crate::support::client::Client) -> Vec<(usize, usize, usize)> {
    let (mut sizes, mut after) = (Vec::new(), String::new());
    loop {
        let reply = client.get(&format!("/events?limit=1000{after}"));
        let page = reply.json();
        let events = page["data"].as_array().unwrap();
        let Some(last) = events.last() else { return sizes };
        let one = client.get(&format!("/events/{}", last["position"].as_str().unwrap()));
        sizes.push((reply.body.len() - one.body.len(), reply.body.len(), events.len()));
        if page["end"] == true {
            return sizes;
        }
        after = format!("&after={}", next(&page));
    }
}

#[test]
fn a_page_ends_with_the_event_that_crosses_1_mib() {
    let service = Service::start();
    let mut client = service.client();
    let text = "😀".repeat(4096);
    for n in 0..150 {
        let mut message = message(&format!("m{n:03}"));
        message["text"] = text.as_str().into();
        client.store(&message);
    }
    let sizes = sizes(&mut client);
    assert_eq!(sizes.iter().map(|(_, _, events)| events).sum::<usize>(), 150);
    assert!(sizes.len() > 2, "{sizes:?}");
    for (without_last, with_it, _) in &sizes[..sizes.len() - 1] {
        assert!(*without_last < PAGE_BYTES && *with_it >= PAGE_BYTES, "{sizes:?}");
    }
}

#[test]
fn an_event_larger_than_a_page_is_on_one() {
    let service = Service::builder().max_body_bytes(8 << 20).start();
    let mut client = service.client();
    let large = |id: &str| {
        let mut message = message(id);
        message["more"] = "x".repeat(4 << 20).into();
        message
    };
    client.store(&message("small"));
    client.store(&large("l1"));
    client.store(&large("l2"));
    let mut after = String::new();
    for expected in [&["small", "l1"][..], &["l2"]] {
        let page = client.json(&format!("/events{after}"));
        assert_eq!(keys(&page), expected);
        after = format!("?after={}", next(&page));
    }
    assert_eq!(client.json(&format!("/events{after}"))["end"], true);
}

#[test]
fn every_wrong_part_of_a_request_is_named() {
    let service = Service::start();
    let mut client = service.client();
    store(&mut client, ["m1"]);
    let position = next(&client.json("/events")).to_owned();
    let wrong = |reply: &crate::support::client::Reply| {
        assert_eq!(reply.status, 422, "{}", reply.line());
        let items = reply.json()["detail"].as_array().unwrap().clone();
        items
            .iter()
            .map(|item| format!("{} {}", item["type"].as_str().unwrap(), item["loc"]))
            .collect::<Vec<_>>()
    };
    for (query, expected) in [
        ("limit=0", r#"greater_than_equal ["query","limit"]"#),
        ("limit=1001", r#"less_than_equal ["query","limit"]"#),
        ("wait=61", r#"less_than_equal ["query","wait"]"#),
        ("wait=1.5", r#"int_parsing ["query","wait"]"#),
        ("kind=photo", r#"literal_error ["query","kind"]"#),
        ("after=x", r#"value_error ["query","after"]"#),
        ("before=x", r#"value_error ["query","before"]"#),
        ("before=now&after=now", r#"value_error ["query","before"]"#),
        ("before=now&cursor=c", r#"value_error ["query","before"]"#),
        ("before=now&wait=1", r#"value_error ["query","before"]"#),
    ] {
        assert_eq!(wrong(&client.get(&format!("/events?{query}"))), [expected], "{query}");
    }
    let both = [r#"less_than_equal ["query","limit"]"#, r#"literal_error ["query","kind"]"#];
    assert_eq!(wrong(&client.get("/events?kind=x&limit=5000")), both);
    let with = |client: &mut crate::support::client::Client, name, value: &str, query: &str| {
        client.request("GET", &format!("/events?{query}"), &[(name, value)], b"")
    };
    let reply = with(&mut client, "Last-Event-ID", "x", "");
    assert_eq!(wrong(&reply), [r#"value_error ["header","last-event-id"]"#]);
    let before = [r#"value_error ["query","before"]"#];
    assert_eq!(wrong(&with(&mut client, "Last-Event-ID", &position, "before=now")), before);
    assert_eq!(wrong(&with(&mut client, "Accept", "text/event-stream", "before=now")), before);
}

#[test]
fn an_event_is_found_by_its_position() {
    let service = Service::start();
    let mut client = service.client();
    store(&mut client, ["m1", "m2"]);
    let page = client.json("/events");
    for event in page["data"].as_array().unwrap() {
        let reply = client.get(&format!("/events/{}", event["position"].as_str().unwrap()));
        assert_eq!((reply.json(), reply.header("cache-control")), (event.clone(), Some("no-store")));
    }
    let position = next(&page);
    let other = if position.ends_with('0') { '1' } else { '0' };
    let unknown = format!("{}{other}", &position[..31]);
    assert_eq!(client.get(&format!("/events/{unknown}")).status, 404);
    for malformed in
        ["now", "x", &position[1..], &position.to_uppercase().replace('0', "G"), "%ff", "{position}"]
    {
        let reply = client.get(&format!("/events/{malformed}"));
        assert_eq!(reply.status, 422, "{malformed}");
        assert_eq!(reply.json()["detail"][0]["loc"], json!(["path", "position"]), "{malformed}");
    }
}

#[test]
fn head_and_wrong_methods_are_answered_as_everywhere() {
    let service = Service::start();
    let mut client = service.client();
    store(&mut client, ["m1"]);
    let position = next(&client.json("/events")).to_owned();
    for target in [
        "/events",
        "/events?limit=x",
        "/cursors",
        "/cursors/c",
        "/stats/volume",
        &format!("/events/{position}"),
    ] {
        let (get, head) = (client.get(target), client.head(target));
        assert_eq!((head.status, head.body.len()), (get.status, 0), "{target}");
        assert_eq!(head.header("content-length"), get.header("content-length"), "{target}");
    }
    assert_eq!(client.head(&format!("/events?after={position}&wait=60")).status, 200, "waits for nothing");
    let head = client.request("HEAD", "/events", &[("Accept", "text/event-stream")], b"");
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    for (target, allowed) in [
        ("/events", "GET,HEAD"),
        ("/events/x", "GET,HEAD"),
        ("/stats/volume", "GET,HEAD"),
        ("/cursors", "GET,HEAD"),
        ("/cursors/c", "GET,HEAD,PUT,DELETE"),
    ] {
        let reply = client.request("POST", target, &[], b"");
        assert_eq!((reply.status, reply.header("allow")), (405, Some(allowed)), "{target}");
    }
    assert_eq!(client.connections, 1);
}

#[test]
fn last_event_id_comes_before_after_and_after_before_a_cursor() {
    let service = Service::start();
    let mut client = service.client();
    store(&mut client, ["m1", "m2", "m3", "m4"]);
    let page = client.json("/events");
    let position = |nth: usize| page["data"][nth]["position"].as_str().unwrap();
    let body = json!({"position": position(2)}).to_string();
    let made = client.request("PUT", "/cursors/c", &[("If-None-Match", "*")], body.as_bytes());
    assert_eq!(made.status, 200, "{}", made.line());
    let id = [("Last-Event-ID", position(0))];
    let query = format!("/events?after={}&cursor=c", position(1));
    assert_eq!(keys(&client.request("GET", &query, &id, b"").json()), ["m2", "m3", "m4"]);
    assert_eq!(keys(&client.json(&query)), ["m3", "m4"]);
    assert_eq!(keys(&client.json("/events?cursor=c")), ["m4"]);
    assert_eq!(client.json("/cursors/c")["position"], position(2), "a read moves nothing");
    let empty = [("Last-Event-ID", "")];
    assert_eq!(keys(&client.request("GET", "/events?after=&cursor=c", &empty, b"").json()), ["m4"]);
    assert_eq!(client.get("/events?cursor=unknown").status, 404);
    assert_eq!(client.get("/events?cursor=a%20b").status, 404);
    assert_eq!(keys(&client.json(&format!("/events?after={}&cursor=unknown", position(2)))), ["m4"]);
}
