//! What a container may do, looked at from outside.

use std::collections::BTreeSet;

use crate::engine::{Stack, docker, image, text, try_docker};

/// The image is one program: this is what it may weigh.
const IMAGE_BYTES_MAX: u64 = 20 << 20;

#[test]
fn the_image_is_one_small_program_that_says_what_it_is() {
    let inspect = |template: &str| docker(&["image", "inspect", "--format", template, image()]);
    let bytes: u64 = inspect("{{.Size}}").parse().unwrap();
    assert!(bytes <= IMAGE_BYTES_MAX, "{bytes} bytes");
    assert_eq!(inspect("{{.Config.User}}"), "65532:65532");
    assert_eq!(inspect("{{json .Config.Entrypoint}}"), r#"["/lyftr"]"#);
    assert_eq!(inspect("{{json .Config.Healthcheck.Test}}"), r#"["CMD","/lyftr","healthcheck"]"#);
    assert_eq!(inspect("{{json .Config.Volumes}}"), r#"{"/data":{}}"#);
    for label in ["title", "description", "source", "licenses", "version", "revision", "documentation"] {
        let value = inspect(&format!("{{{{index .Config.Labels \"org.opencontainers.image.{label}\"}}}}"));
        assert!(!value.is_empty(), "label {label}");
    }
    assert_eq!(
        inspect("{{index .Config.Labels \"org.opencontainers.image.version\"}}"),
        env!("CARGO_PKG_VERSION")
    );

    // The files, besides what the engine itself puts into a container.
    let container = docker(&["create", image()]);
    let listing = std::process::Command::new("sh")
        .args(["-c", &format!("docker export {container} | tar -t")])
        .output()
        .unwrap();
    docker(&["rm", "--volumes", &container]);
    let listing = text(&listing);
    let tops: BTreeSet<&str> = listing.lines().filter_map(|path| path.split('/').next()).collect();
    let engines = BTreeSet::from([".dockerenv", "dev", "etc", "proc", "sys"]);
    assert_eq!(tops.difference(&engines).collect::<Vec<_>>(), [&"data", &"lyftr"]);
    let etc: Vec<&str> =
        listing.lines().filter(|path| path.starts_with("etc/") && !path.ends_with('/')).collect();
    assert!(etc.len() <= 4, "hosts, hostname, resolv.conf and mtab are the engine's: {etc:?}");
}

#[test]
fn a_container_may_do_nothing_but_serve_and_write_to_its_volume() {
    let stack = Stack::up("");
    let container = stack.container("api");
    let inspect = |template: &str| docker(&["inspect", "--format", template, &container]);

    // The process as the kernel sees it.
    let pid = inspect("{{.State.Pid}}");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("{name}")).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(field("Uid"), "65532 65532 65532 65532");
    assert_eq!(field("Gid"), "65532 65532 65532 65532");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!(field("NoNewPrivs"), "1");
    assert_eq!(field("NSpid").split(' ').next_back(), Some("1"), "it is process 1");

    // Nothing outside /data can be written, by the program itself or by whoever may use the engine.
    assert_eq!(inspect("{{.HostConfig.ReadonlyRootfs}}"), "true");
    let elsewhere =
        ["exec", "--env", "DATABASE_URL=sqlite:////elsewhere.db", &container, "/lyftr", "migrate"];
    let output = try_docker(&elsewhere);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let output = try_docker(&[
        "cp",
        concat!(env!("CARGO_MANIFEST_DIR"), "/LICENSE"),
        &format!("{container}:/LICENSE"),
    ]);
    assert!(!output.status.success() && text(&output).contains("read-only"), "{}", text(&output));

    // There is nothing to run but the program.
    for program in ["/bin/sh", "sh", "/bin/bash", "/busybox", "apt-get", "ls"] {
        let output = try_docker(&["exec", &container, program]);
        assert!(!output.status.success(), "{program} runs: {}", text(&output));
    }

    assert_ne!(inspect("{{.HostConfig.Memory}}"), "0");
    assert_ne!(inspect("{{.HostConfig.PidsLimit}}"), "0");
    assert_eq!(inspect("{{.HostConfig.RestartPolicy.Name}}"), "unless-stopped");
    assert_eq!(inspect("{{(index (index .NetworkSettings.Ports \"8000/tcp\") 0).HostIp}}"), "127.0.0.1");
    // As many threads as it ever has, and the limit with room above them.
    let threads: u32 = field("Threads").parse().unwrap();
    assert!(threads < 64, "{threads} threads");
}
