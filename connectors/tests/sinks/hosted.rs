//! Connectors as a host runs them: rows that a server refuses become letters and are tried again, others go on beside one that is away,
//! one is emptied and filled anew.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ::redis::AsyncCommands;
use ::redis::aio::MultiplexedConnection;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clickmill_broker::TopicPartition;
use clickmill_connectors::set::SetError;
use clickmill_connectors::{
    Connector, Connectors, HttpOptions, PostgresOptions, RedisOptions, RetryError, RetryOutcome, ServerUrl, SinkHandle,
    SinkState, Stopped,
};
use clickmill_schemas::dead_letter::{DeadLetter, Origin, RawEncoding};
use clickmill_schemas::envelope::ErrorType;
use clickmill_schemas::record::RecordSetBuilder;
use clickmill_schemas::{Offset, PartitionId};

use crate::feed::{Feed, MINUTE, T0, host, wait};
use crate::lab::{Lab, must};
use crate::pg::{ask, assert_equal_to_the_log, connect, fill};

/// Waits until the sinks of a host have all there is.
async fn caught_up(host: &Connectors) {
    for handle in host.handles() {
        wait(&handle, |h| h.status().state == SinkState::Running && h.status().lag == 0).await;
    }
}

fn offset(letter: &DeadLetter) -> Offset {
    let Origin::Record { offset, .. } = letter.origin else { panic!("{letter:?}") };
    offset
}

