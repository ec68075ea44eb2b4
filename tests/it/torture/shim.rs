//! The service with [`shim.c`](shim.c) between it and the kernel.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::io::Errno;
use tempfile::TempDir;

use crate::support::compile;
use crate::support::process::Builder;

/// What can be told to the shim, in the order of `struct control`.
#[derive(Debug, Clone, Copy)]
enum Setting {
    WriteErrno,
    SyncErrno,
    SyncDelayMs,
    ClockOffsetS,
    Hits,
    MovedSyncErrno,
}

/// The disk and the clock of one service.
#[derive(Debug)]
pub(crate) struct Shim {
    control: File,
    folder: TempDir,
}

impl Shim {
    /// Compiles the shim, which then does nothing until it is told to.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        compile("torture/shim.c", &["-shared", "-fPIC"], &folder.path().join("shim.so"));
        let path = folder.path().join("control");
        let control = File::options().create_new(true).read(true).write(true).open(path).unwrap();
        control.set_len(4096).unwrap();
        Self { control, folder }
    }

    /// The service behind it.
    pub(crate) fn under(&self, builder: Builder) -> Builder {
        let path = |name: &str| self.folder.path().join(name).to_str().unwrap().to_owned();
        builder.env("LD_PRELOAD", &path("shim.so")).env("LYFTR_SHIM", &path("control"))
    }

    /// Every write to the database fails.
    pub(crate) fn fail_writes(&self, error: Errno) {
        self.set(Setting::WriteErrno, error.raw_os_error().into());
    }

    /// Every sync of the database fails, and takes back what was written since the last one.
    pub(crate) fn fail_syncs(&self, error: Errno) {
        self.set(Setting::SyncErrno, error.raw_os_error().into());
    }

    /// The same for the file that checkpoints move the log into, and not for the log.
    pub(crate) fn fail_syncs_of_checkpoints(&self, error: Errno) {
        self.set(Setting::MovedSyncErrno, error.raw_os_error().into());
    }

    /// Every sync of the database takes so much longer.
    pub(crate) fn delay_syncs(&self, ms: u32) {
        self.set(Setting::SyncDelayMs, ms.into());
    }

    /// The time of day is another one.
    pub(crate) fn move_clock(&self, seconds: i64) {
        self.set(Setting::ClockOffsetS, seconds);
    }

    /// From now on the disk does what it should.
    pub(crate) fn heal(&self) {
        use Setting::{MovedSyncErrno, SyncDelayMs, SyncErrno, WriteErrno};
        for setting in [WriteErrno, SyncErrno, SyncDelayMs, MovedSyncErrno] {
            self.set(setting, 0);
        }
    }

    /// How often something was made to fail or to wait.
    pub(crate) fn hits(&self) -> i64 {
        let mut bytes = [0; 8];
        self.control.read_exact_at(&mut bytes, place(Setting::Hits)).unwrap();
        i64::from_ne_bytes(bytes)
    }

    fn set(&self, setting: Setting, value: i64) {
        self.control.write_all_at(&value.to_ne_bytes(), place(setting)).unwrap();
    }
}

fn place(setting: Setting) -> u64 {
    8 * setting as u64
}
