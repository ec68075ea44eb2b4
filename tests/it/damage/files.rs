//! The files of a database cannot be told to be there, or lie apart from each other.

use std::fs::{File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use lyftr::store::sqlite::Sqlite;
use rustix::io::Errno;
use tempfile::TempDir;

use super::disk::Bind;
use super::{assert_ailing, assert_heals, assert_kept, ids};
use crate::support::process::{Builder, Process};
use crate::support::sandbox::Sandbox;
use crate::support::{eventually, message, names, sqlite_url};

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
    eventually("everything is in the index", || {
        client.metrics().contains("\nstore_search_behind_messages 0\n").then_some(())
    });
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o000)).unwrap();
    for _ in 0..2 {
        assert_ailing(&mut client, "cannot access the database file");
    }
    let says = |process: &Process, what: &str| process.log_lines().iter().any(|line| line.contains(what));
    eventually("so it is with the index", || says(&process, "the index cannot be looked at").then_some(()));
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
    assert_heals(&mut client);
    assert!(!says(&process, "the index was deleted or replaced"), "{:?}", process.log_lines());
    assert_kept(&mut process, &["after", "before", "refused"]);
}

const ENDINGS: [&str; 8] = ["", "-journal", "-wal", "-shm", "-lock", "-index", "-index-wal", "-index-shm"];

/// A database whose only message is in its log, and which nobody has open.
fn killed() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::builder().folder(folder.path()).start();
    process.client().store(&message("in the log"));
    process.kill9();
    folder
}

/// Each command that goes to the database at `path`. What they make goes into `out`.
fn commands(path: &Path, out: &Path) -> Vec<Builder> {
    let made = |name: &str| out.join(name).to_str().unwrap().to_owned();
    let (backup, other) = (made("backup.db"), sqlite_url(&out.join("other.db")));
    let arguments: [&[&str]; 6] = [
        &["serve"],
        &["migrate"],
        &["check"],
        &["backup", &backup],
        &["copy", "--from", &sqlite_url(path), "--to", &other],
        &["copy", "--from", &other, "--to", &sqlite_url(path)],
    ];
    // There is something to copy from.
    Sqlite::migrate(&out.join("other.db")).unwrap();
    let builder =
        |arguments: &&[&str]| Process::builder().env("DATABASE_URL", &sqlite_url(path)).args(arguments);
    arguments.iter().map(builder).collect()
}

/// No command goes to the database at `path`, each says why, and none makes or changes a file.
#[track_caller]
fn assert_refused_by_all(path: &Path, why: &str, around: impl Fn(Builder) -> Builder) {
    let out = tempfile::tempdir().unwrap();
    let folder = path.parent().unwrap();
    let state = || -> Vec<_> {
        let size = |name: String| (std::fs::metadata(folder.join(&name)).map_or(0, |file| file.len()), name);
        names(folder, "").into_iter().map(size).collect()
    };
    let before = state();
    for builder in commands(path, out.path()) {
        let finished = around(builder.clone()).run();
        let said = format!("{}{}", finished.stdout, finished.stderr);
        assert_eq!(finished.code(), Some(1), "{builder:?}: {said}");
        assert!(said.contains(why), "{builder:?}: {said}");
        assert_eq!(state(), before, "{builder:?}");
        assert!(!out.path().join("backup.db").exists());
    }
}

fn as_it_is(builder: Builder) -> Builder {
    builder
}

/// As by `docker run -v ./app.db:/data/app.db`: the log and the lock would be the container's own.
#[test]
fn a_database_that_is_mounted_without_its_folder_is_refused() {
    const WHY: &str = "mount the folder, not the file";
    let (home, container) = (killed(), tempfile::tempdir().unwrap());
    let path = container.path().join("app.db");
    std::fs::write(&path, "").unwrap();
    let Some(mounted) = Bind::mount(&home.path().join("app.db"), &path) else { return };
    assert_refused_by_all(&path, WHY, as_it_is);
    let sandbox = Sandbox::new();
    assert_refused_by_all(&path, WHY, |builder| sandbox.around(builder, &[("statx", Errno::NOSYS)]));
    let link = container.path().join("link.db");
    symlink("app.db", &link).unwrap();
    assert_refused_by_all(&link, WHY, as_it_is);
    drop(mounted);
    std::fs::remove_file(&path).unwrap();

    // Docker makes a folder where there is no such file.
    std::fs::create_dir_all(home.path().join("none.db")).unwrap();
    std::fs::create_dir(&path).unwrap();
    let mounted = Bind::mount(&home.path().join("none.db"), &path);
    assert_refused_by_all(&path, WHY, as_it_is);
    drop(mounted);

    let mounted = Bind::mount(home.path(), container.path());
    let process = Process::builder().folder(container.path()).start();
    assert_eq!(ids(&mut process.client()), ["in the log"]);
    drop(process);
    drop(mounted);
}