fn rules(letters: &[DeadLetter]) -> Vec<&str> {
    letters.iter().map(|letter| letter.rule.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_against_a_constraint_are_letters_and_go_in_once_it_is_gone() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    fill(&mut feed, 1, 5);
    let host = host(&feed, &lab.servers, vec![Connector::Postgres(PostgresOptions::default())]).await;
    caught_up(&host).await;
    let client = connect(&lab).await;
    let constraints = "ALTER TABLE realtime.window_partials ADD CONSTRAINT not_so_many CHECK (impressions[1] <> 666); \
        ALTER TABLE realtime.watermarks ADD CONSTRAINT not_that_far CHECK (as_of_offset < 1000)";
    client.batch_execute(constraints).await.unwrap();
    // Among many good ones.
    for minute in 0..100 {
        let impressions = if [13, 57].contains(&minute) { 666 } else { minute };
        feed.partial((0, 1, 900), MINUTE, T0 + minute * MINUTE, "total", &[("", [impressions, 0, 0, 0, 0])]);
    }
    feed.commit((1, 1, 1000), None);
    let end = feed.flush();
    caught_up(&host).await;

    let letters = feed.letters();
    assert_eq!(rules(&letters), ["sqlstate_23514"; 3]);
    let first = end.0 - 101;
    assert_eq!(letters.iter().map(|letter| offset(letter).0 - first).collect::<Vec<_>>(), [13, 57, 100]);
    let letter = &letters[0];
    assert_eq!((letter.error_type, letter.connector.as_deref()), (ErrorType::Sink, Some("postgres")));
    assert_eq!((letter.retry_count, &letter.judged), (0, &None));
    assert!(letter.message.contains("not_so_many") && letter.message.contains("Failing row"), "{}", letter.message);
    let batch = feed.source.broker.fetch(&feed.source.windows, offset(letter), 1, Duration::ZERO).unwrap();
    let set = batch[0].records().unwrap();
    let record = clickmill_schemas::record::Records::new(&set).unwrap().nth(13).unwrap().unwrap();
    let payload = match letter.payload.raw_encoding {
        RawEncoding::Utf8 => letter.payload.raw_payload.clone().into_bytes(),
        RawEncoding::Base64 => BASE64_STANDARD.decode(&letter.payload.raw_payload).unwrap(),
    };
    assert_eq!(payload, record.value);
    assert_eq!(host.handles()[0].status().skipped, 3);
    let there = "SELECT count(*) FROM realtime.window_partials WHERE as_of_offset = 900";
    assert_eq!(ask(&client, there).await, ["98"]);

    let at = feed.source.windows.clone();
    let retry = async |letter: &DeadLetter| host.retry("postgres", &at, offset(letter)).await.unwrap();
    let RetryOutcome::Refused { rule, message } = retry(letter).await else { panic!("the constraint is there still") };
    assert!(rule == "sqlstate_23514" && message.contains("not_so_many"), "{rule} {message}");
    assert_eq!(feed.letters().len(), 3, "a retry writes no letter");
    client.batch_execute("ALTER TABLE realtime.window_partials DROP CONSTRAINT not_so_many").await.unwrap();
    assert_eq!(retry(letter).await, RetryOutcome::Accepted);
    assert_eq!(retry(letter).await, RetryOutcome::Superseded, "it is there");
    // A newer version of the other came by itself.
    feed.partial((0, 1, 950), MINUTE, T0 + 57 * MINUTE, "total", &[("", [667, 0, 0, 0, 0])]);
    feed.flush();
    caught_up(&host).await;
    assert_eq!(retry(&letters[1]).await, RetryOutcome::Superseded);
    assert!(matches!(retry(&letters[2]).await, RetryOutcome::Refused { .. }));
    client.batch_execute("ALTER TABLE realtime.watermarks DROP CONSTRAINT not_that_far").await.unwrap();
    assert_eq!(retry(&letters[2]).await, RetryOutcome::Accepted);
    assert_equal_to_the_log(&client, &feed).await;

    assert_eq!(host.retry("postgres", &at, Offset(1 << 40)).await.unwrap(), RetryOutcome::Superseded, "gone");
    assert!(matches!(host.retry("other", &at, offset(letter)).await, Err(RetryError::Set(_))));
    let raw = TopicPartition::new("ad_events_raw", PartitionId(0));
    assert!(matches!(host.retry("postgres", &raw, Offset(0)).await, Err(RetryError::NotCopied { .. })));
    host.stop("postgres").await.unwrap();
    assert!(matches!(host.retry("postgres", &at, offset(letter)).await, Err(RetryError::NotRunning(_))));
    host.close(tokio::time::Instant::now() + Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_events_that_are_refused_are_letters_of_the_input_topic() {
    let lab = Lab::new();
    let feed = Feed::new(lab.path(), 1);
    let options =
        PostgresOptions { name: "copy".to_owned(), raw_events: true, pool_size: 1, ..PostgresOptions::default() };
    let host = host(&feed, &lab.servers, vec![Connector::Postgres(options)]).await;
    caught_up(&host).await;
    let client = connect(&lab).await;
    let constraint =
        "ALTER TABLE realtime.raw_events ADD CONSTRAINT no_seven CHECK (value->>'id' <> '7' AND value IS NOT NULL)";
    client.batch_execute(constraint).await.unwrap();
    let at = TopicPartition::new("ad_events_raw", PartitionId(0));
    let mut set = RecordSetBuilder::default();
    (0..20).for_each(|n| set.push(None, format!("{{\"id\": \"{n}\"}}").as_bytes(), T0));
    feed.source.broker.append(&at, &set).unwrap().wait().unwrap();
    caught_up(&host).await;
    let letters = feed.letters();
    assert_eq!(rules(&letters), ["sqlstate_23514"]);
    let origin = Origin::Record { topic: "ad_events_raw".into(), partition: PartitionId(0), offset: Offset(7) };
    assert_eq!((&letters[0].origin, letters[0].connector.as_deref()), (&origin, Some("copy")));
    assert_eq!(
        (letters[0].payload.raw_encoding, &*letters[0].payload.raw_payload),
        (RawEncoding::Utf8, r#"{"id": "7"}"#)
    );
    assert!(matches!(host.retry("copy", &at, Offset(7)).await.unwrap(), RetryOutcome::Refused { .. }));
    client.batch_execute("ALTER TABLE realtime.raw_events DROP CONSTRAINT no_seven").await.unwrap();
    assert_eq!(host.retry("copy", &at, Offset(7)).await.unwrap(), RetryOutcome::Accepted);
    assert_eq!(host.retry("copy", &at, Offset(7)).await.unwrap(), RetryOutcome::Superseded);
    assert_eq!(ask(&client, "SELECT count(*) FROM realtime.raw_events").await, ["20"]);
    host.close(tokio::time::Instant::now() + Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_read_is_a_letter_of_each_connector_and_once_only_while_none_crashes() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 1);
    let all = || vec![Connector::Postgres(PostgresOptions::default()), Connector::Redis(RedisOptions::default())];
    feed.partial((0, 1, 1), MINUTE, T0, "total", &[("", [1, 0, 0, 0, 0])]);
    feed.flush();
    let mut set = RecordSetBuilder::default();
    set.push(Some(b"unreadable"), b"\xff\x00", 0);
    feed.source.broker.append(&feed.source.windows, &set).unwrap().wait().unwrap();
    feed.partial((0, 1, 2), MINUTE, i64::MAX / MINUTE * MINUTE, "total", &[("", [1, 0, 0, 0, 0])]);
    feed.partial((0, 1, 2), MINUTE, T0 + MINUTE, "total", &[("", [1, 0, 0, 0, 0])]);
    feed.flush();
    for _ in 0..2 {
        let host = host(&feed, &lab.servers, all()).await;
        caught_up(&host).await;
        let mut letters = feed.letters();
        letters.sort_by_key(|letter| (letter.connector.clone(), offset(letter)));
        assert_eq!(rules(&letters), ["unreadable"; 4]);
        let of: Vec<_> =
            letters.iter().map(|letter| (letter.connector.as_deref().unwrap(), offset(letter).0)).collect();
        assert_eq!(of, [("postgres", 1), ("postgres", 2), ("redis", 1), ("redis", 2)]);
        assert_eq!((letters[0].payload.raw_encoding, &*letters[0].payload.raw_payload), (RawEncoding::Base64, "/wA="));
        for name in ["postgres", "redis"] {
            let again = host.retry(name, &feed.source.windows, Offset(1)).await.unwrap();
            assert!(matches!(again, RetryOutcome::Refused { .. }), "{again:?}");
        }
        host.close(tokio::time::Instant::now() + Duration::from_secs(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_redis_refuses_is_a_letter_and_the_others_are_written() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 1);
    let host = host(&feed, &lab.servers, vec![Connector::Redis(RedisOptions::default())]).await;
    caught_up(&host).await;
    let url = must(lab.servers.redis().await);
    let mut redis = ::redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    let taken = "clickmill:version:{metrics:1min:2014-10-21T00:01:00Z}";
    let _: () = redis.lpush(taken, "somebody's list").await.unwrap();
    for minute in 0..3 {
        feed.partial((0, 1, 1), MINUTE, T0 + minute * MINUTE, "total", &[("", [1, 0, 0, 0, 0])]);
    }
    feed.flush();
    caught_up(&host).await;
    let letters = feed.letters();
    assert_eq!(rules(&letters), ["redis_wrongtype"]);
    assert_eq!(offset(&letters[0]), Offset(1));
    let hashes: Vec<String> = redis.keys("metrics:*").await.unwrap();
    assert_eq!(hashes.len(), 2, "{hashes:?}");
    let retry = async || host.retry("redis", &feed.source.windows, Offset(1)).await.unwrap();
    assert!(matches!(retry().await, RetryOutcome::Refused { .. }));
    let _: () = redis.del(taken).await.unwrap();
    assert_eq!(retry().await, RetryOutcome::Accepted);
    let found: i64 = redis.hget("metrics:1min:2014-10-21T00:01:00Z", "impressions").await.unwrap();
    assert_eq!(found, 1);
    host.close(tokio::time::Instant::now() + Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_whose_server_is_away_neither_harms_the_others_nor_writes_letters() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    let away = PostgresOptions {
        name: "away".to_owned(),
        url: Some(clickmill_connectors::ServerUrl("postgres://me:s3cr3t@127.0.0.1:1/ads".to_owned())),
        ..PostgresOptions::default()
    };
    let all = vec![
        Connector::Postgres(away),
        Connector::Postgres(PostgresOptions::default()),
        Connector::Redis(RedisOptions::default()),
    ];
    let host = host(&feed, &lab.servers, all).await;
    let end = fill(&mut feed, 1, 40);
    let handles = host.handles();
    let of_windows = |handle: &&SinkHandle| handle.source() == &feed.source.windows && handle.status().name != "away";
    for handle in handles.iter().filter(of_windows) {
        wait(handle, |h| h.confirmed() >= end).await;
    }
    let away = handles.iter().find(|handle| handle.status().name == "away").unwrap();
    wait(away, |h| h.status().retries > 1).await;
    assert_eq!((away.status().state, away.status().lag), (SinkState::Retrying, end.0));
    let asked = Instant::now();
    let retried = host.retry("away", &feed.source.windows, Offset(0)).await;
    assert!(matches!(retried, Err(RetryError::NotRunning(_))) && asked.elapsed() < Duration::from_secs(1));
    assert_eq!(feed.letters(), []);
    assert_equal_to_the_log(&connect(&lab).await, &feed).await;
    host.close(tokio::time::Instant::now() + Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuilt_connector_holds_what_the_log_says_whatever_was_there() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    let all = vec![Connector::Postgres(PostgresOptions::default()), Connector::Redis(RedisOptions::default())];
    let host = host(&feed, &lab.servers, all).await;
    fill(&mut feed, 1, 20);
    caught_up(&host).await;
    let client = connect(&lab).await;
    // A column that was dropped by hand, and came back without what it held; values of nobody; rows that are gone.
    let altered = "ALTER TABLE realtime.window_partials DROP COLUMN as_of_offset; \
        ALTER TABLE realtime.window_partials ADD COLUMN as_of_offset bigint NOT NULL DEFAULT 7; \
        UPDATE realtime.window_partials SET impressions = '{1}' WHERE partition = 0; \
        DELETE FROM realtime.window_partials WHERE window_start > '2014-10-21 01:00+00'; \
        DELETE FROM realtime.watermarks";
    client.batch_execute(altered).await.unwrap();
    host.rebuild("postgres").await.unwrap();
    caught_up(&host).await;
    assert_equal_to_the_log(&client, &feed).await;
    assert_eq!(ask(&client, "SELECT count(*) FROM realtime.watermarks").await, ["2"]);

    let url = must(lab.servers.redis().await);
    let mut redis = ::redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    let before: BTreeMap<String, BTreeMap<String, String>> = hashes(&mut redis).await;
    assert!(before.len() > 20, "{}", before.len());
    let keys: Vec<&String> = before.keys().collect();
    let _: () = redis.hset(keys[0], "impressions", 777).await.unwrap();
    let _: () = redis.del(keys[1]).await.unwrap();
    host.rebuild("redis").await.unwrap();
    caught_up(&host).await;
    assert_eq!(hashes(&mut redis).await, before);

    // A server that is away is not emptied; the connector goes on when it is back.
    assert!(matches!(host.rebuild("other").await, Err(SetError::Unknown { .. })));
    client.batch_execute("ALTER TABLE realtime.watermarks RENAME TO away").await.unwrap();
    let refused = host.rebuild("postgres").await.unwrap_err();
    assert!(matches!(refused, SetError::NotEmptied { .. }) && refused.to_string().contains("DROP SCHEMA"), "{refused}");
    client.batch_execute("ALTER TABLE realtime.away RENAME TO watermarks").await.unwrap();
    caught_up(&host).await;
    assert_equal_to_the_log(&client, &feed).await;
    assert_eq!(feed.letters(), []);
    host.close(tokio::time::Instant::now() + Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_that_cannot_be_emptied_runs_or_stays_stopped_as_it_was() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    let endpoint = crate::endpoint::Server::start(|_| crate::endpoint::Reply::Status(200)).await;
    let http = HttpOptions { endpoint: Some(ServerUrl(endpoint.url)), ..HttpOptions::default() };
    let all = vec![Connector::Postgres(PostgresOptions::default()), Connector::Http(http)];
    let host = Connectors::new(feed.source.clone(), lab.servers.clone(), tokio::runtime::Handle::current());
    let host = host.with_stopped(Stopped::of(lab.path()).unwrap());
    host.apply(|| Ok::<_, std::convert::Infallible>(all)).await.unwrap();
    fill(&mut feed, 1, 5);
    caught_up(&host).await;
    let is_wanted = |name: &str| host.status().iter().any(|connector| connector.name == name && connector.wanted);
    let rows = |name: &str| host.status().iter().find(|c| c.name == name).unwrap().sinks[0].rows_written;

    let client = connect(&lab).await;
    client.batch_execute("ALTER TABLE realtime.watermarks RENAME TO away").await.unwrap();
    host.stop("postgres").await.unwrap();
    assert!(matches!(host.rebuild("postgres").await, Err(SetError::NotEmptied { .. })));
    assert!(!is_wanted("postgres") && Stopped::of(lab.path()).unwrap().contains("postgres"));
    client.batch_execute("ALTER TABLE realtime.away RENAME TO watermarks").await.unwrap();
    host.rebuild("postgres").await.unwrap();
    assert!(is_wanted("postgres") && !Stopped::of(lab.path()).unwrap().contains("postgres"));
    caught_up(&host).await;
    assert_equal_to_the_log(&client, &feed).await;

    // No endpoint forgets: it is not even ended for that.
    let (sent, sink) = (rows("http"), host.handles().into_iter().find(|h| h.status().kind == "http").unwrap());
    assert!(matches!(host.rebuild("http").await, Err(SetError::NotEmptied { .. })));
    assert_eq!((sink.status().state, rows("http")), (SinkState::Running, sent));
    host.stop("http").await.unwrap();
    assert!(matches!(host.rebuild("http").await, Err(SetError::NotEmptied { .. })));
    assert!(!is_wanted("http"));
    host.close(tokio::time::Instant::now() + Duration::from_secs(5)).await;
}

async fn hashes(redis: &mut MultiplexedConnection) -> BTreeMap<String, BTreeMap<String, String>> {
    let keys: Vec<String> = redis.keys("metrics:*").await.unwrap();
    let mut hashes = BTreeMap::new();
    for key in keys {
        let fields = redis.hgetall(&key).await.unwrap();
        hashes.insert(key, fields);
    }
    hashes
}
