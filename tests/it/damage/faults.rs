//! A store that fails, panics or hangs.

use super::{assert_refused, ids};
use crate::support::message;
use crate::support::service::{Fault, Service};

#[test]
fn a_batch_that_fails_is_not_stored_and_the_next_one_is() {
    let service = Service::start();
    let mut client = service.client();
    for fault in [Fault::Unavailable, Fault::Failed, Fault::Panic] {
        let id = format!("{fault:?}");
        service.faulty().inserts.nth(1, fault);
        let total = client.json("/messages")["total"].as_u64().unwrap();
        assert_refused(&client.send(&message(&id)));
        assert_eq!(client.json("/messages")["total"], total);
        client.store(&message(&format!("after {id}")));
        client.store(&message(&id));
        assert_eq!(client.json("/messages")["total"], total + 2);
        assert_eq!(client.get("/health/live").status, 200);
    }
}

#[test]
fn a_lost_answer_to_a_commit_is_no_200_and_the_retry_settles_it() {
    let service = Service::start();
    let mut client = service.client();
    service.faulty().inserts.nth(1, Fault::LostAnswer);
    assert_refused(&client.send(&message("m")));
    client.store(&message("m"));
    assert_eq!(client.json("/messages")["total"], 1);
}

#[test]
fn reads_and_checks_that_fail_are_503_and_the_next_ones_are_not() {
    let service = Service::start();
    let mut client = service.client();
    for fault in [Fault::Unavailable, Fault::Failed, Fault::Panic] {
        for target in ["/messages", "/stats"] {
            service.faulty().reads.nth(1, fault);
            assert_refused(&client.get(target));
            assert_eq!(client.get(target).status, 200);
        }
        service.faulty().checks.nth(1, fault);
        assert_eq!(client.get("/health/ready").status, 503);
        assert_eq!(client.get("/health/ready").status, 200);
    }
}

#[test]
fn a_store_that_hangs_is_said_to_and_what_it_stores_later_is_stored_once() {
    let service = Service::start();
    let mut client = service.client();
    service.faulty().inserts.nth(1, Fault::Block);
    assert_refused(&client.send(&message("m")));
    assert_eq!(client.get("/health/live").status, 200);
    assert_eq!(client.json("/messages")["total"], 0);
    service.faulty().heal();
    client.store(&message("m"));
    assert_eq!(ids(&mut client), ["m"]);
}
