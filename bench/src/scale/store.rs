//! The stores on disk: filled, indexed, copied, measured.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rusqlite::Connection;

use super::messages::{EDITION, Message, Messages};
use crate::procfs;
use crate::target::{self, Programs, Server};

/// Page cache while a store is filled, in KiB: the random index of the ids should fit.
const FILL_CACHE_KIB: i64 = 4 << 20;
/// Messages between two signs of life.
const TOLD_EVERY: u64 = 500_000;
/// Written last: a store without it is half filled.
const MARKER: &str = "filled.txt";
const METRICS_POLL: Duration = Duration::from_millis(50);
const PROGRESS_EVERY: Duration = Duration::from_secs(10);
/// With nothing new in the index for so long, waiting is given up. The index of numbers only tells when it is done.
const STALLED: Duration = Duration::from_mins(30);
const INSERT: &str = "\
    INSERT INTO message (seq, message_id, sender, recipient, ts_second, ts_nanosecond, ts_digits, text) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

/// How long the indexes of a filled store took.
#[derive(Clone, Copy, Debug)]
pub struct Indexing {
    /// Until every message was in the index of numbers.
    pub numbers: Duration,
    /// Until every text could be found, too.
    pub all: Duration,
    /// CPU time of the server until then.
    pub cpu: Duration,
}

/// Fills a store in `directory`, which is made; returns how long that took, or none if an earlier run left this
/// very store there.
pub fn fill(
    programs: &Programs,
    directory: &Path,
    messages: &Messages,
    seed: u64,
) -> Result<Option<Duration>> {
    let marker = directory.join(MARKER);
    let wanted = format!("edition {EDITION}, seed {seed}, {} messages\n", messages.size());
    if fs::read_to_string(&marker).is_ok_and(|found| found == wanted) {
        return Ok(None);
    }
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    // The service makes its tables itself, and its index anew from the messages.
    Server::open(programs, directory)?.stop()?;
    for name in ["app.db-index", "app.db-index-wal", "app.db-index-shm"] {
        remove_if_there(&directory.join(name))?;
    }
    let begin = Instant::now();
    insert(&database(directory), messages)?;
    let took = begin.elapsed();
    File::open(database(directory))?.sync_all()?;
    fs::write(marker, wanted)?;
    Ok(Some(took))
}

/// The database of a store.
pub fn database(directory: &Path) -> PathBuf {
    directory.join("app.db")
}

/// Past the service, in one transaction and without any log.
fn insert(database: &Path, messages: &Messages) -> Result<()> {
    let mut conn = Connection::open(database)?;
    for (name, value) in [("journal_mode", "OFF"), ("synchronous", "OFF")] {
        conn.pragma_update(None, name, value)?;
    }
    conn.pragma_update(None, "cache_size", -FILL_CACHE_KIB)?;
    let transaction = conn.transaction()?;
    let mut insert = transaction.prepare(INSERT)?;
    for index in 0..messages.size() {
        let Message { id, sender, recipient, second, nanosecond, digits, text } = messages.message(index);
        insert.execute((index + 1, id, sender, recipient, second, nanosecond, digits, text))?;
        if index > 0 && index % TOLD_EVERY == 0 {
            eprintln!("{index} of {} messages", messages.size());
        }
    }
    drop(insert);
    transaction.commit()?;
    conn.pragma_update(None, "journal_mode", "WAL")?;
    conn.close().map_err(|(_, error)| error).context("cannot close the filled store")
}

/// Waits until a server that was just started holds every message in its indexes.
pub fn wait_for_indexes(server: &Server) -> Result<Indexing> {
    let begin = Instant::now();
    let (mut last, mut moved, mut told) = ((u64::MAX, u64::MAX), begin, begin);
    let mut numbers = None;
    loop {
        let page = metrics(server)?;
        let behind = |name| gauge(&page, name).with_context(|| format!("no {name} in /metrics"));
        let now = (behind("store_index_behind_messages")?, behind("store_search_behind_messages")?);
        let passed = begin.elapsed();
        if now.0 == 0 {
            numbers.get_or_insert(passed);
        }
        if let Some(numbers) = numbers
            && now == (0, 0)
        {
            return Ok(Indexing { numbers, all: passed, cpu: procfs::cpu_time(server.pid())? });
        }
        if now != last {
            (last, moved) = (now, Instant::now());
        }
        if moved.elapsed() > STALLED {
            bail!("the indexes stand still, {} and {} messages behind", now.0, now.1);
        }
        if told.elapsed() > PROGRESS_EVERY {
            told = Instant::now();
            eprintln!("{passed:.0?}: the indexes are {} and {} messages behind", now.0, now.1);
        }
        thread::sleep(METRICS_POLL);
    }
}

