//! Derived data in SQLite, `app.db-index`: whatever happens to that file, or to the messages under it, every read gives
//! the messages.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use lyftr::message::{Message, Timestamp};
use lyftr::query::{self, Page, PageCursor};
use lyftr::store::sqlite::{Sqlite, Tuning};
use lyftr::store::{Behind, Store};
use rusqlite::{Connection, OpenFlags};
use serde_json::json;
use tempfile::TempDir;

use crate::support::reference::{Reference, Wanted};
use crate::support::{Messages as _, eventually, parsed, settle};

mod manual_changes;

const PAGE_BYTES: usize = 4096;
/// The first byte of a leaf of a table (SQLite's file format, section 1.6).
const TABLE_LEAF: u8 = 13;
/// So many messages that the index has many pages, more than its caches hold.
const MANY: usize = 1500;

/// A database in a folder that goes away with it.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// One with messages and their whole index, closed.
    fn filled() -> Self {
        let place = Self::new();
        let store = place.open();
        store.insert_messages(&messages(0..MANY)).unwrap();
        settle(&store);
        store.close();
        assert!(pages(&place.index()) > 40, "{} pages", pages(&place.index()));
        place
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("app.db")
    }

    fn index(&self) -> PathBuf {
        self.folder.path().join("app.db-index")
    }

    /// Small caches, so that what is in the file is read from there, and small parts, so that it soon has what arrives.
    fn open(&self) -> Sqlite {
        let tuning = Tuning { index_cache_kib: 64, part_messages: 50, ..Tuning::default() };
        Sqlite::open(&self.database(), tuning).unwrap()
    }

    /// A connection for manual changes to the messages.
    fn past_lyftr(&self) -> Connection {
        Connection::open(self.database()).unwrap()
    }

    /// Every message, straight from its row.
    fn rows(&self) -> Reference {
        let database = self.past_lyftr();
        let mut select = database
            .prepare("SELECT message_id, sender, recipient, ts_second, ts_nanosecond, ts_digits, text FROM message")
            .unwrap();
        let rows = select.query_map((), |row| {
            let ts = Timestamp::from_parts(row.get(3)?, row.get(4)?, row.get(5)?).unwrap();
            let [id, from, to]: [String; 3] = [row.get(0)?, row.get(1)?, row.get(2)?];
            Ok(made(&id, &from, &to, &ts.to_string(), row.get::<_, Option<String>>(6)?.as_deref()))
        });
        rows.unwrap().map(Result::unwrap).collect()
    }

    /// Every read gives what the rows say.
    #[track_caller]
    fn assert_agrees(&self, store: &dyn Store) {
        let rows = self.rows();
        for wanted in queries() {
            let matching: Vec<&Message> = rows.matching(&wanted).collect();
            let last = matching.len().saturating_sub(1);
            for (offset, descending) in [(0, false), (last / 3, true), (last + 7, last.is_multiple_of(2))] {
                let offset = u64::try_from(offset).unwrap();
                rows.assert_page(store, &wanted, &Page { limit: 7, offset, descending, cursor: None });
            }
            if let Some(middle) = matching.get(last / 2) {
                let cursor = Some(PageCursor::After(query::Place::of(middle)));
                rows.assert_page(store, &wanted, &Page { limit: 7, cursor, ..Page::default() });
            }
        }
        rows.assert_stats(store);
    }

    /// Whether there is an index, sound, and of all the messages that are there now.
    fn is_indexed(&self, store: &dyn Store) -> bool {
        let count = |conn: &Connection, sql: &str| conn.query_row(sql, (), |row| row.get::<_, i64>(0));
        let sound = || -> rusqlite::Result<bool> {
            let index = Connection::open_with_flags(self.index(), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            let sound: String = index.query_row("PRAGMA integrity_check", (), |row| row.get(0))?;
            let made_from: Vec<u8> = index.query_row("SELECT edition FROM state", (), |row| row.get(0))?;
            let past_lyftr = self.past_lyftr();
            let edition: Vec<u8> = past_lyftr.query_row("SELECT name FROM edition", (), |row| row.get(0))?;
            let entries = count(&index, "SELECT count(*) FROM entry")?;
            let senders = count(&index, "SELECT coalesce(sum(messages), 0) FROM sender")?;
            let upto: i64 = index.query_row("SELECT upto FROM state", (), |row| row.get(0))?;
            let sql = format!("SELECT count(*) FROM message WHERE seq <= {upto}");
            let (rows, all) =
                (count(&past_lyftr, &sql)?, count(&past_lyftr, "SELECT count(*) FROM message")?);
            let (is_whole, has_most) = (entries == 4 * rows && senders == rows, all - rows < 50);
            Ok(sound == "ok" && made_from == edition && is_whole && has_most)
        };
        store.backlog().behind == Behind::default() && sound().unwrap_or(false)
    }

    /// Every read is right all the time until there is an index again, and after.
    #[track_caller]
    fn assert_heals(&self, store: &dyn Store) {
        eventually("there is a sound index of the messages", || {
            self.assert_agrees(store);
            self.is_indexed(store).then_some(())
        });
        self.assert_agrees(store);
        // It is as good for what arrives from now on.
        store.insert_messages(&messages(MANY..MANY + 20)).unwrap();
        self.assert_agrees(store);
        settle(store);
        self.assert_agrees(store);
    }
}

