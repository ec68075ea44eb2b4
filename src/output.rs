//! Standard output and standard error, unbuffered. A write waits until the reader makes room.
//!
//! Another program that shares the open file may have set `O_NONBLOCK` on it, as Node.js does with its pipe or terminal.
//! From then on a write fails with `EAGAIN` while the reader is slow, in this program as well, which then waits itself.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

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
