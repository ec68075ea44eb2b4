//! The resources of this process, under the names that Prometheus' own client libraries use
//! (<https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>).

use super::text::Page;

/// The resources that this process uses at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Process {
    /// User and kernel CPU time since the start, in seconds.
    pub cpu_seconds: f64,
    /// Physical memory, in bytes.
    pub resident_bytes: u64,
    /// Address space, in bytes.
    pub virtual_bytes: u64,
    /// Open file descriptors, connections among them.
    pub open_fds: u64,
    /// The limit of open file descriptors.
    pub max_fds: u64,
    /// Unix time of the start, in seconds.
    pub start_seconds: f64,
    /// Operating-system threads.
    pub threads: u64,
}

impl Process {
    /// Reads `/proc`; `None` on systems that have none, or where a sandbox hides it.
    #[cfg(target_os = "linux")]
    pub fn read() -> Option<Self> {
        use procfs::CurrentSI as _;
        let process = procfs::process::Process::myself().ok()?;
        let (stat, statm) = (process.stat().ok()?, process.statm().ok()?);
        let files = process.limits().ok()?.max_open_files.soft_limit;
        let ticks = |n: u64| seconds(n, procfs::ticks_per_second());
        Some(Self {
            cpu_seconds: ticks(stat.utime.checked_add(stat.stime)?),
            resident_bytes: statm.resident.checked_mul(procfs::page_size())?,
            virtual_bytes: stat.vsize,
            open_fds: u64::try_from(process.fd_count().ok()?).ok()?,
            max_fds: match files {
                procfs::process::LimitValue::Unlimited => u64::MAX,
                procfs::process::LimitValue::Value(files) => files,
            },
            start_seconds: ticks(stat.starttime) + seconds(procfs::KernelStats::current().ok()?.btime, 1),
            threads: u64::try_from(stat.num_threads).ok()?,
        })
    }

    /// Reads `/proc`; `None` on systems that have none.
    #[cfg(not(target_os = "linux"))]
    pub fn read() -> Option<Self> {
        None
    }

    pub(super) fn write(&self, page: &mut Page) {
        let help = "User and kernel CPU time of the process, in seconds.";
        page.head("process_cpu_seconds_total", "counter", help);
        page.decimal("process_cpu_seconds_total", self.cpu_seconds);
        let help = "Unix time of the start of the process, in seconds.";
        page.head("process_start_time_seconds", "gauge", help);
        page.decimal("process_start_time_seconds", self.start_seconds);
        page.gauge("process_resident_memory_bytes", "Physical memory of the process.", self.resident_bytes);
        page.gauge("process_virtual_memory_bytes", "Address space of the process.", self.virtual_bytes);
        page.gauge("process_open_fds", "Open file descriptors, connections among them.", self.open_fds);
        page.gauge("process_max_fds", "Limit of open file descriptors.", self.max_fds);
        page.gauge("process_threads", "Operating-system threads of the process.", self.threads);
    }
}

#[cfg(target_os = "linux")]
#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "a time that long has lost nothing that counts"
)]
fn seconds(units: u64, units_a_second: u64) -> f64 {
    units as f64 / units_a_second as f64
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_alive_and_of_a_size() {
        let process = Process::read().unwrap();
        assert!(
            process.resident_bytes > 1 << 20 && process.virtual_bytes >= process.resident_bytes,
            "{process:?}"
        );
        assert!(process.open_fds >= 3 && process.max_fds >= process.open_fds, "{process:?}");
        assert!(process.threads >= 1 && process.cpu_seconds >= 0.0, "{process:?}");
        // The test began after 2020 and before it ended.
        assert!(process.start_seconds > 1.5e9, "{process:?}");
    }
}
