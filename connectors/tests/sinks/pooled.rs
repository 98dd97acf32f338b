//! Through PgBouncer in transaction mode: any transaction may come to another session of the server.

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clickmill_broker::TopicPartition;
use clickmill_connectors::{Connector, PostgresOptions, ServerUrl, SinkState};
use clickmill_schemas::PartitionId;
use clickmill_schemas::record::RecordSetBuilder;

use crate::feed::{Feed, T0, host, wait};
use crate::lab::Lab;
use crate::pg::{ask, assert_equal_to_the_log, connect, fill, small_batches};

/// A pooler with two sessions, which it gives in turn.
struct Pooler {
    child: Child,
    url: ServerUrl,
}

impl Pooler {
    fn start(lab: &Lab, server: &str) -> Self {
        let (login, place) = server.strip_prefix("postgres://").unwrap().split_once('@').unwrap();
        let (user, password) = login.split_once(':').unwrap();
        let port = place.split_once(':').unwrap().1.split_once('/').unwrap().0;
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = lab.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\npostgres = host=127.0.0.1 port={port} user={user} password={password}\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {free}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
             default_pool_size = 2\nserver_round_robin = 1\n"
        );
        std::fs::write(&config, text).unwrap();
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"];
        let program = program.into_iter().find(|file| std::path::Path::new(file).is_file());
        let mut command = Command::new(program.expect("PgBouncer is missing: `cargo xtask setup` installs it"));
        if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
            // It will not run as root.
            command.args(["-u", "nobody"]);
        }
        let child = command.arg(&config).stderr(Stdio::null()).spawn().unwrap();
        Self { child, url: ServerUrl(format!("postgres://anybody@127.0.0.1:{free}/postgres")) }
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sinks_go_through_a_pooler_that_gives_each_transaction_another_session() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    let server = lab.postgres().await;
    let pooler = Pooler::start(&lab, &server);
    let options = PostgresOptions { url: Some(pooler.url.clone()), raw_events: true, ..small_batches() };
    let client = connect(&lab).await;
    // The second host finds what the first has left in the sessions.
    for epoch in 1..=2 {
        let host = host(&feed, &lab.servers, vec![Connector::Postgres(options.clone())]).await;
        for round in 0..20 {
            fill(&mut feed, epoch * 100 + round, 2);
            for partition in 0..2 {
                let mut set = RecordSetBuilder::default();
                (0..50).for_each(|n| set.push(None, format!("{{\"id\": \"{n}\"}}").as_bytes(), T0));
                let at = TopicPartition::new("ad_events_raw", PartitionId(partition));
                feed.source.broker.append(&at, &set).unwrap().wait().unwrap();
            }
        }
        for handle in host.handles() {
            wait(&handle, |h| h.status().state == SinkState::Running && h.status().lag == 0).await;
            let status = handle.status();
            let only_starting = "connect to PostgreSQL";
            assert!(status.last_error.is_none_or(|e| e.contains(only_starting)), "{:?}", handle.status());
        }
        assert_equal_to_the_log(&client, &feed).await;
        let count = ask(&client, "SELECT count(*) FROM realtime.raw_events").await;
        assert_eq!(count, [(epoch * 2_000).to_string()]);
        host.close(tokio::time::Instant::now() + Duration::from_secs(5)).await;
    }
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE client_port > 0 AND pid <> pg_backend_pid()";
    assert_eq!(ask(&client, sessions).await, ["2"], "the pooler's");
    assert_eq!(ask(&client, "SELECT count(*) FROM pg_class WHERE relpersistence = 't'").await, ["0"]);
}
