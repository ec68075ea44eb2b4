//! Ctrl-C and SIGTERM. The first one ends a follower in good order, a second one at once.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use tokio::signal::unix::{SignalKind, signal};

/// Exit code after Ctrl-C, as shells have it: 128 and the number of SIGINT.
const INTERRUPTED: u8 = 130;
/// No signal has come.
const NONE: u8 = u8::MAX;

/// Whether a signal has come, and the exit code that it leads to.
#[derive(Debug, Clone)]
pub(super) struct Stop(Arc<AtomicU8>);

impl Stop {
    /// Listens to both signals from now on.
    ///
    /// # Errors
    /// When the operating system gives no thread, or no signal.
    pub(super) fn watch() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (mut terminate, mut interrupt) = runtime.block_on(async {
            Ok::<_, std::io::Error>((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
        })?;
        let stop = Self(Arc::new(AtomicU8::new(NONE)));
        let code = Arc::clone(&stop.0);
        std::thread::Builder::new().name("lyftr-signal".into()).spawn(move || {
            runtime.block_on(async {
                loop {
                    // Who stops a service with SIGTERM wants its end, and no failure.
                    let came = tokio::select! {
                        _ = terminate.recv() => 0,
                        _ = interrupt.recv() => INTERRUPTED,
                    };
                    if code.swap(came, Relaxed) != NONE {
                        std::process::exit(came.into());
                    }
                }
            });
        })?;
        Ok(stop)
    }

    /// The exit code, if a signal has come.
    pub(super) fn code(&self) -> Option<ExitCode> {
        let code = self.0.load(Relaxed);
        (code != NONE).then(|| ExitCode::from(code))
    }
}
