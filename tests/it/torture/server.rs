//! PostgreSQL is killed as by a power cut, and comes back.

use super::{Torture, await_healing};
use crate::support::eventually;
use crate::support::postgres::Cluster;
use crate::support::process::Process;
use crate::support::senders::{Load, pause};

#[test]
fn acknowledged_messages_survive_a_killed_postgresql() {
    let mut torture = Torture::new("server", 3);
    let mut cluster = Cluster::start(&[]);
    let database = cluster.database();
    let builder = Process::builder().env("DATABASE_URL", &database.url());
    let process = builder.env("LOG_LEVEL", "ERROR").start_silent();
    let load = Load::new(process.address());
    let mut client = process.client();
    torture.run(&load, torture.rounds, |_, rng| {
        pause(rng, 300);
        let refused = load.unacknowledged();
        cluster.kill9();
        eventually("it says that it is not ready", || {
            (client.get("/health/ready").status == 503).then_some(())
        });
        assert_eq!(client.get("/health/live").status, 200);
        assert_eq!(client.get("/messages").status, 503);
        eventually("messages are refused", || (load.unacknowledged() > refused).then_some(()));
        cluster.run();
        (await_healing(&mut client), load.check())
    });
    torture.judgement += load.check();
    let stats = client.json("/stats");
    assert_eq!(stats["total_messages"], database.number("SELECT count(*) FROM message"));
    torture.end();
}
