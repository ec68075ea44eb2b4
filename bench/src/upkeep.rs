//! What a store costs beside requests: what derived data writes while little arrives, whether it keeps up while much does, and
//! what erasing a person takes.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::http::Client;
use crate::load::{self, Ids, Load, Requests};
use crate::machine::written_bytes;
use crate::messages::sender;
use crate::options::Plan;
use crate::report::{
    BEHIND, CAUGHT_UP, ERASED_AFTER, Figures, READS_WHILE_ERASING, WRITTEN_WHILE_FULL, WRITTEN_WHILE_LITTLE,
};
use crate::server::{Answer, HOST, Kind, SECRET, Server, sqlite_url};
use crate::stores;

/// Messages of the person who is erased, about.
const ERASED: u64 = 1_000;
/// Ranks of senders among whom there is one with about so many.
const RANKS: std::ops::Range<u64> = 0..4_000;

/// Two messages a second arrive in a store of this size: what is written for each.
pub fn little(plan: &Plan, folder: &Path, size: u64) -> Result<Figures> {
    let server = Server::start(Kind::Lyftr, plan, &sqlite_url(folder))?;
    stores::wait_for_indexes(&server, size)?;
    let requests = Requests::new(HOST, SECRET, Ids::Random, plan.seed.wrapping_add(77));
    let load = Load {
        address: server.address,
        connections: 1,
        rate: Some(2.0),
        warm_up: Duration::from_secs(2),
        measured: Duration::from_secs(if plan.quick { 5 } else { 60 }),
    };
    let (tally, [before, after]) = load::run(&load, &requests, || written_bytes(server.pid()))?;
    server.stop()?;
    ensure!(tally.right_in_window > 0, "nothing was stored");
    let kib = (after - before) as f64 / 1024.0 / tally.right_in_window as f64;
    Ok(Figures::from([(WRITTEN_WHILE_LITTLE, kib)]))
}

/// As much arrives as is taken, for a minute: how far derived data is behind then, and when it no longer is.
pub fn full(plan: &Plan, folder: &Path, ids: Ids) -> Result<Figures> {
    let server = Server::start(Kind::Lyftr, plan, &sqlite_url(folder))?;
    let requests = Requests::new(HOST, SECRET, ids, plan.seed.wrapping_add(78));
    let (address, warm_up) = (server.address, Duration::ZERO);
    let measured = Duration::from_secs(if plan.quick { 3 } else { 60 });
    let load = Load { address, connections: 64, rate: None, warm_up, measured };
    let (tally, _) = load::run(&load, &requests, || Ok(()))?;
    let end = Instant::now();
    let behind = stores::behind(&server)?;
    while stores::behind(&server)? > 0 {
        thread::sleep(Duration::from_millis(20));
    }
    let caught_up = end.elapsed().as_secs_f64();
    let kib = written_bytes(server.pid())? as f64 / 1024.0 / tally.right as f64;
    server.stop()?;
    Ok(Figures::from([(BEHIND, behind as f64), (CAUGHT_UP, caught_up), (WRITTEN_WHILE_FULL, kib)]))
}

/// Erases about a thousand messages of one person: how long it takes until nothing is behind, and the longest that a first page
/// takes meanwhile.
pub fn erase(plan: &Plan, folder: &Path, size: u64) -> Result<Figures> {
    let server = Server::start(Kind::Lyftr, plan, &sqlite_url(folder))?;
    stores::wait_for_indexes(&server, size)?;
    let mut client = Client::connect(server.address)?;
    let person = person(&mut client)?;
    let done = AtomicBool::new(false);
    let (erased_after, longest) = thread::scope(|scope| -> Result<_> {
        let reads = scope.spawn(|| -> Result<f64> {
            let mut client = Client::connect(server.address)?;
            let mut longest = 0.0_f64;
            while !done.load(Relaxed) {
                let begin = Instant::now();
                client.get("/messages")?;
                longest = longest.max(begin.elapsed().as_secs_f64() * 1e3);
            }
            Ok(longest)
        });
        let begin = Instant::now();
        let answer =
            client.delete(&format!("/events?from={}", person.replace('+', "%2B")), SECRET).map(str::to_owned);
        let behind = || -> Result<()> {
            while stores::behind(&server)? > 0 {
                thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        };
        let followed = answer.and_then(|answer| behind().map(|()| answer));
        let erased_after = begin.elapsed().as_secs_f64();
        done.store(true, Relaxed);
        let longest = reads.join().ok().context("a thread panicked")??;
        eprintln!("{size} messages, erasing {person}: {erased_after:.2} s, {}", followed?);
        Ok((erased_after, longest))
    })?;
    ensure!(total_of(&mut client, &person)? == 0, "messages of the person are left");
    server.stop()?;
    Ok(Figures::from([(ERASED_AFTER, erased_after), (READS_WHILE_ERASING, longest)]))
}

/// The sender whose number of messages is nearest to [`ERASED`]; totals fall with the rank.
fn person(client: &mut Client) -> Result<String> {
    let (mut more, mut less) = (RANKS.start, RANKS.end);
    while less - more > 1 {
        let middle = more.midpoint(less);
        if total_of(client, &sender(middle))? > ERASED { more = middle } else { less = middle }
    }
    Ok(sender(less))
}

fn total_of(client: &mut Client, sender: &str) -> Result<u64> {
    let body = client.get(&format!("/messages?limit=1&from={}", sender.replace('+', "%2B")))?;
    Ok(serde_json::from_str::<Answer>(body)?.total)
}
