//! Docker, and the containers that `make up` starts, under names of their own.

use std::net::SocketAddr;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use tempfile::TempDir;

use crate::prometheus::Prometheus;
use crate::support::client::Client;
use crate::support::{SECRET, eventually, lasting_port};

/// Runs `docker` with these arguments; what it printed, or a failed test.
#[track_caller]
pub(crate) fn docker(arguments: &[&str]) -> String {
    let output = try_docker(arguments);
    assert!(output.status.success(), "docker {arguments:?}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Runs `docker` with these arguments, which may fail.
pub(crate) fn try_docker(arguments: &[&str]) -> Output {
    Command::new("docker").args(arguments).output().expect("docker")
}

/// Everything that a command printed.
pub(crate) fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat()
}

/// A name that nobody else has.
pub(crate) fn name(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("lyftr-test-{}-{what}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed))
}

/// The image, which is built once.
pub(crate) const IMAGE: &str = "lyftr";

/// Builds the image, unless that was done.
pub(crate) fn image() -> &'static str {
    static BUILT: std::sync::Once = std::sync::Once::new();
    BUILT.call_once(|| drop(docker(&["build", "--quiet", "--tag", IMAGE, env!("CARGO_MANIFEST_DIR")])));
    IMAGE
}

/// A container, volume or network; dropping it removes it.
#[derive(Debug)]
pub(crate) struct Thing {
    kind: &'static str,
    pub(crate) name: String,
}

impl Thing {
    /// A container of this image, started with these options of `docker run` and this command.
    #[track_caller]
    pub(crate) fn container(image: &str, options: &[&str], command: &[&str]) -> Self {
        let thing = Self { kind: "container", name: name("container") };
        docker(&[&["run", "--detach", "--name", &thing.name], options, &[image], command].concat());
        thing
    }

    /// A volume with these options of `docker volume create`.
    pub(crate) fn volume(options: &[&str]) -> Self {
        let thing = Self { kind: "volume", name: name("volume") };
        docker(&[&["volume", "create"], options, &[&thing.name]].concat());
        thing
    }

    /// What `docker inspect` says by this template.
    #[track_caller]
    pub(crate) fn inspect(&self, template: &str) -> String {
        docker(&["inspect", "--format", template, &self.name])
    }

    /// Everything that a container printed.
    pub(crate) fn log(&self) -> String {
        text(&try_docker(&["logs", &self.name]))
    }

    /// Waits for a container to end; its exit code.
    #[track_caller]
    pub(crate) fn exit_code(&self) -> String {
        eventually("the container ends", || {
            (self.inspect("{{.State.Status}}") == "exited").then(|| self.inspect("{{.State.ExitCode}}"))
        })
    }

    /// Where port 8000 of a container is published.
    pub(crate) fn address(&self) -> SocketAddr {
        docker(&["port", &self.name, "8000/tcp"]).lines().next().unwrap().parse().unwrap()
    }
}

impl Drop for Thing {
    fn drop(&mut self) {
        let force: &[&str] = if self.kind == "container" { &["--volumes", "--force"] } else { &["--force"] };
        drop(try_docker(&[&[self.kind, "rm"], force, &[self.name.as_str()]].concat()));
    }
}

/// What `make up` starts, as a project of its own. Dropping it takes it down.
#[derive(Debug)]
pub(crate) struct Stack {
    pub(crate) project: String,
    with: &'static str,
    port: u16,
    prometheus_port: u16,
    pub(crate) secrets: TempDir,
}

impl Stack {
    /// Names and ports, and nothing started yet. `with` is what `WITH` says.
    pub(crate) fn new(with: &'static str) -> Self {
        let secrets = tempfile::tempdir().unwrap();
        Self { project: name("stack"), with, port: lasting_port(), prometheus_port: lasting_port(), secrets }
    }

    /// Started, and ready.
    #[track_caller]
    pub(crate) fn up(with: &'static str) -> Self {
        let stack = Self::new(with);
        let output = stack.make("up", &[("WEBHOOK_SECRET", SECRET)]);
        assert!(output.status.success(), "make up: {}", text(&output));
        stack
    }

    /// Runs `make` with this target and, besides what keeps the project apart, these variables.
    pub(crate) fn make(&self, target: &str, environment: &[(&str, &str)]) -> Output {
        self.command("make").arg(target).envs(environment.iter().copied()).output().expect("make")
    }

    /// A program in the project's folder, without the caller's settings.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env_remove("WEBHOOK_SECRET")
            .env_remove("READ_TOKEN")
            .env_remove("DATABASE_URL")
            .env_remove("MAKEFLAGS")
            .env("COMPOSE_PROJECT_NAME", &self.project)
            .env("WITH", self.with)
            .env("LYFTR_PORT", self.port.to_string())
            .env("PROMETHEUS_PORT", self.prometheus_port.to_string())
            .env("LYFTR_SECRETS", self.secrets.path());
        command
    }

    /// Where it is published.
    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.address())
    }

    /// Where Prometheus is published.
    pub(crate) fn prometheus(&self) -> Prometheus {
        Prometheus::at(format!("http://127.0.0.1:{}", self.prometheus_port))
    }

    /// The containers of a service, running or not.
    pub(crate) fn containers(&self, service: &str) -> Vec<String> {
        let project = format!("label=com.docker.compose.project={}", self.project);
        let service = format!("label=com.docker.compose.service={service}");
        let list =
            docker(&["ps", "--all", "--filter", &project, "--filter", &service, "--format", "{{.Names}}"]);
        let mut names: Vec<String> = list.lines().map(str::to_owned).collect();
        names.sort();
        names
    }

    /// The only container of a service.
    #[track_caller]
    pub(crate) fn container(&self, service: &str) -> String {
        let [container] = &self.containers(service)[..] else { panic!("not one container of {service}") };
        container.clone()
    }

    /// One number that the database answers with.
    #[track_caller]
    pub(crate) fn number(&self, sql: &str) -> u64 {
        let database = self.container("database");
        docker(&["exec", &database, "psql", "-U", "lyftr", "-Atc", sql]).parse().unwrap()
    }

    /// What is left of it: containers, volumes and networks.
    pub(crate) fn remains(&self) -> String {
        let project = format!("label=com.docker.compose.project={}", self.project);
        ["ps --all", "volume ls", "network ls"]
            .map(|list| {
                let words: Vec<&str> = list.split(' ').collect();
                docker(&[&words[..], &["--quiet", "--filter", &project]].concat())
            })
            .concat()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.command("scripts/compose").arg("state").output();
            println!("{}", log.map(|output| text(&output)).unwrap_or_default());
        }
        let down = self.make("down", &[]);
        if !std::thread::panicking() {
            assert!(down.status.success(), "make down: {}", text(&down));
            assert_eq!(self.remains(), "", "make down leaves something");
        }
    }
}
