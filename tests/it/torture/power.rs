//! The power is cut: what was not synced is gone. On a file system of its own, which the kernel is told to shut down
//! (`EXT4_IOC_SHUTDOWN`), so root on Linux only.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::Torture;
use super::kill::start;
use crate::support::senders::{Load, pause};
use crate::support::{compile, skip};

const IMAGE_BYTES: u64 = 256 << 20;

/// An ext4 file system in a file.
struct Disk {
    folder: TempDir,
}

impl Disk {
    fn make() -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        let disk = Self { folder };
        let image = std::fs::File::create(disk.image()).unwrap();
        image.set_len(IMAGE_BYTES).unwrap();
        std::fs::create_dir(disk.mounted()).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(disk.image()))?;
        compile("torture/shutdown.c", &[], &disk.program());
        disk.mount()?;
        Ok(disk)
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("shutdown")
    }

    /// Where it is mounted.
    fn mounted(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    /// By a loop device of its own each time. A mount namespace that was made meanwhile, as for a container, may hold the
    /// file system after it is unmounted here, shut down as it is; `mount -o loop` would find its device and mount that.
    fn mount(&self) -> Result<(), String> {
        let device = run(Command::new("losetup").args(["--find", "--show"]).arg(self.image()))?;
        let device = device.trim();
        let mounted = run(Command::new("mount").arg(device).arg(self.mounted()));
        // It goes with the last mount, or now if there is none.
        run(Command::new("losetup").args(["--detach", device]))?;
        mounted.map(drop)
    }

    fn unmount(&self) -> Result<(), String> {
        run(Command::new("umount").arg(self.mounted())).map(drop)
    }

    /// What cuts the power when its standard input is closed.
    fn plug(&self) -> Child {
        Command::new(self.program()).arg(self.mounted()).stdin(Stdio::piped()).spawn().unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.unmount());
    }
}

/// Its standard output, or its standard error.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[test]
fn acknowledged_messages_survive_a_power_cut() {
    let disk = match Disk::make() {
        Ok(disk) => disk,
        Err(why) => {
            return skip(&format!("an ext4 file system of its own cannot be mounted (are you root?): {why}"));
        }
    };
    let mut torture = Torture::new("power", 5);
    let load = Load::new(([127, 0, 0, 1], super::lasting_port()).into());
    torture.run(&load, torture.rounds, |_, rng| {
        let (mut process, restart) = start(&disk.mounted(), &load);
        let judgement = load.check();
        let mut plug = disk.plug();
        pause(rng, 400);
        // The file system is cut off, but the service goes on for a moment, and the kernel was seen to say of a sync
        // that was under way that all is well, some milliseconds later. After a true cut nobody would hear of it.
        load.unplug();
        drop(plug.stdin.take());
        assert!(plug.wait().unwrap().success());
        pause(rng, 50);
        process.kill9();
        load.plug_in();
        disk.unmount().unwrap();
        disk.mount().unwrap();
        (restart, judgement)
    });
    let (mut process, _) = start(&disk.mounted(), &load);
    torture.judgement += load.check();
    assert_eq!(process.terminate().code(), Some(0));
    torture.end();
}
