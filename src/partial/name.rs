//! Giving a file another name, unless that is the name of one already. How to do so in one step differs with the file
//! system, and some know no way at all.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

type Way<'a> = dyn Fn(&Path, &Path) -> io::Result<()> + 'a;

/// What a file system may be able to do with one name and another.
struct Ways<'a> {
    /// Renames, and replaces nothing.
    rename_to_new: &'a Way<'a>,
    /// Gives the file the other name too, and replaces nothing.
    link: &'a Way<'a>,
    /// Renames, and replaces what has that name.
    rename: &'a Way<'a>,
}

/// Renames a file, unless there is one of the new name. If it fails, there is none that was not there before.
pub(super) fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    let ways = Ways {
        rename_to_new: &by_renameat2,
        link: &|from, to| std::fs::hard_link(from, to),
        rename: &|from, to| std::fs::rename(from, to),
    };
    ways.try_all(from, to)
}

#[cfg(target_os = "linux")]
fn by_renameat2(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
}

#[cfg(not(target_os = "linux"))]
fn by_renameat2(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Ways<'_> {
    /// File systems say in many words that they cannot do something. Whatever else is wrong the next way meets too.
    fn try_all(&self, from: &Path, to: &Path) -> io::Result<()> {
        let is_taken = |error: &io::Error| error.kind() == io::ErrorKind::AlreadyExists;
        match (self.rename_to_new)(from, to) {
            Err(error) if !is_taken(&error) => {}
            renamed => return renamed,
        }
        match (self.link)(from, to) {
            Err(error) if !is_taken(&error) => self.reserve(from, to),
            Err(taken) => Err(taken),
            Ok(()) => std::fs::remove_file(from).inspect_err(|_| remove(to)),
        }
    }

    /// Takes the name by an empty file, which succeeds for one only, and puts the file in its place.
    fn reserve(&self, from: &Path, to: &Path) -> io::Result<()> {
        File::options().write(true).create_new(true).mode(0o600).open(to)?;
        self.replace_empty(from, to).inspect_err(|_| {
            if is_empty(to).unwrap_or(false) {
                remove(to);
            }
        })
    }

    /// Who puts something in the place of the empty file, with no regard for it, keeps that.
    fn replace_empty(&self, from: &Path, to: &Path) -> io::Result<()> {
        if is_empty(to)? { (self.rename)(from, to) } else { Err(io::ErrorKind::AlreadyExists.into()) }
    }
}

fn is_empty(path: &Path) -> io::Result<bool> {
    let found = path.symlink_metadata()?;
    Ok(found.is_file() && found.len() == 0)
}

fn remove(path: &Path) {
    let _nobody_to_tell = std::fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;

    /// Tries it where the file system can do what is named; what came of it, and which ways were tried.
    fn try_with(can: &[&str], folder: &Path) -> (io::Result<()>, Vec<&'static str>) {
        let tried = RefCell::new(Vec::new());
        let way = |name: &'static str, does: fn(&Path, &Path) -> io::Result<()>| {
            let (tried, can) = (&tried, can.contains(&name));
            move |from: &Path, to: &Path| {
                tried.borrow_mut().push(name);
                if can { does(from, to) } else { Err(io::ErrorKind::Unsupported.into()) }
            }
        };
        let rename_to_new = |from: &Path, to: &Path| {
            if to.exists() { Err(io::ErrorKind::AlreadyExists.into()) } else { std::fs::rename(from, to) }
        };
        let (rename_to_new, link) =
            (way("rename_to_new", rename_to_new), way("link", |from, to| std::fs::hard_link(from, to)));
        let rename = way("rename", |from, to| std::fs::rename(from, to));
        let (from, to) = names(folder);
        let done = Ways { rename_to_new: &rename_to_new, link: &link, rename: &rename }.try_all(&from, &to);
        (done, tried.into_inner())
    }

    fn names(folder: &Path) -> (PathBuf, PathBuf) {
        (folder.join("from"), folder.join("to"))
    }

    fn folder() -> (TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = names(folder.path());
        std::fs::write(&from, "whole").unwrap();
        (folder, from, to)
    }

    const ALL: [&str; 3] = ["rename_to_new", "link", "rename"];

    #[test]
    fn a_file_gets_its_name_in_whichever_way_there_is() {
        for first in 0..ALL.len() {
            let (folder, from, to) = folder();
            let (done, tried) = try_with(&ALL[first..], folder.path());
            done.unwrap();
            assert_eq!(tried, ALL[..=first]);
            assert_eq!(std::fs::read_to_string(&to).unwrap(), "whole");
            assert!(!from.exists());
        }
    }

    #[test]
    fn a_name_that_is_taken_stays_in_whichever_way_it_is_tried() {
        for first in 0..=ALL.len() {
            for theirs in ["theirs", ""] {
                let (folder, from, to) = folder();
                std::fs::write(&to, theirs).unwrap();
                let (done, tried) = try_with(&ALL[first..], folder.path());
                assert_eq!(done.unwrap_err().kind(), io::ErrorKind::AlreadyExists, "{tried:?}");
                assert!(!tried.contains(&"rename"), "{tried:?}");
                assert_eq!(std::fs::read_to_string(&to).unwrap(), theirs);
                assert!(from.exists());
            }
        }
    }

    #[test]
    fn where_there_is_no_way_nothing_is_left() {
        let (folder, from, to) = folder();
        let (done, tried) = try_with(&[], folder.path());
        assert_eq!(done.unwrap_err().kind(), io::ErrorKind::Unsupported);
        assert_eq!(tried, ALL);
        assert!(from.exists() && !to.exists());
    }

    /// By somebody who opens it and does not ask whether it is his.
    #[test]
    fn what_is_put_into_the_reserved_name_is_not_replaced() {
        let (_folder, from, to) = folder();
        let never = |_: &Path, _: &Path| panic!("not this way");
        let put = |from: &Path, to: &Path| {
            std::fs::write(to, "theirs").unwrap();
            let rename = |from: &Path, to: &Path| std::fs::rename(from, to);
            Ways { rename_to_new: &never, link: &never, rename: &rename }.replace_empty(from, to)
        };
        let done = Ways { rename_to_new: &never, link: &never, rename: &put }.reserve(&from, &to);
        assert_eq!(done.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "theirs");
        assert!(from.exists());
    }
}
