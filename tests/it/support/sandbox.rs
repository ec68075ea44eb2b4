//! The binary in a sandbox: [`sandbox.c`](sandbox.c) takes system calls away from it, and from root the right to pass
//! over the permissions of files. On Linux only.

use rustix::io::Errno;
use tempfile::TempDir;

use super::compile;
use super::process::Builder;

/// What stands between the binary and the kernel.
#[derive(Debug)]
pub(crate) struct Sandbox {
    folder: TempDir,
}

impl Sandbox {
    /// Compiles it.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        compile("support/sandbox.c", &[], &folder.path().join("sandbox"));
        Self { folder }
    }

    /// Has it run in there, where each of these calls fails.
    pub(crate) fn around(&self, builder: Builder, without: &[(&str, Errno)]) -> Builder {
        let program = self.folder.path().join("sandbox").to_str().unwrap().to_owned();
        let calls = without.iter().map(|(name, error)| format!("{name}={}", error.raw_os_error()));
        builder.under(std::iter::once(program).chain(calls).chain(["--".to_owned()]))
    }
}
