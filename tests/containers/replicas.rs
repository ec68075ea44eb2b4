//! Three replicas, PostgreSQL and HAProxy, as `make up WITH=replicas` starts them, and everything that happens to
//! machines.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::alone::{assert_kept, under_load};
use crate::engine::{Stack, docker, text, try_docker};
use crate::support::senders::{Load, SENDERS};
use crate::support::{SECRET, eventually, message, shout};
use crate::watch::assert_every_query_answers;

/// How long each hurt lasts: longer than HAProxy takes to notice.
const HURT: Duration = Duration::from_secs(3);
const ROLLING_RESTARTS: usize = 3;
/// How long the service may take to be well again once the cause is gone.
const HEALING_MAX: Duration = Duration::from_secs(5);

#[test]
fn nothing_is_lost_whatever_is_killed_paused_cut_off_or_restarted() {
    let stack = Stack::up("replicas");
    let replicas = stack.containers("api");
    assert_eq!(replicas.len(), 3, "{replicas:?}");
    let database = stack.container("database");
    let network = format!("{}_database", stack.project);
    assert_no_password_is_to_be_seen(&stack);

    let load = Load::new(stack.address());
    under_load(&load, |_| {
        hurt(
            &load,
            "a replica is killed",
            || drop(docker(&["kill", &replicas[0]])),
            || {
                docker(&["start", &replicas[0]]);
            },
        );
        hurt(
            &load,
            "a replica is paused",
            || drop(docker(&["pause", &replicas[1]])),
            || {
                docker(&["unpause", &replicas[1]]);
            },
        );
        hurt(
            &load,
            "a replica is cut off from the database",
            || drop(docker(&["network", "disconnect", &network, &replicas[2]])),
            || drop(docker(&["network", "connect", &network, &replicas[2]])),
        );
        eventually("all replicas are ready again", || {
            replicas.iter().all(|replica| is_ready(replica)).then_some(())
        });
        hurt(&load, "the database is restarted", || {}, || drop(docker(&["restart", &database])));
        hurt(
            &load,
            "the database is killed",
            || drop(docker(&["kill", &database])),
            || {
                docker(&["start", &database]);
            },
        );
        eventually("all replicas are ready again", || {
            replicas.iter().all(|replica| is_ready(replica)).then_some(())
        });
    });
    println!("{} acknowledged, {} not", load.acknowledged.load(Relaxed), load.unacknowledged());
    assert_kept(&load);
    let rows = stack.number("SELECT count(*) FROM message");
    assert_eq!(stack.client().json("/stats")["total_messages"], rows, "the aggregates and the rows");
    assert_eq!(stack.number("SELECT count(DISTINCT message_id) FROM message"), rows);
    for replica in &replicas {
        assert_eq!(
            docker(&["inspect", "--format", "{{.RestartCount}}", replica]),
            "0",
            "{replica} went on by itself"
        );
    }
}

#[test]
fn a_rolling_restart_answers_every_request() {
    let stack = Stack::up("replicas");
    let load = Load::new(stack.address());
    under_load(&load, |_| {
        for round in 0..ROLLING_RESTARTS {
            let before = stack.containers("api").iter().map(|replica| id(replica)).collect::<Vec<_>>();
            let restart = stack.make("restart", &[]);
            assert!(restart.status.success(), "{}", text(&restart));
            let after = stack.containers("api").iter().map(|replica| id(replica)).collect::<Vec<_>>();
            assert_eq!(after.len(), 3);
            assert!(after.iter().all(|id| !before.contains(id)), "each is a new one");
            println!("rolling restart {round}: {} acknowledged", load.acknowledged.load(Relaxed));
        }
    });
    assert_eq!(load.unacknowledged(), 0, "requests that failed");
    assert_kept(&load);

    // A restart with another secret is all that it takes to change it.
    assert_eq!(stack.client().send(&message("m1")).status, 200);
    let restart = stack.make("restart", &[("WEBHOOK_SECRET", "another-secret-for-the-tests-of-lyftr")]);
    assert!(restart.status.success(), "{}", text(&restart));
    assert_eq!(stack.client().send(&message("m2")).status, 401);
}

