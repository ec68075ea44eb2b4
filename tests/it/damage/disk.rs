//! A disk that is full, or that may not be written.

use std::fs::File;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use rusqlite::Connection as Database;
use tempfile::TempDir;

use super::{assert_does_not_start, assert_kept, assert_refused};
use crate::support::process::Process;
use crate::support::{eventually, message, message_with, skip};

/// A small file system of its own. Only root may mount one.
pub(crate) struct Disk(TempDir);

impl Disk {
    pub(crate) fn mount(options: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder.path());
        is_mounted(&mut mount).then_some(Self(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn remount(&self, options: &str) {
        let status =
            Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(self.0.path()).status();
        assert!(status.unwrap().success());
    }

    /// Takes all the room there is, and all that anybody gives back, while `work` is done. Then gives it back.
    pub(crate) fn while_full<T>(&self, work: impl FnOnce() -> T) -> T {
        let path = self.0.path().join("filler");
        let mut file = File::create(&path).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    if let Err(full) = file.write_all(&[0; 4096]) {
                        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
                    }
                }
                std::fs::remove_file(&path).unwrap();
            });
            // Also when the work fails: the thread is waited for.
            let worked = catch_unwind(AssertUnwindSafe(work));
            done.store(true, Relaxed);
            worked.unwrap_or_else(|panic| resume_unwind(panic))
        })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmount(self.0.path());
    }
}

/// A file or folder that is seen at a second place, as a container sees what is mounted into it. Only root may do so.
pub(crate) struct Bind(PathBuf);

impl Bind {
    pub(crate) fn mount(what: &Path, place: &Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        is_mounted(mount.arg("--bind").args([what, place])).then(|| Self(place.to_owned()))
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        unmount(&self.0);
    }
}

fn is_mounted(mount: &mut Command) -> bool {
    let why = match mount.output() {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    skip(&format!("a file system cannot be mounted, which on Linux root can: {why}"));
    false
}

fn unmount(place: &Path) {
    let unmounted = Command::new("umount").arg("-l").arg(place).status();
    assert!(unmounted.is_ok_and(|status| status.success()), "{} stays mounted", place.display());
}

#[test]
fn a_full_disk_refuses_and_heals_when_there_is_room_again() {
    let Some(disk) = Disk::mount("size=3m") else { return };
    let mut process = Process::builder().folder(disk.0.path()).start();
    let mut client = process.client();
    let mut expected = Vec::new();
    let text = "x".repeat(4000);
    for round in 0..3 {
        let mut refused = 0;
        disk.while_full(|| {
            // Some may still be stored, in room that was there or that the service gives back to itself.
            for n in 0.. {
                let id = format!("{round} {n:04}");
                let reply = client.send(&message_with(&id, "+1", "2025-01-15T10:00:00Z", Some(&text)));
                if reply.status == 200 {
                    expected.push(id);
                } else {
                    assert_refused(&reply);
                    refused += 1;
                    assert_eq!(client.json("/messages?limit=1")["total"], expected.len(), "reads go on");
                    assert_eq!(client.json("/stats")["total_messages"], expected.len());
                    assert_eq!(client.get("/health/live").status, 200);
                }
                if refused > 20 {
                    break;
                }
            }
            let detail = eventually("it says that it is not ready", || {
                Some(client.get("/health/ready")).filter(|ready| ready.status == 503)
            });
            assert!(detail.text().contains("the disk is full"), "{}", detail.text());
        });
        let begin = Instant::now();
        eventually("it is ready again", || (client.get("/health/ready").status == 200).then_some(()));
        println!("healed in {:?} after {} were stored", begin.elapsed(), expected.len());
        let id = format!("{round} after");
        client.store(&message(&id));
        expected.push(id);
        assert_eq!(client.json("/messages?limit=1")["total"], expected.len());
    }
    assert_eq!(process.terminate().code(), Some(0));
    let database = Database::open(process.database()).unwrap();
    let mut query = database.prepare("SELECT message_id FROM message ORDER BY message_id").unwrap();
    let stored: Vec<String> = query.query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(stored, expected);
}

#[test]
fn the_service_does_not_start_where_it_may_not_write() {
    let Some(disk) = Disk::mount("size=3m") else { return };
    let mut process = Process::builder().folder(disk.0.path()).start();
    process.client().store(&message("before"));
    process.terminate();
    drop(process);
    disk.remount("ro");
    // A database that is there, one that is not, and a folder that is not.
    for url in ["sqlite:///app.db", "sqlite:///new.db", "sqlite:///new/app.db"] {
        assert_does_not_start(disk.0.path(), url, "cannot");
    }
    disk.remount("rw");
    let mut process = Process::builder().folder(disk.0.path()).start();
    assert_kept(&mut process, &["before"]);
}
