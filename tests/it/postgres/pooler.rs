//! A pooler between Lyftr and the server, which lends out its connections by transaction: nothing that a promise rests on
//! may be a thing of the session. That the answers are the same is tested in `store_contract.rs`.

use std::time::Duration;

use lyftr::query::{Filter, Page};
use lyftr::store::postgres::{Postgres, Tuning};
use lyftr::store::{Error, Settings, Store};

use super::{address, message, refusal};
use crate::support::pooler::{Pooler, with_prepared_and_without};
use crate::support::postgres::{Database, Session};
use crate::support::{Fate, Messages as _, eventually, fates, settle};

fn open(url: &str, tuning: Tuning) -> Postgres {
    Postgres::open(&address(url), tuning).unwrap()
}

/// Notes what each batch runs with.
fn watch(database: &Database) {
    database.session().run(
        "CREATE TABLE seen (pid integer, settings text);
         CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO public.seen SELECT pg_backend_pid(), concat_ws(' ', current_setting('synchronous_commit'),
                 current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout'),
                 current_setting('lock_timeout'), current_setting('search_path'),
                 current_setting('transaction_isolation'), current_setting('jit'));
             RETURN NULL;
         END $$;
         CREATE TRIGGER see AFTER INSERT ON event FOR EACH STATEMENT EXECUTE FUNCTION see()",
    );
}

fn settings_seen(database: &Database) -> Vec<String> {
    let rows = database.query("SELECT DISTINCT settings FROM public.seen", &[]);
    rows.iter().map(|row| row.get(0)).collect()
}

#[test]
fn each_batch_brings_what_it_rests_on_also_where_the_next_one_meets_another_session() {
    for prepared in with_prepared_and_without() {
        let Some(pooler) = Pooler::start(&["pool_mode = transaction", prepared]) else { return };
        let database = Database::new();
        // One that is made before the change, and stays; a new one would be refused.
        let store = open(
            &pooler.url(&database),
            Tuning { settings: Settings { connections: 1, ..Settings::default() }, ..Tuning::default() },
        );
        watch(&database);
        // The sessions that the pooler begins from now on are of another kind than the one that was looked at.
        let name = database.name();
        for setting in ["synchronous_commit = off", "statement_timeout = '1h'", "search_path = nowhere"] {
            database.query(&format!("ALTER DATABASE {name} SET {setting}"), &[]);
        }
        pooler.begin_sessions_anew();
        // The pooler needs two while another client has one.
        let other = Session::open(&pooler.url(&database));
        other.run("BEGIN");
        store.insert_messages(&[message("while another one waits")]).unwrap();
        other.run("COMMIT");
        for n in 0..20 {
            let batch = [message(&n.to_string()), message("of all")];
            assert_eq!(fates(&store.insert_messages(&batch).unwrap())[0], Fate::Created);
            store.stats().unwrap();
        }
        settle(&store);
        assert_eq!(store.list(&Filter::default(), &Page::default()).unwrap().total, 22);
        let expected = "on 10s 10s 0 \"$user\", public read committed off";
        assert_eq!(settings_seen(&database), [expected], "{prepared}");
        let sessions = database.number("SELECT count(DISTINCT pid) FROM public.seen");
        assert!(sessions > 1, "one session proves nothing");
        store.ready().unwrap();
    }
}

/// `pg_dump` is one that leaves a search path behind.
#[test]
fn a_session_is_used_whatever_others_left_in_it_and_is_left_as_it_was() {
    let settings = ["pool_mode = transaction", "default_pool_size = 1", "server_round_robin = 0"];
    let Some(pooler) = Pooler::start(&settings) else { return };
    let database = Database::new();
    let other = Session::open(&pooler.url(&database));
    other.run("SET statement_timeout = '7s'; SET synchronous_commit = off; SET search_path = nowhere");
    let store = open(&pooler.url(&database), Tuning::default());
    watch(&database);
    store.insert_messages(&[message("a")]).unwrap();
    settle(&store);
    assert_eq!(store.stats().unwrap().total_messages, 1);
    assert_eq!(settings_seen(&database), ["on 10s 10s 0 \"$user\", public read committed off"]);
    for (setting, theirs) in [
        ("statement_timeout", "7s"),
        ("synchronous_commit", "off"),
        ("search_path", "nowhere"),
        ("jit", "on"),
    ] {
        assert_eq!(other.show(setting), theirs, "{setting}");
    }
}

#[test]
fn a_batch_that_takes_too_long_is_ended_behind_a_pooler_too() {
    let Some(pooler) = Pooler::shared() else { return };
    let database = Database::new();
    let tuning = Tuning {
        settings: Settings { timeout: Duration::from_millis(300), ..Settings::default() },
        ..Tuning::default()
    };
    let store = open(&pooler.url(&database), tuning);
    let other = database.session();
    other.run("BEGIN; LOCK TABLE message IN ACCESS EXCLUSIVE MODE");
    for _ in 0..4 {
        match store.insert_messages(&[message("a")]) {
            Err(Error::Unavailable { reason, .. }) => {
                assert_eq!(reason, "query timed out");
            }
            other => panic!("{other:?}"),
        }
    }
    eventually("the server has ended them all", || {
        (database.number("SELECT count(*) FROM pg_locks WHERE NOT granted") == 0).then_some(())
    });
    other.run("ROLLBACK");
    assert_eq!(fates(&store.insert_messages(&[message("a")]).unwrap()), [Fate::Created]);
}

#[test]
fn a_pooler_by_statement_is_refused_in_words() {
    let Some(pooler) = Pooler::start(&["pool_mode = statement"]) else { return };
    let refused = refusal(&pooler.url(&Database::new()));
    assert!(refused.contains("uses statement pooling"), "{refused}");
    assert!(refused.contains("set pool_mode to transaction or session"), "{refused}");
}

#[test]
fn a_pooler_by_session_works() {
    let Some(pooler) = Pooler::start(&["pool_mode = session"]) else { return };
    let database = Database::new();
    // As many as the pooler has for a database.
    let store = open(
        &pooler.url(&database),
        Tuning { settings: Settings { connections: 3, ..Settings::default() }, ..Tuning::default() },
    );
    assert_eq!(fates(&store.insert_messages(&[message("a")]).unwrap()), [Fate::Created]);
    settle(&store);
    assert_eq!(store.stats().unwrap().total_messages, 1);
}

/// Else the tables would be made somewhere else.
#[test]
fn options_that_a_pooler_keeps_back_are_refused_in_words() {
    let database = Database::new();
    database.query("CREATE SCHEMA inbox", &[]);
    let options = "?options=-c%20search_path=inbox,public";
    let store = open(&(database.url() + options), Tuning::default());
    store.insert_messages(&[message("a")]).unwrap();
    assert_eq!(database.number("SELECT count(*) FROM inbox.message"), 1);
    drop(store);
    let Some(pooler) = Pooler::start(&["pool_mode = transaction", "ignore_startup_parameters = options"])
    else {
        return;
    };
    let refused = refusal(&(pooler.url(&database) + options));
    assert!(refused.contains("options in the URL do not reach the server"), "{refused}");
}