#[test]
fn a_database_with_a_file_that_is_mounted_by_itself_is_refused() {
    let home = killed();
    for ending in &ENDINGS[1..] {
        let part = home.path().join(format!("app.db{ending}"));
        let away = tempfile::NamedTempFile::new().unwrap();
        // Not every one is left by a service.
        let is_there = part.exists();
        std::fs::copy(if is_there { &part } else { away.path() }, away.path()).unwrap();
        File::options().append(true).create(true).open(&part).unwrap();
        let Some(mounted) = Bind::mount(away.path(), &part) else { return };
        assert_refused_by_all(
            &home.path().join("app.db"),
            &format!("{}: it is mounted", part.display()),
            as_it_is,
        );
        drop(mounted);
    }
    assert_kept(&mut Process::builder().folder(home.path()).start(), &["in the log"]);
}

#[test]
fn a_database_with_a_file_that_is_linked_or_has_two_names_is_refused() {
    let (home, away) = (killed(), tempfile::tempdir().unwrap());
    let path = home.path().join("app.db");
    for ending in ENDINGS {
        let part = home.path().join(format!("app.db{ending}"));
        let elsewhere = away.path().join("elsewhere");
        File::options().append(true).create(true).open(&part).unwrap();
        if !ending.is_empty() {
            move_file(&part, &elsewhere);
            symlink(elsewhere.canonicalize().unwrap(), &part).unwrap();
            assert_refused_by_all(&path, &format!("{}: it is a symbolic link", part.display()), as_it_is);
            std::fs::remove_file(&part).unwrap();
            move_file(&elsewhere, &part);
        }
        let second = home.path().join("second-name");
        std::fs::hard_link(&part, &second).unwrap();
        assert_refused_by_all(&path, &format!("{}: it has more than one name", part.display()), as_it_is);
        if ending.is_empty() {
            assert_refused_by_all(&second, "it has more than one name", as_it_is);
        }
        std::fs::remove_file(&second).unwrap();
    }
    assert_kept(&mut Process::builder().folder(home.path()).start(), &["in the log"]);
}

/// A backup has no log: whoever reads it misses nothing, wherever it is mounted and whatever names it has.
#[test]
fn a_backup_is_read_under_each_of_its_names_and_not_served() {
    let (home, out) = (killed(), tempfile::tempdir().unwrap());
    let backup = out.path().join("backup.db");
    let run = |path: &Path, arguments: &[&str]| {
        Process::builder().env("DATABASE_URL", &sqlite_url(path)).args(arguments).run()
    };
    let made = run(&home.path().join("app.db"), &["backup", backup.to_str().unwrap()]);
    assert_eq!(made.code(), Some(0), "{}", made.stderr);
    let (second, third) = (out.path().join("second.db"), out.path().join("third.db"));
    std::fs::hard_link(&backup, &second).unwrap();
    std::fs::write(&third, "").unwrap();
    let mounted = Bind::mount(&backup, &third);
    for (nth, path) in [&second, &third].into_iter().enumerate() {
        if nth == 1 && mounted.is_none() {
            continue;
        }
        let checked = run(path, &["check"]);
        assert!(checked.stdout.ends_with("sound: 1 events\n"), "{}{}", checked.stdout, checked.stderr);
        let copied = out.path().join(format!("copy {nth}"));
        let copied = run(path, &["backup", copied.to_str().unwrap()]);
        assert_eq!(copied.code(), Some(0), "{}", copied.stderr);
        let served = run(path, &["serve"]);
        assert!(served.stdout.contains("will not use"), "{}", served.stdout);
    }
    drop(mounted);
    assert_eq!(names(out.path(), ""), ["backup.db", "copy 0", "copy 1", "second.db", "third.db"]);
}

/// A database that was moved to another disk, and a link to it in its old place.
struct Moved {
    _all: TempDir,
    disk: PathBuf,
    data: PathBuf,
}

impl Moved {
    fn new() -> Self {
        let all = tempfile::tempdir().unwrap();
        let moved = Self { disk: all.path().join("disk"), data: all.path().join("data"), _all: all };
        for folder in [&moved.disk, &moved.data] {
            std::fs::create_dir(folder).unwrap();
        }
        let mut process = Process::builder().folder(&moved.disk).start();
        process.client().store(&message("before"));
        process.terminate();
        std::fs::rename(moved.disk.join("app.db"), moved.disk.join("real.db")).unwrap();
        symlink("../disk/real.db", moved.data.join("app.db")).unwrap();
        symlink("app.db", moved.data.join("second.db")).unwrap();
        moved
    }
}

