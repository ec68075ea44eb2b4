//! `scripts/compose` where there is only the Compose of old, of which, as of Docker, something stands in the place.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

fn with_docker_compose_only(with: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    for (name, script) in [
        ("docker", "#!/bin/sh\n[ \"$1\" = info ]\n"),
        ("docker-compose", "#!/bin/sh\necho docker-compose \"$@\"\n"),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/compose");
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"PATH="$0:$PATH" exec "$1" logs"#]).arg(folder.path()).arg(script);
    shell.env("WITH", with).output().unwrap()
}

#[test]
fn the_compose_of_old_runs_the_service_but_not_with_more() {
    let output = with_docker_compose_only("");
    assert!(output.status.success(), "{output:?}");
    let ran = String::from_utf8(output.stdout).unwrap();
    assert!(
        ran.starts_with("docker-compose -f docker-compose.yml ") && ran.ends_with(" logs -f api\n"),
        "{ran}"
    );
    let output = with_docker_compose_only("replicas");
    assert!(!output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("WITH needs Docker Compose v2"), "{said}");
}
