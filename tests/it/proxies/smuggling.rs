//! No request hides in another from a proxy: what Lyftr answers is what the proxy has passed on, and everybody
//! gets the answer to his own request.

use std::time::{Duration, Instant};

use super::attacks::{Attack, attacks};
use super::program::{Program, Proxy};
use super::statuses;
use crate::support::client::{Connection, request};
use crate::support::eventually;
use crate::support::service::Service;

/// How long an attacker waits for an answer before he says that nothing more will come. Some attacks are half a
/// request, by the proxy's reading.
const PATIENCE: Duration = Duration::from_millis(50);
/// Between the header and the body, where they come one after the other: nearly always long enough for the
/// header to be read alone.
const PAUSE: Duration = Duration::from_millis(2);

#[test]
fn no_request_hides_from_nginx() {
    nothing_hides_from(Program::Nginx);
}

#[test]
fn no_request_hides_from_nginx_that_passes_on_bodies_as_they_come() {
    nothing_hides_from(Program::NginxStreaming);
}

#[test]
fn no_request_hides_from_haproxy() {
    nothing_hides_from(Program::Haproxy);
}

fn nothing_hides_from(program: Program) {
    let service = Service::start();
    let Some(proxy) = Proxy::start(program, service.address()) else { return };
    let attacks = attacks();
    for (number, attack) in attacks.iter().enumerate() {
        let seen = proxy.seen();
        let answers = carry_out(&proxy, attack, number % 2 == 1);
        eventually(
            &format!("{program:?} has seen as many requests as it answers: {}", attack.text()),
            || (proxy.seen() >= seen + answers.len()).then_some(()),
        );
        assert_all_get_their_own_answer(&proxy, number, attack);
    }
    let log = service.stop().values();
    for line in &log {
        let id = line["request_id"].as_str().unwrap();
        assert!(!id.starts_with("smuggled"), "{program:?} has not seen what Lyftr answered: {line}");
    }
    eventually("the proxy tells of every request that Lyftr answered", || {
        (proxy.passed_on() >= log.len()).then_some(())
    });
    println!("{program:?}: {} attacks, {} requests reached Lyftr", attacks.len(), log.len());
}

/// Without this, a hidden request that nobody could have answered would prove nothing.
#[test]
fn a_request_that_hides_would_be_noticed() {
    let service = Service::start();
    let plain = attacks().into_iter().find(Attack::is_plain).expect("one that hides nothing");
    let mut connection = service.connect();
    connection.write([plain.header.as_slice(), &plain.body].concat());
    connection.end_writing();
    assert_eq!(statuses(&connection.read_all()), [401, 200]);
    let log = service.stop().values();
    let hidden = log.iter().find(|line| line["request_id"].as_str().unwrap().starts_with("smuggled"));
    assert_eq!(hidden.expect("a line of it")["path"], "/metrics");
}

/// Sends an attack, the body perhaps a little after the header; the statuses of all answers.
fn carry_out(proxy: &Proxy, attack: &Attack, in_pieces: bool) -> Vec<u16> {
    let mut connection = proxy.connect();
    if in_pieces {
        drop(connection.try_write(&attack.header));
        std::thread::sleep(PAUSE);
        drop(connection.try_write(&attack.body));
    } else {
        drop(connection.try_write([attack.header.as_slice(), &attack.body].concat()));
    }
    let begin = Instant::now();
    while !connection.has_arrived() && begin.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_micros(200));
    }
    connection.end_writing();
    statuses(&connection.read_all())
}

/// Several innocent clients at once, so that they come by the connection that the attack went over.
fn assert_all_get_their_own_answer(proxy: &Proxy, number: usize, attack: &Attack) {
    let ids = [1, 2].map(|n| format!("victim-{number:04}-{n}"));
    let mut victims: Vec<(Connection, &String)> = Vec::new();
    for id in &ids {
        let mut connection = proxy.connect();
        connection.write(request("GET", "/messages?limit=1", &[("X-Request-ID", id)], b""));
        victims.push((connection, id));
    }
    for (mut connection, id) in victims {
        let reply = connection.reply("GET", "/messages?limit=1");
        assert_eq!((reply.status, reply.request_id()), (200, id.as_str()), "after {}", attack.text());
    }
}
