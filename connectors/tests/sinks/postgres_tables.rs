//! Tables that somebody has changed: rows that are refused one by one are letters, a table that takes none is waited for, and one
//! that is gone is said.

use std::time::Duration;

use clickmill_connectors::{Connector, PostgresOptions, SinkState};
use tokio_postgres::Client;

use crate::feed::{Feed, MINUTE, Running, T0, host, wait};
use crate::lab::Lab;
use crate::pg::{ask, assert_equal_to_the_log, connect, fill, start};

const HUNDRED: i64 = 100;

/// A hundred windows in one batch of the log, of which the 13th has 666 impressions.
fn hundred(feed: &mut Feed, as_of: u64) -> clickmill_schemas::Offset {
    for minute in 0..HUNDRED {
        let impressions = if minute == 13 { 666 } else { minute };
        feed.partial((0, 1, as_of), MINUTE, T0 + minute * MINUTE, "total", &[("", [impressions, 0, 0, 0, 0])]);
    }
    feed.flush()
}

async fn refuse(client: &Client, condition: &str, code: &str) {
    let trigger = format!(
        "CREATE OR REPLACE FUNCTION realtime.refuse() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN IF {condition} THEN RAISE EXCEPTION 'not this one' USING ERRCODE = '{code}'; END IF; RETURN NEW; END $$; \
         CREATE OR REPLACE TRIGGER refuse BEFORE INSERT ON realtime.window_partials FOR EACH ROW \
         EXECUTE FUNCTION realtime.refuse()"
    );
    client.batch_execute(&trigger).await.unwrap();
}

