//! Where an export goes: into a file that gets its name at the end, or to standard output.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use super::TICK;
use crate::cli::Failure;
use crate::output::{Output, PIPE_BYTES};
use crate::partial::{self, Partial};

/// Where an export goes.
pub(super) enum Destination {
    File { path: PathBuf, partial: Partial },
    Standard(Output),
}

/// Why something is not written.
pub(super) enum Unwritten {
    /// Nobody reads standard output any more.
    Closed,
    /// In words.
    Failed(String),
}

impl Destination {
    /// The file at the path, or standard output for `-`. `replaces`: there may be such a file.
    ///
    /// # Errors
    /// For the person at the terminal.
    pub(super) fn open(path: &Path, replaces: bool) -> Result<Self, Failure> {
        if path.as_os_str() == "-" {
            return Ok(Self::Standard(Output::standard()?));
        }
        let partial = Partial::create(path, replaces).map_err(|error| told(path, replaces, &error))?;
        partial.file().set_len(0)?;
        Ok(Self::File { path: path.to_owned(), partial })
    }

    /// Writes; while a reader makes no room, asks whether to go on. Returns false if it shall not.
    pub(super) fn write(&mut self, bytes: &[u8], goes_on: &dyn Fn() -> bool) -> Result<bool, Unwritten> {
        let failed = |error: std::io::Error| match error.kind() {
            ErrorKind::BrokenPipe => Unwritten::Closed,
            _ => Unwritten::Failed(error.to_string()),
        };
        let output = match self {
            Self::File { partial, .. } => {
                return partial.file().write_all(bytes).map(|()| true).map_err(failed);
            }
            Self::Standard(output) => output,
        };
        // A file has room for all at once.
        let piece_bytes = if output.is_file() { bytes.len() } else { PIPE_BYTES };
        for piece in bytes.chunks(piece_bytes.max(1)) {
            while !output.has_room(TICK).map_err(failed)? {
                if !goes_on() {
                    return Ok(false);
                }
            }
            output.write_all(piece).map_err(failed)?;
        }
        Ok(true)
    }

    /// Whether nobody reads it any more.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self, Self::Standard(output) if output.is_closed())
    }

    /// Gives the file its name. Returns its size; `None` for standard output.
    ///
    /// # Errors
    /// For the person at the terminal.
    pub(super) fn finish(self) -> Result<Option<u64>, Failure> {
        match self {
            Self::File { path, partial } => {
                Ok(Some(partial.publish().map_err(|error| told(&path, true, &error))?))
            }
            Self::Standard(_) => Ok(None),
        }
    }

    /// What is left of an export that is not whole.
    pub(super) fn left(&self) -> String {
        match self {
            Self::File { path, .. } => format!("{} was not written", path.display()),
            Self::Standard(_) => "what was printed is not all".to_owned(),
        }
    }
}

fn told(path: &Path, replaces: bool, error: &partial::Error) -> Failure {
    let path = path.display();
    match error {
        partial::Error::Exists if replaces => format!("{path} is there, and is no file that could be replaced"),
        partial::Error::Exists => {
            format!("{path} exists; give another name, or --force to replace it")
        }
        partial::Error::UnderWay => format!("another process is writing {path}"),
        partial::Error::File(why) => format!(
            "cannot create {path}: {why}; its folder must be there, have room, and be one that this user may write to"
        ),
    }
    .into()
}
