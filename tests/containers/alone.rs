//! One container and its volume: stopped, killed, and given volumes that are of no use.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::engine::{Stack, Thing, docker, image, text, try_docker};
use crate::support::client::Client;
use crate::support::senders::{Load, pause};
use crate::support::{SECRET, eventually, message};

const KILLS: usize = 5;
/// Between two messages of a sender, so that the container and the test leave each other some of the machine.
const PAUSE: Duration = Duration::from_millis(2);

/// Lets senders work at `load` while `hurt` is done.
pub(crate) fn under_load(load: &Load, hurt: impl FnOnce(&mut Rng)) {
    load.while_sending(&mut Rng::with_seed(7), PAUSE, hurt);
}

/// Waits until something is stored again; how long that took.
pub(crate) fn healing(load: &Load) -> Duration {
    let begin = Instant::now();
    let before = load.acknowledged.load(Relaxed);
    eventually("it stores again", || (load.acknowledged.load(Relaxed) > before).then_some(()));
    begin.elapsed()
}

/// Everything acknowledged is there, once.
pub(crate) fn assert_kept(load: &Load) {
    let judgement = load.check();
    assert!(judgement.is_good(), "{}", judgement.told.join("\n"));
    assert!(load.acknowledged.load(Relaxed) > 0, "nothing was stored");
}

#[test]
fn what_was_acknowledged_outlives_docker_stop_and_docker_kill() {
    let stack = Stack::up("");
    let container = stack.container("api");
    let load = Load::new(stack.address());
    under_load(&load, |rng| {
        pause(rng, 500);
        // Killed after these ten seconds, with another exit code, if it has not ended by then.
        docker(&["stop", "--time", "10", &container]);
        assert_eq!(
            docker(&["inspect", "--format", "{{.State.ExitCode}} {{.State.OOMKilled}}", &container]),
            "0 false"
        );
        docker(&["start", &container]);
        println!("after docker stop and start: stored again after {} ms", healing(&load).as_millis());
        assert_kept(&load);
        for round in 0..KILLS {
            pause(rng, 700);
            docker(&["kill", &container]);
            docker(&["start", &container]);
            println!("docker kill {round}: stored again after {} ms", healing(&load).as_millis());
            assert_kept(&load);
        }
    });
    // A backup that was made at full work passes the check, and so does what is behind it.
    under_load(&load, |_| {
        let acknowledged = load.acknowledged.load(Relaxed);
        eventually("something is stored", || (load.acknowledged.load(Relaxed) > acknowledged).then_some(()));
        docker(&["exec", &container, "/lyftr", "backup", "/data/backup.db"]);
    });
    let database = "DATABASE_URL=sqlite:////data/backup.db";
    assert!(docker(&["exec", "--env", database, &container, "/lyftr", "check"]).contains("sound: "));
    assert!(docker(&["exec", &container, "/lyftr", "check"]).contains("sound: "));
    println!("{} acknowledged, {} not", load.acknowledged.load(Relaxed), load.unacknowledged());
    assert!(load.unacknowledged() > 0, "no kill has hit a request: this run has shown nothing");
    assert_kept(&load);
}

/// A container by itself, with this volume, published on a port of its own.
fn run(volume: &str) -> Thing {
    let options = [
        "--env",
        &format!("WEBHOOK_SECRET={SECRET}"),
        "--volume",
        volume,
        "--publish",
        "127.0.0.1::8000",
        "--read-only",
        "--cap-drop",
        "ALL",
    ];
    Thing::container(image(), &options, &[])
}

/// Does something in a volume, as root.
fn in_volume(volume: &str, command: &str) {
    docker(&["run", "--rm", "--volume", volume, "debian:bookworm-slim", "sh", "-c", command]);
}

/// It ends, with a code that says so and a line of the log that says what is wrong.
#[track_caller]
fn assert_refused(container: &Thing, reason: &str) {
    assert_eq!(container.exit_code(), "1", "{}", container.log());
    let log = container.log();
    assert!(log.contains(reason) && log.contains("/data"), "{reason}: {log}");
}