/// A sink whose table takes nothing any more says so and waits, and no row is given up for that.
async fn waits(sink: &Running, feed: &mut Feed, (client, mend): (&Client, &str), as_of: u64) {
    let letters = feed.letters().len();
    let end = hundred(feed, as_of);
    sink.wait(|h| h.status().last_error.is_some_and(|e| e.contains("the table's fault"))).await;
    assert_eq!(sink.handle.status().state, SinkState::Retrying);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(sink.handle.confirmed() < end);
    client.batch_execute(mend).await.unwrap();
    sink.reach(end).await;
    assert_eq!(feed.letters().len(), letters);
    assert_equal_to_the_log(client, feed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_a_trigger_refuses_is_a_letter_and_a_trigger_that_refuses_all_is_waited_for() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 1);
    let sink = start(&lab, &feed, &PostgresOptions::default());
    sink.reach_state(SinkState::Running).await;
    let client = connect(&lab).await;
    for (code, as_of) in ["P0001", "44000", "38000", "UX001"].into_iter().zip(1..) {
        refuse(&client, "NEW.impressions[1] = 666", code).await;
        sink.reach(hundred(&mut feed, as_of)).await;
        let letters = feed.letters();
        assert_eq!(letters.len() as u64, as_of);
        let last = letters.last().unwrap();
        assert_eq!(last.rule, format!("sqlstate_{}", code.to_lowercase()));
        assert!(last.message.contains("not this one"), "{}", last.message);
        let there = format!("SELECT count(*) FROM realtime.window_partials WHERE as_of_offset = {as_of}");
        assert_eq!(ask(&client, &there).await, ["99"]);
    }
    assert_eq!(sink.handle.status().retries, 0);
    refuse(&client, "true", "P0001").await;
    waits(&sink, &mut feed, (&client, "DROP FUNCTION realtime.refuse CASCADE"), 10).await;
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_constraint_that_every_row_breaks_is_the_tables_fault_also_where_rows_trickle_in() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 1);
    let sink = start(&lab, &feed, &PostgresOptions::default());
    sink.reach_state(SinkState::Running).await;
    let client = connect(&lab).await;
    let constraint = "ALTER TABLE realtime.window_partials ADD CONSTRAINT none CHECK (false) NOT VALID";
    let mend = "ALTER TABLE realtime.window_partials DROP CONSTRAINT none";
    client.batch_execute(constraint).await.unwrap();
    waits(&sink, &mut feed, (&client, mend), 1).await;
    // Twenty-five that are refused before the first that is not: rows are at fault.
    client.batch_execute(&constraint.replace("false", "dimension <> 'bad'")).await.unwrap();
    for minute in 0..60 {
        let dimension = if minute < 25 { "bad" } else { "total" };
        feed.partial((0, 1, 2), MINUTE, T0 + minute * MINUTE, dimension, &[("", [1, 0, 0, 0, 0])]);
    }
    sink.reach(feed.flush()).await;
    assert_eq!(feed.letters().len(), 25);
    // One by one.
    client.batch_execute(&format!("{mend}; {constraint}")).await.unwrap();
    for minute in 0..40 {
        feed.partial((0, 1, 3), MINUTE, T0 + minute * MINUTE, "total", &[("", [2, 0, 0, 0, 0])]);
        let end = feed.flush();
        sink.wait(|h| h.confirmed() >= end || h.status().state != SinkState::Running).await;
    }
    sink.wait(|h| h.status().last_error.is_some_and(|e| e.contains("the table's fault"))).await;
    assert!(feed.letters().len() < 25 + 20, "{}", feed.letters().len());
    client.batch_execute(mend).await.unwrap();
    let end = feed.flush();
    sink.reach(end).await;
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_and_days_that_are_dropped_are_said_while_there_is_nothing_to_write() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    let host = host(&feed, &lab.servers, vec![Connector::Postgres(PostgresOptions::default())]).await;
    let end = fill(&mut feed, 1, 5);
    let windows = || host.handles().into_iter().find(|h| h.source() == &feed.source.windows).unwrap();
    wait(&windows(), |h| h.confirmed() >= end).await;
    let client = connect(&lab).await;
    client.batch_execute("ALTER TABLE realtime.watermarks RENAME TO away").await.unwrap();
    wait(&windows(), |h| h.status().last_error.is_some_and(|e| e.contains("realtime.watermarks"))).await;
    client.batch_execute("ALTER TABLE realtime.away RENAME TO watermarks").await.unwrap();
    wait(&windows(), |h| h.status().state == SinkState::Running && h.status().last_error.is_none()).await;

    client.batch_execute("DROP TABLE realtime.window_partials_20141021").await.unwrap();
    let is_said = |h: &clickmill_connectors::SinkHandle| {
        let said = "realtime.window_partials_20141021: windows are missing; `clickmill connector rebuild postgres`";
        h.status().state == SinkState::Running && h.status().last_error.is_some_and(|e| e.contains(said))
    };
    wait(&windows(), is_said).await;
    // Said still after the sink had to be opened anew.
    let retries = windows().status().retries;
    client.batch_execute("ALTER TABLE realtime.watermarks RENAME TO away").await.unwrap();
    wait(&windows(), |h| h.status().retries > retries).await;
    client.batch_execute("ALTER TABLE realtime.away RENAME TO watermarks").await.unwrap();
    wait(&windows(), is_said).await;
    host.rebuild("postgres").await.unwrap();
    wait(&windows(), |h| h.status().state == SinkState::Running && h.status().lag == 0).await;
    assert_equal_to_the_log(&client, &feed).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(windows().status().last_error, None);
    host.close(tokio::time::Instant::now() + Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_that_has_ended_by_itself_comes_back_by_apply_and_by_start() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    let all = || vec![Connector::Postgres(PostgresOptions::default())];
    let host = host(&feed, &lab.servers, all()).await;
    let end = fill(&mut feed, 1, 5);
    let of_windows = feed.source.windows.clone();
    let windows = || host.handles().into_iter().find(|h| *h.source() == of_windows).unwrap();
    wait(&windows(), |h| h.confirmed() >= end).await;
    let client = connect(&lab).await;
    let apply = async || host.apply(|| Ok::<_, std::convert::Infallible>(all())).await.unwrap();
    for by_apply in [true, false] {
        client.execute("INSERT INTO realtime.schema_migrations VALUES (99, 'later')", &[]).await.unwrap();
        host.restart("postgres").await.unwrap();
        wait(&windows(), |h| h.status().state == SinkState::Refused).await;
        client.execute("DELETE FROM realtime.schema_migrations WHERE version = 99", &[]).await.unwrap();
        if by_apply {
            assert_eq!(apply().await.restarted, ["postgres"]);
        } else {
            host.start("postgres").await.unwrap();
        }
        let end = fill(&mut feed, if by_apply { 2 } else { 3 }, 5);
        wait(&windows(), |h| h.confirmed() >= end).await;
    }
    for handle in host.handles() {
        wait(&handle, |h| h.status().state == SinkState::Running).await;
    }
    assert_eq!(apply().await.unchanged, ["postgres"], "one that runs goes on");
    host.stop("postgres").await.unwrap();
    assert_eq!(apply().await.unchanged, ["postgres"], "one that was stopped stays so");
    assert!(host.status()[0].sinks.iter().all(|sink| sink.state == SinkState::Stopped));
    host.close(tokio::time::Instant::now() + Duration::from_secs(5)).await;
}