#[test]
fn a_database_behind_a_link_has_its_files_beside_itself_and_one_owner() {
    let moved = Moved::new();
    let names_before = names(&moved.data, "");
    let mut process = Process::builder().folder(&moved.data).start();
    let mut client = process.client();
    client.store(&message("after"));
    assert_eq!(ids(&mut client), ["after", "before"]);
    for ending in ["", "-wal", "-shm", "-lock", "-index"] {
        assert!(moved.disk.join(format!("real.db{ending}")).exists(), "{ending}");
    }
    assert_eq!(names(&moved.data, ""), names_before);
    let real = moved.disk.join("real.db");
    for path in [&moved.data.join("second.db"), &real] {
        for command in ["serve", "migrate"] {
            let second = Process::builder().env("DATABASE_URL", &sqlite_url(path)).args(&[command]).run();
            let said = format!("{}{}", second.stdout, second.stderr);
            assert!(said.contains(&format!("another process ({}) has the database", process.id())), "{said}");
        }
        let checked = Process::builder().env("DATABASE_URL", &sqlite_url(path)).args(&["check"]).run();
        assert!(checked.stdout.ends_with("sound: 2 events\n"), "{}{}", checked.stdout, checked.stderr);
        assert!(!checked.stdout.contains("index: missing"), "{}", checked.stdout);
        let same = ["copy", "--from", &sqlite_url(&moved.data.join("app.db")), "--to", &sqlite_url(path)];
        let same = Process::builder().args(&same).run();
        assert!(same.stderr.contains("--from and --to are the same"), "{}", same.stderr);
    }
    let backup = moved.data.join("backup.db");
    let made = Process::builder().folder(&moved.data).args(&["backup", "backup.db"]).run();
    assert_eq!(made.code(), Some(0), "{}", made.stderr);
    assert!(made.stdout.contains("2 events"), "{}", made.stdout);
    std::fs::remove_file(backup).unwrap();

    process.kill9();
    let process = Process::builder().env("DATABASE_URL", &sqlite_url(&real)).start();
    assert_eq!(ids(&mut process.client()), ["after", "before"], "all is beside the file itself");
    assert_eq!(names(&moved.data, ""), names_before);
}

/// What is acknowledged now must be found by the next start, which goes by the link.
#[test]
fn a_link_that_is_led_elsewhere_under_the_service_is_noticed() {
    let moved = Moved::new();
    let process = Process::builder().folder(&moved.data).start();
    let mut client = process.client();
    client.store(&message("then"));
    let link = moved.data.join("app.db");
    let lead_to = |target: &str| {
        std::fs::remove_file(&link).unwrap();
        symlink(target, &link).unwrap();
    };
    std::fs::write(moved.disk.join("other.db"), "").unwrap();
    for target in ["../disk/other.db", "../disk/nothing.db"] {
        lead_to(target);
        assert_ailing(&mut client, "the database file was removed or replaced");
        let ids = ids(&mut client);
        assert!(
            ids.contains(&"before".to_owned()) && ids.contains(&"then".to_owned()),
            "reads go on: {ids:?}"
        );
    }
    lead_to("../disk/real.db");
    assert_heals(&mut client);
}

#[test]
fn a_link_that_leads_nowhere_is_said_to() {
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("app.db"), folder.path().join("data"));
    symlink("disk/app.db", &file).unwrap();
    symlink("not-mounted", &data).unwrap();
    let said = |link: &Path, target: &str| {
        format!(
            "{}, where the database is, is a symbolic link to {target}, and nothing is there",
            link.display()
        )
    };
    assert_refused_by_all(&file, &said(&file, "disk/app.db"), as_it_is);
    for builder in commands(&data.join("app.db"), tempfile::tempdir().unwrap().path()) {
        let finished = builder.run();
        let output = format!("{}{}", finished.stdout, finished.stderr);
        assert!(output.contains(&said(&data, "not-mounted")), "{output}");
    }
    assert_eq!(names(folder.path(), ""), ["app.db", "data"]);
    // What the documents advise.
    std::fs::create_dir(folder.path().join("disk")).unwrap();
    std::fs::write(folder.path().join("disk/app.db"), "").unwrap();
    let process = Process::builder().folder(folder.path()).start();
    process.client().store(&message("m"));
    drop(process);
    symlink("loop", folder.path().join("loop")).unwrap();
    assert_refused_by_all(&folder.path().join("loop"), "cannot access", as_it_is);
}

/// Also to another disk.
fn move_file(from: &Path, to: &Path) {
    std::fs::copy(from, to).unwrap();
    std::fs::remove_file(from).unwrap();
}
