//! What Linux tells about a process and about the machine, read from `/proc`.

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

/// CPU time a process has used up to now, user and kernel together, in steps of 10 ms.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let ticks = ticks(&stat).with_context(|| format!("{path} has an unknown form"))?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// CPU time that a process and those it has started have used up to now, the ended ones among them included.
pub fn family_cpu_time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let own = ticks_with_ended(&stat).with_context(|| format!("{path} has an unknown form"))?;
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // One may end meanwhile; then it is counted the next time, with those that have ended.
    let stats = children
        .split_whitespace()
        .filter_map(|child| fs::read_to_string(format!("/proc/{child}/stat")).ok());
    let all: u64 = own + stats.filter_map(|stat| ticks(&stat)).sum::<u64>();
    Ok(Duration::from_secs_f64(all as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// The most memory a process has held at once (`VmHWM`), in KiB.
pub fn peak_memory_kib(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    field(&status, "VmHWM")
        .and_then(|value| value.strip_suffix(" kB")?.trim().parse().ok())
        .with_context(|| format!("{path} has no VmHWM"))
}

/// The machine the figures come from.
#[derive(Debug)]
pub struct Machine {
    cores: usize,
    cpu: String,
    kernel: String,
    memory_gib: f64,
    load: String,
    file_system: String,
}

impl Machine {
    /// Looks at the machine; `directory` is where the stores will lie. What is not known is `?`.
    pub fn look(directory: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let unknown = || "?".to_owned();
        let memory = read("/proc/meminfo");
        let memory_kib = field(&memory, "MemTotal").and_then(|value| value.split(' ').next()?.parse().ok());
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cpu: field(&read("/proc/cpuinfo"), "model name").map_or_else(unknown, str::to_owned),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory_gib: memory_kib.unwrap_or(0.0) / 1024.0 / 1024.0,
            load: read("/proc/loadavg").split(' ').next().unwrap_or("?").to_owned(),
            file_system: file_system(&read("/proc/mounts"), directory).map_or_else(unknown, str::to_owned),
        }
    }

    /// Whether the stores would lie in memory, where a sync costs nothing and proves nothing.
    pub fn stores_in_memory(&self) -> bool {
        matches!(self.file_system.as_str(), "tmpfs" | "ramfs")
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cores, cpu, kernel, memory_gib, load, file_system } = self;
        write!(
            out,
            "{cores} cores ({cpu}), {memory_gib:.0} GiB, Linux {kernel}, stores on {file_system}, load before the start {load}"
        )
    }
}

/// utime + stime of a `/proc/PID/stat`. The name in brackets may hold spaces and brackets.
fn ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    // The state is field 3 of proc(5), utime 14, stime 15.
    let mut fields = after_name.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let kernel: u64 = fields.next()?.parse().ok()?;
    Some(user + kernel)
}

/// The same and cutime + cstime, what children have used that have ended.
fn ticks_with_ended(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    after_name.split(' ').skip(11).take(4).map(|field| field.parse::<u64>().ok()).sum()
}

/// The value of the first line `name: value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

/// The type of the file system that holds `path`: the mount with the longest matching name, and
/// of two equal ones the later.
fn file_system<'a>(mounts: &'a str, path: &Path) -> Option<&'a str> {
    mounts
        .lines()
        .filter_map(|line| {
            let mut columns = line.split(' ').skip(1);
            Some((columns.next()?, columns.next()?))
        })
        .filter(|(place, _)| path.starts_with(place))
        .max_by_key(|(place, _)| place.len())
        .map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_a_strange_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 100 0 0";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(ticks("42 nothing"), None);
        let with_ended = stat.replace("250 50 0 0", "250 50 30 4");
        assert_eq!(ticks_with_ended(&with_ended), Some(334));
    }

    #[test]
    fn own_process_has_used_memory_and_no_negative_time() {
        let pid = std::process::id();
        assert!(peak_memory_kib(pid).unwrap() > 100);
        cpu_time(pid).unwrap();
    }

    #[test]
    fn fields_are_found_by_whole_name() {
        let status = "Name:\tlyftr\nVmHWMX:\t1 kB\nVmHWM:\t    6480 kB\n";
        assert_eq!(field(status, "VmHWM"), Some("6480 kB"));
        assert_eq!(field(status, "Vm"), None);
    }

    #[test]
    fn the_nearest_mount_decides() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/vdb /tmp/disk xfs rw 0 0\n";
        assert_eq!(file_system(mounts, Path::new("/tmpfoo")), Some("ext4"));
        assert_eq!(file_system(mounts, Path::new("/tmp/x")), Some("tmpfs"));
        assert_eq!(file_system(mounts, Path::new("/tmp/disk/a")), Some("xfs"));
    }
}
