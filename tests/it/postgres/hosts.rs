//! Several servers in the URL, of which one does not answer.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use lyftr::store::postgres::{CONNECT_TIMEOUT, Postgres, Tuning};
use lyftr::store::{Error, Settings};
use rustix::process::Signal;

use super::{address, message};
use crate::support::postgres::{Cluster, Database};
use crate::support::process::Process;
use crate::support::{Fate, Messages as _, eventually, fates};

/// Takes connections and never says a word.
struct Silent(TcpListener);

impl Silent {
    fn new() -> Self {
        Self(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// How many have come since the last look.
    fn visits(&self) -> usize {
        self.0.set_nonblocking(true).unwrap();
        std::iter::from_fn(|| self.0.accept().ok()).count()
    }
}

/// Does not even take them: its queue is full.
fn full() -> (tokio::runtime::Runtime, tokio::net::TcpListener, Vec<TcpStream>, SocketAddr) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        socket.listen(1).unwrap()
    });
    let place = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&place, Duration::from_millis(200)) {
        waiting.push(stream);
    }
    (runtime, listener, waiting, place)
}

/// A server that is halted, until this is dropped: it could not end.
struct Stopped<'a>(&'a Cluster);

impl<'a> Stopped<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        cluster.signal(Signal::STOP);
        Self(cluster)
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.signal(Signal::CONT);
    }
}

fn end_all_sessions(database: &Database) {
    database.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
        &[],
    );
}

fn url(first: &str, database: &Database) -> String {
    format!("postgres://postgres@{first},{}/{}", database.host(), database.name())
}

#[test]
fn a_new_connection_takes_less_time_than_a_message_waits() {
    assert!(CONNECT_TIMEOUT * 5 <= lyftr::inbox::ACCEPT_TIMEOUT * 3);
}

#[test]
fn no_message_is_refused_while_the_first_of_two_servers_is_silent() {
    let silent = Silent::new();
    let database = Database::new();
    let url = url(&silent.address().to_string(), &database);
    let process = Process::builder().env("DATABASE_URL", &url).start();
    let mut client = process.client();
    for n in 0..10 {
        end_all_sessions(&database);
        // What was on its way on a session that ended is refused, and sent again.
        eventually("it is stored", || {
            (client.send(&crate::support::message(&n.to_string())).status == 200).then_some(())
        });
    }
    // One to begin with, and one for each connection that was made at the same time as the first.
    assert!((1..=4).contains(&silent.visits()), "one that failed is tried last");
    end_all_sessions(&database);
    eventually("it is stored", || {
        (client.send(&crate::support::message("last")).status == 200).then_some(())
    });
    assert_eq!(silent.visits(), 0);
    assert_eq!(database.number("SELECT count(*) FROM message"), 11);
}

#[test]
fn a_server_is_passed_over_whatever_way_it_does_not_answer_in() {
    let (_runtime, _listener, _waiting, full) = full();
    let silent = Silent::new();
    let refusing = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    // Too long for any resolver to ask.
    let no_name = "a".repeat(64);
    for first in [full.to_string(), silent.address().to_string(), refusing.to_string(), no_name] {
        let database = Database::new();
        let store = Postgres::open(&address(&url(&first, &database)), Tuning::default()).expect(&first);
        assert_eq!(fates(&store.insert_messages(&[message("a")]).unwrap()), [Fate::Created], "{first}");
    }
    // All of them, and little time.
    let database = Database::new();
    let all = format!("{full},{},{refusing}", silent.address());
    let tuning = Tuning {
        settings: Settings { timeout: Duration::from_secs(1), ..Settings::default() },
        ..Tuning::default()
    };
    let store = Postgres::open(&address(&url(&all, &database)), tuning).unwrap();
    assert_eq!(fates(&store.insert_messages(&[message("a")]).unwrap()), [Fate::Created]);
}

/// One of the `connect_timeout` that platforms put into their URLs.
#[test]
fn a_long_connect_timeout_does_not_keep_from_the_next_server() {
    let silent = Silent::new();
    let database = Database::new();
    let url = url(&silent.address().to_string(), &database) + "?connect_timeout=600";
    let store = Postgres::open(&address(&url), Tuning::default()).unwrap();
    assert_eq!(fates(&store.insert_messages(&[message("a")]).unwrap()), [Fate::Created]);
}

#[test]
fn a_server_that_falls_silent_costs_one_batch_and_not_one_for_each_connection() {
    let (first, second) = (Cluster::start(&[]), Database::new());
    let one = first.database_like(&second);
    let tuning = Tuning {
        settings: Settings { timeout: Duration::from_secs(1), ..Settings::default() },
        ..Tuning::default()
    };
    let url = format!("postgres://postgres@{},{}/{}", one.host(), second.host(), second.name());
    let store = Postgres::open(&address(&url), tuning).unwrap();
    Postgres::migrate(&address(&second.url()), tuning.settings).unwrap();
    let locked = one.session();
    locked.run("BEGIN; LOCK TABLE message IN ACCESS EXCLUSIVE MODE");
    std::thread::scope(|scope| {
        for n in 0..6 {
            let store = &store;
            scope.spawn(move || store.insert_messages(&[message(&format!("of many {n}"))]).unwrap());
        }
        eventually("there are many connections", || {
            (one.number("SELECT count(*) FROM pg_locks WHERE NOT granted") >= 6).then_some(())
        });
        locked.run("ROLLBACK");
    });
    let _silent = Stopped::new(&first);
    let Err(Error::Unavailable { reason, .. }) = store.insert_messages(&[message("lost")]) else { panic!() };
    assert_eq!(reason, "the database did not respond in time");
    assert_eq!(fates(&store.insert_messages(&[message("next")]).unwrap()), [Fate::Created]);
    assert_eq!(second.number("SELECT count(*) FROM message"), 1);
}

#[test]
fn a_url_may_ask_for_a_server_that_can_be_written() {
    let (cluster, writing) = (Cluster::start(&[]), Database::new());
    let reading = cluster.database_like(&writing);
    reading.query(&format!("ALTER DATABASE {} SET default_transaction_read_only = on", reading.name()), &[]);
    let both = |attributes: &str| {
        format!("postgres://postgres@{},{}/{}{attributes}", reading.host(), writing.host(), writing.name())
    };
    let store =
        Postgres::open(&address(&both("?target_session_attrs=read-write")), Tuning::default()).unwrap();
    assert_eq!(fates(&store.insert_messages(&[message("a")]).unwrap()), [Fate::Created]);
    assert_eq!(writing.number("SELECT count(*) FROM message"), 1);
    let random = both("?target_session_attrs=read-write&load_balance_hosts=random");
    let store = Postgres::open(&address(&random), Tuning::default()).unwrap();
    assert_eq!(fates(&store.insert_messages(&[message("b")]).unwrap()), [Fate::Created]);
}
