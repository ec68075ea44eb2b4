//! What a bare sync costs in the same directory: the least that one durable request can take.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Bytes written before each sync: one page of the store.
const BLOCK_BYTES: usize = 4096;

/// Median times of one write of 4 KiB at the end of a file and one sync.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// With `fsync`.
    pub fsync: Duration,
    /// With `fdatasync`.
    pub fdatasync: Duration,
}

/// Writes and syncs `count` times in either way, in a file in `directory` that is removed again.
pub fn measure(directory: &Path, count: usize) -> Result<Times> {
    let path = directory.join("fsync-probe");
    let times = (|| {
        Ok(Times {
            fsync: median_time(&path, count, File::sync_all)?,
            fdatasync: median_time(&path, count, File::sync_data)?,
        })
    })();
    let removed = std::fs::remove_file(&path);
    let times = times.and_then(|times| removed.map(|()| times));
    times.with_context(|| format!("cannot measure fsync in {}", directory.display()))
}

fn median_time(
    path: &Path,
    count: usize,
    sync: fn(&File) -> std::io::Result<()>,
) -> std::io::Result<Duration> {
    let mut file = File::create(path)?;
    let block = [0x5a; BLOCK_BYTES];
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        file.write_all(&block)?;
        sync(&file)?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times.get(count / 2).copied().unwrap_or_default())
}
