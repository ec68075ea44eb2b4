//! `kill -9` in the middle of erasures, while senders are at work: what was acknowledged and not erased is there, what was
//! erased is nowhere, nor in the files, and does not come back.

use std::time::Instant;

use fastrand::Rng;

use super::Torture;
use crate::store_sqlite::erasure::found;
use crate::support::client::{Client, Connection};
use crate::support::postgres::Cluster;
use crate::support::process::{Builder, Process};
use crate::support::senders::{Judgement, Load, pause};
use crate::support::{eventually, lasting_port, message_with};

const TOKEN: &str = "a-token-for-whoever-erases";
/// Messages of a person who is erased.
const EACH: usize = 150;

/// Somebody who is erased, and all messages from them.
struct Person {
    number: String,
    ids: Vec<String>,
}

impl Person {
    fn new(nth: u64, rng: &mut Rng) -> Self {
        let ids = (0..EACH).map(|_| format!("{:016x}-of-{nth:06}", rng.u64(..))).collect();
        Self { number: format!("+99900{nth:08}"), ids }
    }

    fn store(&self, client: &mut Client) {
        for id in &self.ids {
            let text = format!("said-{id}");
            client.store(&message_with(id, &self.number, "2025-01-15T10:00:00Z", Some(&text)));
        }
    }

    fn target(&self) -> String {
        format!("/events?person=%2B{}", &self.number[1..])
    }

    /// What may be in no file any more.
    fn marks(&self) -> Vec<String> {
        let texts = self.ids.iter().map(|id| format!("said-{id}"));
        self.ids.iter().cloned().chain(texts).chain([self.number.clone()]).collect()
    }
}

#[test]
fn erased_messages_are_nowhere_and_all_others_survive_kill_9() {
    let mut torture = Torture::new("erase", 12);
    let folder = tempfile::tempdir().unwrap();
    let load = Load::new(([127, 0, 0, 1], lasting_port()).into());
    let start = || start(Process::builder().folder(folder.path()), &load);
    let mut process = start();
    let erased = torture_erasures(&mut torture, &load, |_| {
        process.kill9();
        process = start();
    });
    let marks: Vec<String> = erased.iter().flat_map(Person::marks).collect();
    let database = process.database();
    eventually("nothing is left in the files", || found(&database, &marks).is_empty().then_some(()));
    assert_eq!(process.terminate().code(), Some(0));
    assert_eq!(found(&database, &marks), [""; 0]);
    let problems = Process::builder().folder(folder.path()).args(&["check"]).run();
    assert_eq!(problems.code(), Some(0), "{} {}", problems.stdout, problems.stderr);
    torture.end();
}

/// In turn the service is killed and all of PostgreSQL. The rows are looked at, since the files are the server's affair.
#[test]
fn erased_messages_are_in_no_row_of_postgresql_and_all_others_survive_kill_9() {
    let mut torture = Torture::new("erase", 6);
    let mut cluster = Cluster::start(&[]);
    let database = cluster.database();
    let load = Load::new(([127, 0, 0, 1], lasting_port()).into());
    let start = || start(Process::builder().env("DATABASE_URL", &database.url()), &load);
    let mut process = start();
    let erased = torture_erasures(&mut torture, &load, |round| {
        if round % 2 == 0 {
            process.kill9();
            process = start();
        } else {
            cluster.kill9();
            cluster.run();
        }
    });
    let mut client = Client::new(load.address);
    eventually("everything is derived", || {
        let behind = ["store_index_behind_messages", "store_search_behind_messages"];
        behind.iter().all(|series| client.metric(series) == 0.0).then_some(())
    });
    assert_eq!(client.json("/stats")["total_messages"], database.number("SELECT count(*) FROM message"));
    assert_eq!(process.terminate().code(), Some(0));
    for person in &erased {
        let left = "SELECT (SELECT count(*) FROM event WHERE key = ANY ($2) OR sender = $1)
                         + (SELECT count(*) FROM message_text WHERE message_id = ANY ($2) OR sender = $1)
                         + (SELECT count(*) FROM sender_total WHERE number = $1)";
        assert_eq!(database.query(left, &[&person.number, &person.ids])[0].get::<_, i64>(0), 0);
    }
    let made_anew = "SELECT count(*) FROM derived, event_change WHERE is_void OR last_value <> 1";
    assert_eq!(database.number(made_anew), 0);
    let problems = Process::builder().env("DATABASE_URL", &database.url()).args(&["check"]).run();
    assert_eq!(problems.code(), Some(0), "{} {}", problems.stdout, problems.stderr);
    torture.end();
}

/// In each round a person is erased, `kill` kills somebody in the middle and starts them again, and the erasure is repeated.
/// Returns those who were erased.
fn torture_erasures(torture: &mut Torture, load: &Load, mut kill: impl FnMut(u64)) -> Vec<Person> {
    let mut erased: Vec<Person> = Vec::new();
    torture.run(load, torture.rounds, |round, rng| {
        let person = Person::new(round, rng);
        person.store(&mut Client::new(load.address));
        let mut link = Connection::open(load.address);
        let target = person.target();
        link.write(format!("DELETE {target} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"));
        pause(rng, 60);
        let begin = Instant::now();
        kill(round);
        let healing = begin.elapsed();
        erase(&mut Client::new(load.address), &target);
        erased.push(person);
        // Senders try again, long after as well.
        let again = &erased[rng.usize(..erased.len())];
        again.store(&mut Client::new(load.address));
        (healing, assert_nowhere(load, &erased))
    });
    torture.judgement += load.check();
    erased
}

fn start(builder: Builder, load: &Load) -> Process {
    let builder = builder.env("PORT", &load.address.port().to_string());
    let process = builder.env("LOG_LEVEL", "ERROR").env("ADMIN_TOKEN", TOKEN).spawn();
    eventually("the service listens", || std::net::TcpStream::connect(load.address).ok());
    process
}

/// Erases, over and over until the service says that it is done.
fn erase(client: &mut Client, target: &str) {
    let token = format!("Bearer {TOKEN}");
    eventually("everything is erased", || {
        let reply = client.request("DELETE", target, &[("Authorization", &token)], b"");
        (reply.status == 200).then_some(())
    });
}

fn assert_nowhere(load: &Load, erased: &[Person]) -> Judgement {
    let mut client = Client::new(load.address);
    for person in erased {
        let target = person.target().replace("person", "from");
        assert_eq!(client.json(&target)["data"].as_array().unwrap().len(), 0, "{target}");
        assert_eq!(client.json(&target.replace("/events", "/messages"))["total"], 0, "{target}");
        for id in &person.ids[..3] {
            assert_eq!(client.json(&format!("/messages?id={id}"))["total"], 0, "{id}");
        }
    }
    Judgement::default()
}