/// What Prometheus has counted is what the client has.
#[test]
fn prometheus_sees_every_replica_and_counts_what_the_client_counts() {
    let stack = Stack::up("replicas prometheus");
    let prometheus = stack.prometheus();
    prometheus.await_samples("up{job=\"lyftr\"}", |up| up.len() == 3 && up.iter().all(|(_, up)| *up == 1.0));
    let mut client = stack.client();
    for n in 0..60 {
        client.store(&message(&format!("m{n}")));
        client.store(&message(&format!("m{}", n / 2)));
        assert_eq!(client.post(b"{}", &[&"0".repeat(64)]).status, 401);
        // Another connection may go to another replica.
        if n % 5 == 0 {
            client = stack.client();
        }
    }
    for (result, count) in
        [("created", 60.0), ("duplicate", 60.0), ("invalid_signature", 60.0), ("error", 0.0)]
    {
        let sum = format!("sum(webhook_requests_total{{result=\"{result}\"}})");
        prometheus.await_samples(&sum, |sum| sum.first().is_some_and(|(_, value)| *value == count));
    }
    let used = prometheus.samples("webhook_requests_total{result=\"created\"}").unwrap();
    assert!(
        used.iter().filter(|(_, value)| *value > 0.0).count() > 1,
        "one replica had everything: {used:?}"
    );
    // Reads need the token now, which is in a file.
    assert_eq!(client.get("/messages").status, 401);
    let token = std::fs::read_to_string(stack.secrets.path().join("read_token")).unwrap();
    let reply = client.request("GET", "/messages", &[("Authorization", &format!("Bearer {token}"))], b"");
    assert_eq!(reply.json()["total"], 60);
    assert_every_query_answers(&prometheus);
}

#[test]
fn prometheus_watches_one_container_too() {
    let stack = Stack::up("prometheus");
    assert_eq!(stack.client().get("/stats").status, 401, "reads need the token");
    let prometheus = stack.prometheus();
    prometheus.await_samples("up{job=\"lyftr\"}", |up| up.len() == 1 && up[0].1 == 1.0);
    assert_every_query_answers(&prometheus);
}

/// Does something to a part, takes that back after a while, and waits until messages are stored again.
fn hurt(load: &Load, what: &str, begin: impl FnOnce(), end: impl FnOnce()) {
    let failed = load.unacknowledged();
    begin();
    std::thread::sleep(HURT);
    end();
    let gone = Instant::now();
    // So many that it cannot be those alone that had no business with the part.
    let enough = load.acknowledged.load(Relaxed) + 10 * SENDERS;
    eventually(&format!("{what}: the service is well again"), || {
        (load.acknowledged.load(Relaxed) >= enough).then_some(())
    });
    let healing = gone.elapsed();
    println!(
        "{what}: {} requests not answered 200, well after {} ms",
        load.unacknowledged() - failed,
        healing.as_millis()
    );
    if healing > HEALING_MAX {
        shout(&format!("{what}: the service took {healing:?} to be well again"));
    }
}

fn is_ready(container: &str) -> bool {
    try_docker(&["exec", container, "/lyftr", "healthcheck"]).status.success()
}

fn id(container: &str) -> String {
    docker(&["inspect", "--format", "{{.Id}}", container])
}

/// Passwords are in files, not in the environment, where `docker inspect` shows them.
fn assert_no_password_is_to_be_seen(stack: &Stack) {
    let password = std::fs::read_to_string(stack.secrets.path().join("database_password")).unwrap();
    for service in ["api", "database", "proxy"] {
        for container in stack.containers(service) {
            let everything = docker(&["inspect", &container]) + &text(&try_docker(&["logs", &container]));
            for secret in [SECRET, password.as_str()] {
                assert!(!everything.contains(secret), "a secret is to be seen in {service}");
            }
        }
    }
}
