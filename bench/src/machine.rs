//! Processes and the machine, by `/proc`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

/// CPU time that a process has used up to now, user and kernel together, in steps of 10 ms.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    ticks(pid, 2).map(to_time)
}

/// The CPU time of a process and of those it has started, the ended ones among them included.
pub fn family_cpu_time(pid: u32) -> Result<Duration> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    // One may have ended meanwhile; then it is counted the next time, with those that have ended.
    let all: u64 = children.filter_map(|child| ticks(child, 2).ok()).sum();
    Ok(to_time(all + ticks(pid, 4)?))
}

/// The first `fields` of utime, stime, cutime and cstime, which are fields 14 to 17 of proc(5); the name of the
/// program, in brackets, may hold spaces and brackets.
fn ticks(pid: u32, fields: usize) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, after_name) = stat.rsplit_once(") ").context("/proc has an unknown form")?;
    let ticks = after_name.split(' ').skip(11).take(fields).map(str::parse::<u64>);
    Ok(ticks.sum::<Result<u64, _>>()?)
}

fn to_time(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The most memory that a process has held at once (`VmHWM`), in MiB.
pub fn peak_memory_mib(pid: u32) -> Result<f64> {
    kib(&format!("/proc/{pid}/status"), "VmHWM").map(|kib| kib / 1024.0)
}

fn kib(path: &str, name: &str) -> Result<f64> {
    let value = field(path, name).and_then(|value| value.strip_suffix(" kB")?.trim().parse().ok());
    value.with_context(|| format!("{path} has no {name}"))
}

/// The value of the first line `name: value` of a file.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
}

/// The machine that the figures come from, in words; an unknown property is `?`. The stores will be in `folder`.
pub fn description(folder: &Path) -> String {
    let known = |value: Option<String>| value.unwrap_or_else(|| "?".to_owned());
    let first = |path| Some(fs::read_to_string(path).ok()?.split_whitespace().next()?.to_owned());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu = known(field("/proc/cpuinfo", "model name"));
    let gib = kib("/proc/meminfo", "MemTotal").unwrap_or_default() / 1024.0 / 1024.0;
    let kernel = known(first("/proc/sys/kernel/osrelease"));
    let load = known(first("/proc/loadavg"));
    let file_system = known(file_system(&fs::read_to_string("/proc/mounts").unwrap_or_default(), folder));
    let warning = match file_system.as_str() {
        "tmpfs" | "ramfs" => "\n\n**The stores lie in memory: nothing here says what durability costs.**\n",
        _ => "",
    };
    format!(
        "{cores} cores ({cpu}), {gib:.0} GiB, Linux {kernel}, stores on {file_system}, load before the start {load}.{warning}"
    )
}

/// The file system that holds a folder: the mount with the longest matching name, and of two equal ones the later.
fn file_system(mounts: &str, folder: &Path) -> Option<String> {
    let columns = mounts.lines().map(|line| line.split(' ').skip(1));
    let mounts = columns.filter_map(|mut columns| Some((columns.next()?, columns.next()?)));
    let around = mounts.filter(|(place, _)| folder.starts_with(place));
    around.max_by_key(|(place, _)| place.len()).map(|(_, kind)| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_used_time_and_memory() {
        let pid = std::process::id();
        assert!(peak_memory_mib(pid).unwrap() > 0.1);
        assert!(family_cpu_time(pid).unwrap() >= cpu_time(pid).unwrap());
    }

    #[test]
    fn the_nearest_mount_decides() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/vdb /tmp/disk xfs rw 0 0\n";
        for (folder, expected) in [("/tmpfoo", "ext4"), ("/tmp/x", "tmpfs"), ("/tmp/disk/a", "xfs")] {
            assert_eq!(file_system(mounts, Path::new(folder)).as_deref(), Some(expected));
        }
    }
}
