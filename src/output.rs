//! Standard output and standard error, unbuffered. A write waits until the reader makes room.
//!
//! Another program that shares the open file may have set `O_NONBLOCK` on it, as Node.js does with its pipe or terminal.
//! From then on a write fails with `EAGAIN` while the reader is slow, in this program as well, which then waits itself.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// A pipe that has any room has room for so many bytes: a page.
pub(crate) const PIPE_BYTES: usize = 4096;

/// An output of the process.
#[derive(Debug)]
pub(crate) struct Output(File);

impl Output {
    /// Standard output.
    ///
    /// # Errors
    /// When the operating system gives no file descriptor.
    pub(crate) fn standard() -> io::Result<Self> {
        Self::of(io::stdout().as_fd())
    }

    /// Standard error.
    ///
    /// # Errors
    /// As [`Output::standard`].
    pub(crate) fn error() -> io::Result<Self> {
        Self::of(io::stderr().as_fd())
    }

    fn of(output: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self(File::from(output.try_clone_to_owned()?)))
    }

    /// Waits until a write of [`PIPE_BYTES`] does not have to wait, or fails since the reader is gone, but no longer than
    /// `limit`. Returns whether that is so.
    ///
    /// # Errors
    /// When the operating system cannot tell.
    pub(crate) fn has_room(&self, limit: Duration) -> io::Result<bool> {
        Ok(!self.ready(PollFlags::OUT, limit)?.is_empty())
    }

    /// Whether nobody can read any more what is written: the pipe's reader, or the terminal, is gone.
    pub(crate) fn is_closed(&self) -> bool {
        let gone = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
        self.ready(PollFlags::empty(), Duration::ZERO).is_ok_and(|ready| ready.intersects(gone))
    }

    fn ready(&self, wanted: PollFlags, limit: Duration) -> io::Result<PollFlags> {
        let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
        let mut output = [PollFd::new(&self.0, wanted)];
        match poll(&mut output, Some(&limit)) {
            Ok(_) => Ok(output.iter().fold(PollFlags::empty(), |all, one| all | one.revents())),
            Err(Errno::INTR) => Ok(PollFlags::empty()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until what was written is on stable storage, where it goes to a file.
    ///
    /// # Errors
    /// As the operating system says.
    pub(crate) fn sync(&self) -> io::Result<()> {
        match self.0.sync_data() {
            // A pipe, a terminal and the like have nothing to sync.
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
            synced => synced,
        }
    }

    /// Whether it is a regular file, which takes a line of any length at once.
    pub(crate) fn is_file(&self) -> bool {
        self.0.metadata().is_ok_and(|metadata| metadata.is_file())
    }

    /// Whether it is a file that does not end with a line end, as far as that can be read: whoever wrote it last did not come to
    /// the end of a line.
    pub(crate) fn ends_within_line(&self) -> bool {
        // It may be open for writing alone.
        let last = || -> io::Result<u8> {
            let mut file = File::open(format!("/dev/fd/{}", self.0.as_raw_fd()))?;
            file.seek(SeekFrom::End(-1))?;
            let mut last = 0;
            file.read_exact(std::slice::from_mut(&mut last))?;
            Ok(last)
        };
        self.is_file() && last().is_ok_and(|last| last != b'\n')
    }

    /// The number of columns, if it is a terminal that says so.
    pub(crate) fn columns(&self) -> Option<usize> {
        let size = rustix::termios::tcgetwinsize(&self.0).ok()?;
        (size.ws_col > 0).then_some(size.ws_col.into())
    }

    /// Waits until the reader may have made room, or is gone.
    fn room(&self) -> io::Result<()> {
        match poll(&mut [PollFd::new(&self.0, PollFlags::OUT)], None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.room()?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