/// The page of the server's metrics.
pub fn metrics(server: &Server) -> Result<String> {
    let (status, page) = target::get(server.address(), "/metrics").context("no answer to GET /metrics")?;
    ensure!(status == 200, "GET /metrics was answered {status}");
    Ok(page)
}

/// The value of a metric without labels.
fn gauge(page: &str, name: &str) -> Option<u64> {
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// The bucket of the longest commit: its upper bound in seconds. None if there was no commit.
pub fn longest_commit(page: &str) -> Option<f64> {
    let buckets: Vec<(f64, u64)> = page
        .lines()
        .filter_map(|line| {
            let (bound, count) =
                line.strip_prefix("store_commit_seconds_bucket{le=\"")?.split_once("\"} ")?;
            Some((bound.parse().ok()?, count.parse().ok()?))
        })
        .collect();
    let (_, all) = *buckets.last()?;
    buckets.iter().find(|(_, count)| all > 0 && *count == all).map(|(bound, _)| *bound)
}

/// Bytes of the database and of its index, of a store whose server was stopped; what is left in their logs is moved
/// into them first.
pub fn file_sizes(directory: &Path) -> Result<[u64; 2]> {
    let size = |name| -> Result<u64> {
        let path = directory.join(name);
        let conn = Connection::open(&path)?;
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))?;
        drop(conn);
        Ok(fs::metadata(&path)?.len())
    };
    Ok([size("app.db")?, size("app.db-index")?])
}

/// A copy of a store, removed when dropped.
#[derive(Debug)]
pub struct Copy(PathBuf);

impl Copy {
    /// Copies the files of a store that no server has open, and waits until they are on disk, so that writing them
    /// out slows nothing down that is measured.
    pub fn new(store: &Path, copy: PathBuf) -> Result<Self> {
        fs::create_dir(&copy).with_context(|| format!("cannot make {}", copy.display()))?;
        let copy = Self(copy);
        for name in ["app.db", "app.db-wal", "app.db-index", "app.db-index-wal"] {
            let from = store.join(name);
            if from.exists() {
                let to = copy.path().join(name);
                fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
                File::open(&to)?.sync_all()?;
            }
        }
        Ok(copy)
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // What cannot be removed is left behind; the figures are right all the same.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn remove_if_there(path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_is_found_by_its_whole_name() {
        let page = "# HELP behind Messages.\nbehind_more 3\nbehind{le=\"1\"} 4\nbehind 12\n";
        assert_eq!(gauge(page, "behind"), Some(12));
        assert_eq!(gauge(page, "before"), None);
    }

    #[test]
    fn the_longest_commit_is_in_the_first_bucket_that_holds_all() {
        let page = |counts: [u64; 3]| {
            let line = |(bound, count)| format!("store_commit_seconds_bucket{{le=\"{bound}\"}} {count}\n");
            ["0.001", "0.5", "+Inf"].into_iter().zip(counts).map(line).collect::<String>()
        };
        assert_eq!(longest_commit(&page([7, 9, 9])), Some(0.5));
        assert_eq!(longest_commit(&page([9, 9, 9])), Some(0.001));
        assert_eq!(longest_commit(&page([7, 8, 9])), Some(f64::INFINITY));
        assert_eq!(longest_commit(&page([0, 0, 0])), None);
    }

    #[test]
    fn inserted_messages_are_in_the_table() {
        let directory = std::env::temp_dir().join(format!("lyftr-bench-insert-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = database(&directory);
        let _ = fs::remove_file(&path);
        let conn = Connection::open(&path).unwrap();
        conn.execute_batch(include_str!("../../../migrations/sqlite/0001_message.sql")).unwrap();
        drop(conn);
        insert(&path, &Messages::new(1, 1_000)).unwrap();
        let conn = Connection::open(&path).unwrap();
        let count: u64 = conn.query_row("SELECT count(*) FROM message", (), |row| row.get(0)).unwrap();
        let mode: String = conn.query_row("PRAGMA journal_mode", (), |row| row.get(0)).unwrap();
        drop(conn);
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!((count, mode.as_str()), (1_000, "wal"));
    }
}
