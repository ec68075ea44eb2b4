//! What was erased is in no file of the database any more.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use lyftr::erasure::Wiped;
use lyftr::event::{Data, Event, Source};
use lyftr::message::Name;
use lyftr::store::Store;

use super::open;
use crate::store_events::erasure::{erase, of_person, wipe};
use crate::support::{eventually, message_with, parsed};

/// Which of the marks stand in a file beside the database, or in the database itself. Each mark has eight bytes and more.
pub(crate) fn found(path: &Path, marks: &[String]) -> Vec<String> {
    let begin = |bytes: &[u8]| u64::from_be_bytes(*bytes.first_chunk().unwrap());
    let mut by_begin: HashMap<u64, Vec<&str>> = HashMap::new();
    let mut is_any = vec![false; 1 << 16];
    for mark in marks {
        by_begin.entry(begin(mark.as_bytes())).or_default().push(mark);
        is_any[(begin(mark.as_bytes()) >> 48) as usize] = true;
    }
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(path.parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        // SQLite removes the log when the database is closed.
        let bytes = std::fs::read(&path).unwrap_or_default();
        let mut rest = &bytes[..];
        while rest.len() >= 8 {
            if is_any[usize::from(rest[0]) << 8 | usize::from(rest[1])]
                && let Some(marks) = by_begin.get(&begin(rest))
            {
                let here = marks.iter().filter(|mark| rest.starts_with(mark.as_bytes()));
                found.extend(here.map(|mark| format!("{mark} in {}", path.display())));
            }
            rest = &rest[1..];
        }
    }
    found.into_iter().collect()
}

/// What `lyftr check` finds, but for an index that is about to be made anew.
fn problems(path: &Path) -> Vec<String> {
    let (_, told) = super::upgrade::findings(path);
    told.into_iter().filter(|told| !told.starts_with("index: ")).collect()
}

/// Events whose keys, names, objects, texts and data hold a mark, of which every `nth` one is of the person who is to be erased. The keys
/// are in no order, so that their index is cut apart again and again.
fn marked(count: usize, nth: usize) -> (Vec<Event>, Vec<String>) {
    let (mut events, mut marks) = (Vec::new(), Vec::new());
    for n in 0..count {
        let is_theirs = n % nth == 0;
        let who = if is_theirs { "+999000111222" } else { "+4912345" };
        let key = format!("{:016x}-key", (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let text = format!(
            "{} text-{n:06} {}",
            if is_theirs { "Confidential" } else { "Other" },
            "ab ".repeat(n % 97)
        );
        let long = "0123456789".repeat(if n % 50 == 0 { 3_000 } else { 0 });
        let message = parsed(&message_with(&key, who, "2025-01-15T10:00:00Z", Some(&text)));
        let mut event = Event::of_message(message, None, None);
        if n % 3 == 0 {
            event.source = Source::new("shop").unwrap();
            event.r#ref = Some(Name::new(&format!("about-{n:06}")).unwrap());
            event.account = Some(Name::new(&format!("account-{n:06}")).unwrap());
            event.data = Some(Data::from_json(format!("\"data-{n:06} {long}\"")));
        }
        if is_theirs {
            marks.push(key);
            marks.push(format!("text-{n:06}"));
            if n % 3 == 0 {
                marks.extend([format!("account-{n:06}"), format!("about-{n:06}"), format!("data-{n:06}")]);
            }
        }
        events.push(event);
    }
    marks.extend(["Confidential".to_owned(), "+999000111222".to_owned()]);
    (events, marks)
}

fn stored(path: &Path, nth: usize) -> (Arc<dyn Store>, Vec<String>) {
    let store = open(path).unwrap();
    let (events, marks) = marked(3_000, nth);
    for batch in events.chunks(100) {
        store.insert(batch).unwrap();
    }
    assert!(found(path, &marks).len() >= marks.len(), "the search finds what is there");
    (store, marks)
}

#[test]
fn what_was_erased_is_in_no_file() {
    for nth in [1, 3, 17] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let (store, marks) = stored(&path, nth);
        assert_eq!(erase(store.as_ref(), &of_person("+999000111222")), 3_000_u64.div_ceil(nth as u64));
        wipe(store.as_ref());
        assert_eq!(found(&path, &marks), [""; 0], "{nth}");
        crate::support::settle(store.as_ref());
        assert_eq!(found(&path, &marks), [""; 0], "{nth}: the index was made anew");
        assert_eq!(problems(&path), [""; 0]);
        store.close();
        assert_eq!(found(&path, &marks), [""; 0], "{nth}: closed");
    }
}

/// A reader keeps the wiping of the first events from its end, until others are erased, too.
#[test]
fn what_is_erased_while_something_else_is_being_wiped_is_in_no_file_either() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let (store, marks) = stored(&path, 3);
    let reader = rusqlite::Connection::open(&path).unwrap();
    let number = |conn: &rusqlite::Connection, table| -> i64 {
        conn.query_row(&format!("SELECT count(*) FROM {table}"), (), |row| row.get(0)).unwrap()
    };
    reader.execute_batch("BEGIN").unwrap();
    assert_eq!(number(&reader, "event"), 3_000);
    let erasure = of_person("+999000111222");
    assert!((1..1_000).contains(&store.erase(&erasure, 0).unwrap().events));
    eventually("nothing but the log is left to be wiped", || {
        let wiped = store.wipe().unwrap();
        let now = rusqlite::Connection::open(&path).unwrap();
        (wiped == Wiped::Held && number(&now, "removed") == 0).then_some(())
    });
    erase(store.as_ref(), &erasure);
    drop(reader);
    wipe(store.as_ref());
    assert_eq!(found(&path, &marks), [""; 0]);
    assert_eq!(problems(&path), [""; 0]);
}

/// Of several erasures one after the other, each moves rows and keys about that the next one erases.
#[test]
fn what_was_moved_by_one_erasure_is_erased_by_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let store = open(&path).unwrap();
    let (mut events, _) = marked(3_000, usize::MAX);
    for (n, event) in events.iter_mut().enumerate() {
        event.from = Some(Name::new(&format!("person-{:02}!", n * 7919 % 10_007 % 20)).unwrap());
        event.text = Some(format!("text-{n:06} {}", "ab ".repeat(n % 97)).into());
    }
    for batch in events.chunks(100) {
        store.insert(batch).unwrap();
    }
    for person in 0..20 {
        let person = format!("person-{person:02}!");
        let of = events.iter().filter(|event| event.from.as_ref().unwrap().as_str() == person);
        let mut marks: Vec<String> = of
            .flat_map(|event| {
                let text = event.text.as_deref().unwrap().split(' ').next().unwrap().to_owned();
                [event.key.as_str().to_owned(), text]
            })
            .collect();
        marks.push(person.clone());
        assert!(erase(store.as_ref(), &of_person(&person)) > 50);
        wipe(store.as_ref());
        assert_eq!(found(&path, &marks), [""; 0], "{person}");
    }
    assert_eq!(problems(&path), [""; 0]);
}