fn queries() -> Vec<Wanted> {
    let to = |to: &str| Wanted { to: Some(to.into()), ..Wanted::default() };
    let since = Some("2025-01-15T10:10:00Z".to_owned());
    let until = Some("2025-01-15T10:30:00.5Z".to_owned());
    vec![
        Wanted::default(),
        Wanted { since: since.clone(), until: until.clone(), ..Wanted::default() },
        Wanted::from("+3"),
        to("+101"),
        Wanted { since: since.clone(), ..Wanted::from("+1") },
        Wanted { until: until.clone(), ..Wanted { from: Some("+4".into()), ..to("+100") } },
        Wanted::from("+77"),
        Wanted::search("ITEM"),
        Wanted::search("number 17"),
        Wanted::search("r9"),
        Wanted::search("nowhere"),
        Wanted { since, until, ..Wanted::search("колеса") },
        Wanted { search: Some("red".into()), ..Wanted::from("+2") },
    ]
}

fn made(id: &str, from: &str, to: &str, ts: &str, text: Option<&str>) -> Message {
    parsed(&json!({"message_id": id, "from": from, "to": to, "ts": ts, "text": text}))
}

/// The n-th messages, whose order of arrival is not that of time, and whose instants are shared by a few.
fn messages(range: std::ops::Range<usize>) -> Vec<Message> {
    let nth = |n: usize| {
        let place = n * 7 % 10_007;
        let ts = format!("2025-01-15T10:{:02}:{:02}Z", place / 4 / 60, place / 4 % 60);
        let end = match n % 20 {
            1 => "КОЛЁСА",
            2..6 => "Колеса",
            _ => "r9",
        };
        let text = format!("{} item number {n}; {end}", ["Red", "blue"][n % 2]);
        let text = (!n.is_multiple_of(10)).then_some(text.as_str());
        made(&format!("m{place}"), &format!("+{}", n % 5 + 1), &format!("+{}", 100 + n % 3), &ts, text)
    };
    range.map(nth).collect()
}

/// Overwrites a part of a file, which need not be all there is in it.
fn overwrite(path: &Path, pages: std::ops::Range<usize>) {
    let mut file = File::options().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start((pages.start * PAGE_BYTES) as u64)).unwrap();
    file.write_all(&vec![0xa5; pages.len() * PAGE_BYTES]).unwrap();
}

fn pages(path: &Path) -> usize {
    usize::try_from(std::fs::metadata(path).unwrap().len()).unwrap() / PAGE_BYTES
}

/// Damages the index of a closed database, and has it opened.
#[track_caller]
fn assert_survives(place: &Place, damage: impl FnOnce(&Path)) {
    damage(&place.index());
    let store = place.open();
    place.assert_heals(&store);
    store.close();
    let store = place.open();
    place.assert_agrees(&store);
}

#[test]
fn an_index_that_is_whole_is_not_made_anew() {
    let place = Place::filled();
    let held = File::open(place.index()).unwrap();
    let store = place.open();
    settle(&store);
    place.assert_agrees(&store);
    assert!(place.is_indexed(&store));
    assert_eq!(held.metadata().unwrap().nlink(), 1, "it is the same file");
}

#[test]
fn an_index_that_was_deleted_is_made_anew() {
    assert_survives(&Place::filled(), |index| std::fs::remove_file(index).unwrap());
}

#[test]
fn an_index_that_was_cut_off_is_made_anew() {
    assert_survives(&Place::filled(), |index| {
        let file = File::options().write(true).open(index).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    });
}

#[test]
fn an_index_with_garbage_in_the_middle_is_made_anew() {
    assert_survives(&Place::filled(), |index| {
        let pages = pages(index);
        overwrite(index, pages / 4..pages * 3 / 4);
    });
}

#[test]
fn an_index_with_garbage_behind_its_first_page_is_made_anew() {
    assert_survives(&Place::filled(), |index| overwrite(index, 1..pages(index)));
}

#[test]
fn an_empty_file_in_the_place_of_the_index_gives_way() {
    assert_survives(&Place::filled(), |index| drop(File::create(index).unwrap()));
}

#[test]
fn another_file_in_the_place_of_the_index_gives_way() {
    assert_survives(&Place::filled(), |index| {
        std::fs::write(index, "only some text\n".repeat(9999)).unwrap();
    });
}

#[test]
fn another_database_in_the_place_of_the_index_gives_way() {
    assert_survives(&Place::filled(), |index| {
        std::fs::remove_file(index).unwrap();
        Connection::open(index)
            .unwrap()
            .execute_batch("PRAGMA user_version = 1; CREATE TABLE a (b)")
            .unwrap();
    });
}

