//! Many connections send the same new id at the same moment: one row, and everybody is told 200.

use std::sync::Barrier;

use serde_json::Value;

use crate::support::client::signed;
use crate::support::message;
use crate::support::service::Service;

const CONNECTIONS: usize = 32;
const ROUNDS: usize = 25;

/// Lets all connections send what `of` gives for a round and a connection, and checks after each round that
/// exactly one of these is stored.
fn race(of: impl Fn(usize, usize) -> Value + Sync) {
    let service = Service::start();
    let (ready, done) = (Barrier::new(CONNECTIONS + 1), Barrier::new(CONNECTIONS + 1));
    let statuses = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..CONNECTIONS)
            .map(|racer| {
                let (service, of, ready, done) = (&service, &of, &ready, &done);
                scope.spawn(move || {
                    let mut connection = service.connect();
                    (0..ROUNDS)
                        .map(|round| {
                            let bytes = signed(of(round, racer).to_string().as_bytes());
                            ready.wait();
                            connection.write(bytes);
                            let status = connection.reply("POST", "/webhook").status;
                            done.wait();
                            status
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let mut client = service.client();
        let mut stored: Vec<Value> = Vec::new();
        for round in 0..ROUNDS {
            ready.wait();
            done.wait();
            let listing = client.json("/messages?limit=100");
            let data = listing["data"].as_array().unwrap();
            assert_eq!((data.len(), &listing["total"]), (round + 1, &(round + 1).into()), "one row a round");
            let new =
                data.iter().find(|row| row["message_id"] == of(round, 0)["message_id"]).expect("the new row");
            assert!((0..CONNECTIONS).any(|racer| *new == of(round, racer)), "{new} was sent by nobody");
            assert!(stored.iter().all(|old| data.contains(old)), "what was stored first stays");
            stored.push(new.clone());
            assert_eq!(client.metric(r#"webhook_requests_total{result="created"}"#), (round + 1) as f64);
        }
        racers.into_iter().flat_map(|racer| racer.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(statuses, vec![200; CONNECTIONS * ROUNDS]);
    let mut client = service.client();
    let others = client.metric(r#"webhook_requests_total{result="duplicate"}"#)
        + client.metric(r#"webhook_requests_total{result="conflict"}"#);
    assert_eq!(others, ((CONNECTIONS - 1) * ROUNDS) as f64);
}

fn numbered(round: usize) -> Value {
    message(&format!("round {round:02}"))
}

#[test]
fn racers_with_the_same_content_store_one_row_and_all_get_200() {
    race(|round, _| numbered(round));
}

#[test]
fn racers_with_conflicting_contents_store_one_of_them_and_all_get_200() {
    race(|round, racer| {
        let mut message = numbered(round);
        message["text"] = format!("by {racer}").into();
        message["from"] = format!("+{}", racer + 1).into();
        message
    });
}

#[test]
fn a_retry_races_its_own_first_try() {
    race(|round, racer| {
        let mut message = numbered(round);
        // Half of them send one content, half of them another.
        message["text"] = (racer % 2).to_string().into();
        message
    });
}