#[test]
fn a_volume_that_cannot_be_written_is_refused_in_clear_words() {
    // A folder of whoever runs this test, who is not the user in the container.
    let folder = tempfile::tempdir().unwrap();
    let container = run(&format!("{}:/data", folder.path().display()));
    assert_refused(&container, "ermission denied");
    assert!(container.log().contains("this process runs as user 65532"), "{}", container.log());

    let volume = Thing::volume(&[]);
    drop(run(&format!("{}:/data", volume.name)));
    assert_refused(&run(&format!("{}:/data:ro", volume.name)), "ead-only");

    // A database that was made before, and now lies on a volume that is read-only.
    let first = run(&format!("{}:/data", volume.name));
    eventually("it listens", || {
        try_docker(&["exec", &first.name, "/lyftr", "healthcheck"]).status.success().then_some(())
    });
    drop(first);
    assert_refused(&run(&format!("{}:/data:ro", volume.name)), "ead-only");

    // The file is somebody else's, in a folder that is ours.
    let mount = format!("{}:/data", volume.name);
    in_volume(&mount, "chown 0:0 /data/app.db && chmod 444 /data/app.db");
    let container = run(&mount);
    assert_refused(&container, "cannot write to /data/app.db");
    assert!(container.log().contains("it belongs to user 0"), "{}", container.log());
}

#[test]
fn a_full_volume_is_503_and_heals() {
    let size = "o=size=12m,uid=65532,gid=65532,mode=0700";
    let volume =
        Thing::volume(&["--driver", "local", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", size]);
    let mount = format!("{}:/data", volume.name);
    let container = run(&mount);
    let mut client = Client::new(container.address());
    eventually("it is ready", || {
        try_docker(&["exec", &container.name, "/lyftr", "healthcheck"]).status.success().then_some(())
    });
    let mut stored = 0;
    let mut send = |client: &mut Client| {
        let mut message = message(&format!("m{stored}"));
        message["text"] = "x".repeat(4000).into();
        let reply = client.send(&message);
        stored += usize::from(reply.status == 200);
        reply
    };
    assert_eq!(send(&mut client).status, 200);

    in_volume(&mount, "dd if=/dev/zero of=/data/ballast bs=64k 2>/dev/null; true");
    let refused = eventually("the volume is full", || {
        let reply = send(&mut client);
        (reply.status != 200).then_some(reply)
    });
    assert_eq!(refused.line(), r#"503 {"detail":"the disk is full"}"#);
    assert!(refused.header("retry-after").is_some());
    assert_eq!(client.get("/messages?limit=1").status, 200, "reads go on");
    assert_eq!(client.get("/health/ready").status, 503);
    let output = try_docker(&["exec", &container.name, "/lyftr", "healthcheck"]);
    assert!(!output.status.success() && text(&output).contains("the disk is full"), "{}", text(&output));

    in_volume(&mount, "rm /data/ballast");
    eventually("it stores again", || (send(&mut client).status == 200).then_some(()));
    eventually("it is ready again", || (client.get("/health/ready").status == 200).then_some(()));
    assert_eq!(client.json("/stats")["total_messages"], stored);
    assert_eq!(container.inspect("{{.State.Running}} {{.RestartCount}}"), "true 0");
}

/// The build context is what the image is made of, and not what happens to lie beside it.
#[test]
fn the_build_sees_only_what_it_needs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ignored = std::fs::read_to_string(root.join(".dockerignore")).unwrap();
    let mut lines = ignored.lines();
    assert_eq!(lines.next(), Some("*"), "everything is left out");
    for line in lines {
        let path = line.strip_prefix('!').expect(line);
        assert!(root.join(path).exists(), "{path} is let in, but is not there");
        assert!(!["target", "data", ".env", "deploy", ".git"].contains(&path), "{path}");
    }
}
