//! The files of a database cannot be told to be there, or lie apart from each other.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use rustix::io::Errno;

use super::{assert_ailing, assert_heals, assert_kept};
use crate::support::message;
use crate::support::process::Process;
use crate::support::sandbox::Sandbox;

/// Where there is no `statx`: old kernels, and sandboxes that know none.
#[test]
fn without_statx_the_database_is_known_all_the_same() {
    let sandbox = Sandbox::new();
    for error in [Errno::NOSYS, Errno::PERM] {
        let folder = tempfile::tempdir().unwrap();
        let started = || {
            let builder = Process::builder().folder(folder.path());
            sandbox.around(builder, &[("statx", error)]).start()
        };
        let mut process = started();
        process.client().store(&message("before"));
        assert_eq!(process.client().get("/health/ready").status, 200);
        assert_kept(&mut process, &["before"]);
        let process = started();
        let mut client = process.client();
        assert!(client.metrics().contains("\nstore_bytes "), "the sizes of its files are known");
        std::fs::rename(process.database(), folder.path().join("away.db")).unwrap();
        assert_ailing(&mut client, "the database file was removed or replaced");
        std::fs::rename(folder.path().join("away.db"), process.database()).unwrap();
        assert_heals(&mut client);
    }
}

#[test]
fn a_database_that_cannot_be_looked_at_is_not_said_to_be_removed_and_heals() {
    let folder = tempfile::tempdir().unwrap();
    let builder = Process::builder().folder(folder.path());
    let mut process = Sandbox::new().around(builder, &[]).start();
    let mut client = process.client();
    client.store(&message("before"));
    let index = || std::fs::metadata(folder.path().join("app.db-index")).unwrap().ino();
    let before = index();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o000)).unwrap();
    for _ in 0..2 {
        assert_ailing(&mut client, "the database file cannot be looked at");
    }
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
    assert_heals(&mut client);
    assert_eq!(index(), before, "the index was made anew");
    assert_kept(&mut process, &["after", "before", "refused"]);
}