#[test]
fn the_index_of_another_database_gives_way() {
    let (place, other) = (Place::new(), Place::filled());
    let store = place.open();
    store.insert_messages(&messages(100..MANY)).unwrap();
    store.insert_messages(&messages(0..100)).unwrap();
    settle(&store);
    store.close();
    assert_survives(&place, |index| assert!(std::fs::copy(other.index(), index).unwrap() > 0));
}

#[test]
fn an_index_that_is_deleted_while_it_is_open_is_made_anew() {
    for endings in [&[""][..], &["", "-wal", "-shm"]] {
        let place = Place::filled();
        let store = place.open();
        place.assert_agrees(&store);
        for ending in endings {
            // What there is of them.
            drop(std::fs::remove_file(format!("{}{ending}", place.index().display())));
        }
        place.assert_agrees(&store);
        eventually("there is a file again", || place.index().exists().then_some(()));
        place.assert_heals(&store);
    }
}

#[test]
fn an_index_that_is_damaged_while_it_is_open_is_made_anew() {
    for middle in [false, true] {
        let place = Place::filled();
        let store = place.open();
        settle(&store);
        place.assert_agrees(&store);
        let held = File::open(place.index()).unwrap();
        Connection::open(place.index())
            .unwrap()
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))
            .unwrap();
        let pages = pages(&place.index());
        overwrite(&place.index(), if middle { pages / 4..pages * 3 / 4 } else { 1..pages });
        eventually("the damage is noticed", || {
            place.assert_agrees(&store);
            (held.metadata().unwrap().nlink() == 0).then_some(())
        });
        place.assert_heals(&store);
    }
}

#[test]
fn damage_to_the_index_is_noticed_by_messages_that_arrive() {
    let place = Place::filled();
    let store = place.open();
    settle(&store);
    let held = File::open(place.index()).unwrap();
    overwrite(&place.index(), 1..pages(&place.index()));
    for n in MANY..MANY + 5 {
        store.insert_messages(&messages(n..n + 1)).unwrap();
        place.assert_agrees(&store);
    }
    eventually("the damage is noticed", || (held.metadata().unwrap().nlink() == 0).then_some(()));
    settle(&store);
    place.assert_agrees(&store);
}

#[test]
fn the_log_of_the_index_does_not_grow_with_what_arrives() {
    let place = Place::new();
    let tuning = Tuning { part_messages: 100, index_log_bytes: 256 << 10, ..Tuning::default() };
    let store = Sqlite::open(&place.database(), tuning).unwrap();
    for round in 0..8 {
        store.insert_messages(&messages(round * MANY..(round + 1) * MANY)).unwrap();
        settle(&store);
        let log = std::fs::metadata(place.folder.path().join("app.db-index-wal")).unwrap().len();
        assert!(log <= 8 * tuning.index_log_bytes, "{log} bytes after {round} rounds");
    }
}

/// A value that none should be is damage, too.
#[test]
fn a_wrong_value_in_the_index_has_it_rebuilt() {
    let place = Place::filled();
    Connection::open(place.index()).unwrap().execute_batch("UPDATE sender SET messages = -1").unwrap();
    let store = place.open();
    eventually("the index is rebuilt", || {
        let index = Connection::open_with_flags(place.index(), OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
        let least =
            index.query_row("SELECT min(messages) FROM sender", (), |row| row.get::<_, Option<i64>>(0));
        least.ok().flatten().filter(|least| *least > 0)
    });
    settle(&store);
    let reference: Reference = messages(0..MANY).into_iter().collect();
    reference.assert_stats(&store);
}

/// Where a page of the messages cannot be read, another index would help nobody.
#[test]
fn damage_of_the_messages_does_not_cost_the_index() {
    let place = Place::filled();
    Connection::open(place.index()).unwrap().execute_batch("CREATE TABLE mark (of_this_file)").unwrap();
    let marked = format!("{MANY}-after the index");
    {
        // Stored, and not taken in.
        let tuning = Tuning { part_messages: 10 * MANY, ..Tuning::default() };
        let store = Sqlite::open(&place.database(), tuning).unwrap();
        let mut more = messages(MANY..MANY + 300);
        more[100] = Message { message_id: lyftr::message::Name::new(&marked).unwrap(), ..more[100].clone() };
        store.insert_messages(&more).unwrap();
        store.close();
    }
    Connection::open(place.database()).unwrap().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let mut bytes = std::fs::read(place.database()).unwrap();
    let holds = |page: &&mut [u8]| {
        page[0] == TABLE_LEAF && page.windows(marked.len()).any(|part| part == marked.as_bytes())
    };
    let page = bytes.chunks_mut(PAGE_BYTES).find(holds).expect("a leaf of the table has that message");
    page[0] = 0xff;
    std::fs::write(place.database(), &bytes).unwrap();
    let store = place.open();
    // It has tried more than once by then.
    std::thread::sleep(std::time::Duration::from_secs(1));
    drop(store);
    let marks = "SELECT count(*) FROM sqlite_schema WHERE name = 'mark'";
    let index = Connection::open(place.index()).unwrap();
    assert_eq!(index.query_row(marks, (), |row| row.get::<_, i64>(0)).unwrap(), 1);
}
