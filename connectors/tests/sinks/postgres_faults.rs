//! Faults of a PostgreSQL server: waited for, told, no row's fault, and in the end it holds what the log says.

use std::time::{Duration, Instant};

use clickmill_broker::TopicPartition;
use clickmill_connectors::{Connector, Endpoint, PostgresOptions, ServerUrl, SinkState};
use clickmill_schemas::PartitionId;
use clickmill_schemas::record::RecordSetBuilder;
use tokio_postgres::Client;

use crate::feed::{Feed, MINUTE, Running, T0, host, wait};
use crate::lab::Lab;
use crate::pg::{ask, assert_equal_to_the_log, connect, connect_to, fill, small_batches, start};

/// A sink that has met a fault with what it says of it, after `mend` has put things right: all is there, and there are no
/// letters.
async fn survives(sink: &Running, (client, feed): (&Client, &mut Feed), epoch: u64, (says, mend): (&str, &str)) {
    let end = fill(feed, epoch, 5);
    sink.wait(|h| h.status().last_error.is_some_and(|e| e.contains(says))).await;
    assert_eq!(sink.handle.status().state, SinkState::Retrying, "{says}");
    client.batch_execute(mend).await.unwrap();
    sink.wait(|h| h.status().state == SinkState::Running && h.confirmed() >= end).await;
    assert_eq!((sink.handle.status().skipped, feed.letters()), (0, vec![]), "{says}");
    assert_equal_to_the_log(client, feed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_server_and_of_its_tables_are_no_rows_fault() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    let sink = start(&lab, &feed, &PostgresOptions::default());
    sink.reach(fill(&mut feed, 1, 5)).await;
    let client = connect(&lab).await;
    client.batch_execute("SET default_transaction_read_only = off").await.unwrap();
    let faults = [
        (
            "ALTER TABLE realtime.window_partials RENAME COLUMN clicks TO clicks_away",
            "column \"clicks\"",
            "ALTER TABLE realtime.window_partials RENAME COLUMN clicks_away TO clicks",
        ),
        (
            "ALTER TABLE realtime.window_partials RENAME TO partials_away",
            "realtime.window_partials",
            "ALTER TABLE realtime.partials_away RENAME TO window_partials",
        ),
        (
            "ALTER TABLE realtime.watermarks RENAME TO watermarks_away",
            "realtime.watermarks",
            "ALTER TABLE realtime.watermarks_away RENAME TO watermarks",
        ),
        (
            "ALTER TABLE realtime.window_partials ADD COLUMN more text NOT NULL DEFAULT ''; \
             ALTER TABLE realtime.window_partials ALTER COLUMN more DROP DEFAULT",
            "null value in column \"more\"",
            "ALTER TABLE realtime.window_partials DROP COLUMN more",
        ),
    ];
    for ((wrong, says, mend), epoch) in faults.into_iter().zip(2..) {
        client.batch_execute(wrong).await.unwrap();
        survives(&sink, (&client, &mut feed), epoch, (says, mend)).await;
    }
    // ALTER SYSTEM wants a statement of its own.
    client.batch_execute("ALTER SYSTEM SET default_transaction_read_only = on").await.unwrap();
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let reset = "ALTER SYSTEM RESET default_transaction_read_only";
    let end = fill(&mut feed, 10, 5);
    sink.wait(|h| h.status().last_error.is_some_and(|e| e.contains("read-only transaction"))).await;
    client.batch_execute(reset).await.unwrap();
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    sink.wait(|h| h.status().state == SinkState::Running && h.confirmed() >= end).await;
    assert_eq!(feed.letters(), []);
    assert_equal_to_the_log(&client, &feed).await;
    // What a full disk and the like say, by a trigger.
    for (code, epoch) in ["53100", "53200", "57014", "40P01", "55P03", "25006", "58030", "42501"].into_iter().zip(11..)
    {
        let wrong = format!(
            "CREATE FUNCTION realtime.fail() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'as {code} says' USING ERRCODE = '{code}'; END $$; \
             CREATE TRIGGER fail BEFORE INSERT ON realtime.window_partials FOR EACH ROW EXECUTE FUNCTION realtime.fail()"
        );
        client.batch_execute(&wrong).await.unwrap();
        let says = format!("as {code} says");
        survives(&sink, (&client, &mut feed), epoch, (&says, "DROP FUNCTION realtime.fail CASCADE")).await;
    }
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_beyond_the_partitions_of_a_table_that_has_lost_one_is_waited_for() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 1);
    let sink = start(&lab, &feed, &PostgresOptions::default());
    sink.reach_state(SinkState::Running).await;
    let client = connect(&lab).await;
    client.batch_execute("DROP TABLE realtime.window_partials_default").await.unwrap();
    feed.partial((0, 1, 1), MINUTE, T0 - 20_000 * 24 * 60 * MINUTE, "total", &[("", [1, 0, 0, 0, 0])]);
    let end = feed.flush();
    sink.wait(|h| h.status().last_error.is_some_and(|e| e.contains("no partition"))).await;
    let mend = "CREATE TABLE realtime.window_partials_default PARTITION OF realtime.window_partials DEFAULT";
    client.batch_execute(mend).await.unwrap();
    sink.reach(end).await;
    assert_eq!(feed.letters(), []);
    assert_equal_to_the_log(&client, &feed).await;
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_is_held_up_is_waited_for_up_to_its_time() {
    const LOCK: &str = "BEGIN; LOCK TABLE realtime.window_partials IN ACCESS EXCLUSIVE MODE";
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    let sink = start(&lab, &feed, &PostgresOptions::default());
    sink.reach(fill(&mut feed, 1, 3)).await;
    let client = connect(&lab).await;
    client.batch_execute(LOCK).await.unwrap();
    let end = fill(&mut feed, 2, 3);
    let held = Instant::now();
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    while held.elapsed() < Duration::from_secs(5) || ask(&client, waiting).await != ["1"] {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(sink.handle.confirmed() < end);
    client.batch_execute("COMMIT").await.unwrap();
    sink.reach(end).await;
    assert_eq!(sink.handle.status().retries, 0, "five seconds are not too many");
    assert_equal_to_the_log(&client, &feed).await;
    sink.stop().await;

    let hasty = PostgresOptions { statement_timeout_ms: 200, ..PostgresOptions::default() };
    let sink = start(&lab, &feed, &hasty);
    sink.reach_state(SinkState::Running).await;
    client.batch_execute(LOCK).await.unwrap();
    let end = fill(&mut feed, 3, 3);
    sink.wait(|h| h.status().last_error.is_some_and(|e| e.contains("statement timeout"))).await;
    client.batch_execute("COMMIT").await.unwrap();
    sink.reach(end).await;
    assert_eq!(feed.letters(), []);
    assert_equal_to_the_log(&client, &feed).await;
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_cut_in_the_middle_lose_and_double_nothing() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    let client = connect(&lab).await;
    let sink = start(&lab, &feed, &small_batches());
    let (mut epoch, mut end) = (1, fill(&mut feed, 1, 150));
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE application_name = 'clickmill' AND (state = 'active' OR state = 'idle in transaction')";
    let mut cuts = 0;
    while cuts < 8 {
        if sink.handle.confirmed() >= end {
            epoch += 1;
            end = fill(&mut feed, epoch, 150);
        }
        cuts += ask(&client, cut).await.len();
    }
    sink.wait(|h| h.status().state == SinkState::Running && h.confirmed() >= end).await;
    assert!(sink.handle.status().retries > 0);
    assert_eq!(feed.letters(), []);
    assert_equal_to_the_log(&client, &feed).await;
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_password_is_said_without_it_and_waited_for() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    let admin = lab.postgres().await;
    let client = connect_to(&admin).await;
    client.batch_execute("CREATE ROLE app SUPERUSER LOGIN PASSWORD 's3cr3t-one'").await.unwrap();
    let (_, place) = admin.split_once('@').unwrap();
    let url = ServerUrl(format!("postgres://app:s3cr3t-one@{place}"));
    let options = PostgresOptions::default();
    let sink = Running::start(options.windows(&options.pool(Endpoint::Named(url)), &feed.source));
    sink.reach(fill(&mut feed, 1, 3)).await;
    client.batch_execute("ALTER ROLE app PASSWORD 'another'").await.unwrap();
    client.batch_execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'").await.unwrap();
    let end = fill(&mut feed, 2, 3);
    sink.wait(|h| h.status().last_error.is_some_and(|e| e.contains("password authentication failed"))).await;
    assert!(!format!("{:?}", sink.handle.status()).contains("s3cr3t"));
    client.batch_execute("ALTER ROLE app PASSWORD 's3cr3t-one'").await.unwrap();
    sink.wait(|h| h.status().state == SinkState::Running && h.confirmed() >= end).await;
    assert_eq!(feed.letters(), []);
    assert_equal_to_the_log(&client, &feed).await;
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_bad_rows_whose_connection_is_cut_again_and_again_is_written_all_the_same() {
    const BAD: usize = 100;
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 1);
    let options = PostgresOptions { raw_events: true, ..PostgresOptions::default() };
    let host = host(&feed, &lab.servers, vec![Connector::Postgres(options)]).await;
    for handle in host.handles() {
        wait(&handle, |h| h.status().state == SinkState::Running).await;
    }
    let client = connect(&lab).await;
    // A server that takes 10 ms to refuse one: for all of them some seconds.
    let slow = |table: &str, bad: &str, code: &str, constraint: &str| {
        format!(
            "CREATE FUNCTION realtime.refuse_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF {bad} THEN \
             PERFORM pg_sleep(0.01); RAISE EXCEPTION 'bad' USING ERRCODE = '{code}'{constraint}; END IF; RETURN NEW; END $$; \
             CREATE TRIGGER refuse BEFORE INSERT ON realtime.{table} FOR EACH ROW EXECUTE FUNCTION realtime.refuse_{table}()"
        )
    };
    let constraint = ", CONSTRAINT = 'no_odd_ones'";
    let windows = slow("window_partials", "NEW.impressions[1] % 2 = 1", "23514", constraint);
    client.batch_execute(&windows).await.unwrap();
    // Taken as bytes, which is found out in the same way.
    client.batch_execute(&slow("raw_events", "NEW.value IS NOT NULL", "22P05", "")).await.unwrap();
    for n in 0..2 * BAD as i64 {
        feed.partial((0, 1, 1), MINUTE, T0 + n * MINUTE, "total", &[("", [n, 0, 0, 0, 0])]);
    }
    feed.flush();
    let at = TopicPartition::new("ad_events_raw", PartitionId(0));
    let mut set = RecordSetBuilder::default();
    (0..BAD).for_each(|n| set.push(None, format!("{{\"id\": \"{n}\"}}").as_bytes(), T0));
    feed.source.broker.append(&at, &set).unwrap().wait().unwrap();
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE application_name = 'clickmill' AND state = 'active' AND wait_event = 'PgSleep'";
    let deadline = Instant::now() + Duration::from_secs(120);
    while host.handles().iter().any(|handle| handle.status().lag > 0) {
        assert!(Instant::now() < deadline, "no attempt gets further than the one before");
        tokio::time::sleep(Duration::from_millis(700)).await;
        ask(&client, cut).await;
    }
    let mut letters: Vec<_> = feed.letters().into_iter().map(|letter| letter.origin).collect();
    assert_eq!(letters.len(), BAD, "each once");
    letters.dedup();
    assert_eq!(letters.len(), BAD);
    assert_eq!(ask(&client, "SELECT count(*) FROM realtime.window_partials").await, [BAD.to_string()]);
    let bytes = "SELECT count(*) FROM realtime.raw_events WHERE payload IS NOT NULL";
    assert_eq!(ask(&client, bytes).await, [BAD.to_string()]);
    let retries: u64 = host.handles().iter().map(|handle| handle.status().retries).sum();
    assert!(retries > 1, "one attempt was enough: the server is too fast for this test");
    host.close(tokio::time::Instant::now() + Duration::from_secs(5)).await;
}
