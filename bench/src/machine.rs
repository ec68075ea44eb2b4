//! Processes and the machine, by `/proc`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use procfs::process::{Process, Stat};
use procfs::{CpuInfo, Current as _, LoadAverage, Meminfo};

/// CPU time that a process has used up to now, user and kernel together, in steps of 10 ms.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = process(pid)?.stat()?;
    Ok(time(stat.utime + stat.stime))
}

/// The CPU time of a process and of those it has started, the ended ones among them included.
pub fn family_cpu_time(pid: u32) -> Result<Duration> {
    let process = process(pid)?;
    let own = |stat: &Stat| stat.utime + stat.stime;
    let of_child = |child| self::process(child).ok()?.stat().ok().as_ref().map(own);
    // One may have ended meanwhile; then it is counted the next time, with those that have ended.
    let running: u64 = process.task_main_thread()?.children()?.into_iter().filter_map(of_child).sum();
    let stat = process.stat()?;
    Ok(time(running + own(&stat) + (stat.cutime + stat.cstime).unsigned_abs()))
}

/// The most memory that a process has held at once, in MiB.
pub fn peak_memory_mib(pid: u32) -> Result<f64> {
    let kib = process(pid)?.status()?.vmhwm.context("no VmHWM")?;
    Ok(kib as f64 / 1024.0)
}

/// Bytes that a process has caused to be written to disks up to now.
pub fn written_bytes(pid: u32) -> Result<u64> {
    Ok(process(pid)?.io()?.write_bytes)
}

fn process(pid: u32) -> Result<Process> {
    Ok(Process::new(i32::try_from(pid)?)?)
}

fn time(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / procfs::ticks_per_second() as f64)
}

/// The machine that the figures come from, in words. The stores will be in `folder`.
pub fn description(folder: &Path) -> Result<String> {
    let cpus = CpuInfo::current()?;
    let (cores, cpu) = (cpus.num_cores(), cpus.model_name(0).unwrap_or("?"));
    let gib = Meminfo::current()?.mem_total as f64 / f64::from(1 << 30);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let load = LoadAverage::current()?.one;
    // The mount with the longest matching name, and of two equal ones the later.
    let mounts = Process::myself()?.mountinfo()?.0;
    let around = mounts.iter().filter(|mount| folder.starts_with(&mount.mount_point));
    let nearest = around.max_by_key(|mount| mount.mount_point.as_os_str().len());
    let file_system = nearest.map_or("?", |mount| &mount.fs_type);
    let warning = match file_system {
        "tmpfs" | "ramfs" => "\n\n**The stores lie in memory: nothing here says what durability costs.**\n",
        _ => "",
    };
    Ok(format!(
        "{cores} cores ({cpu}), {gib:.0} GiB, Linux {}, stores on {file_system}, load before the start {load:.2}.{warning}",
        kernel.trim()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_used_time_and_memory() {
        let pid = std::process::id();
        assert!(peak_memory_mib(pid).unwrap() > 0.1);
        assert!(family_cpu_time(pid).unwrap() >= cpu_time(pid).unwrap());
        assert!(description(Path::new("/proc")).unwrap().contains("stores on proc, "));
    }
}
