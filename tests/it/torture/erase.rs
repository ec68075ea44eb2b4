//! `kill -9` in the middle of erasures, while senders are at work: what was acknowledged and not erased is there, what was
//! erased is nowhere, nor in the files, and does not come back.

use std::path::Path;
use std::time::Instant;

use fastrand::Rng;

use super::Torture;
use crate::store_sqlite::erasure::found;
use crate::support::client::{Client, Connection};
use crate::support::process::Process;
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
    let mut process = start(folder.path(), &load);
    let mut erased: Vec<Person> = Vec::new();
    torture.run(&load, torture.rounds, |round, rng| {
        let person = Person::new(round, rng);
        person.store(&mut Client::new(load.address));
        let mut link = Connection::open(load.address);
        let target = person.target();
        link.write(format!("DELETE {target} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"));
        pause(rng, 60);
        process.kill9();
        let begin = Instant::now();
        process = start(folder.path(), &load);
        let healing = begin.elapsed();
        erase(&mut Client::new(load.address), &target);
        erased.push(person);
        // Senders try again, long after as well.
        let again = &erased[rng.usize(..erased.len())];
        again.store(&mut Client::new(load.address));
        (healing, assert_nowhere(&load, &erased))
    });
    torture.judgement += load.check();
    let marks: Vec<String> = erased.iter().flat_map(Person::marks).collect();
    let database = process.database();
    eventually("nothing is left in the files", || found(&database, &marks).is_empty().then_some(()));
    assert_eq!(process.terminate().code(), Some(0));
    assert_eq!(found(&database, &marks), [""; 0]);
    let problems = Process::builder().folder(folder.path()).args(&["check"]).run();
    assert_eq!(problems.code(), Some(0), "{} {}", problems.stdout, problems.stderr);
    torture.end();
}

fn start(folder: &Path, load: &Load) -> Process {
    let builder = Process::builder().folder(folder).env("PORT", &load.address.port().to_string());
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
