//! The Redis sink, against a real server.

use std::collections::BTreeMap;

use crate::feed::{Feed, MINUTE, Running, T0};
use crate::lab::{Lab, must};
use ::redis::AsyncCommands;
use ::redis::aio::MultiplexedConnection;
use clickmill_connectors::{BatchOptions, Endpoint, OnOtherRun, RedisOptions, SinkState};
use clickmill_schemas::Offset;

fn small_batches() -> RedisOptions {
    RedisOptions { batch: BatchOptions { max_bytes: 1, ..BatchOptions::default() }, ..RedisOptions::default() }
}

fn start(lab: &Lab, feed: &Feed, options: &RedisOptions) -> Running {
    Running::start(options.windows(Endpoint::Private(lab.servers.clone()), &feed.source))
}

async fn connect(lab: &Lab) -> MultiplexedConnection {
    let url = must(lab.servers.redis().await);
    redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
}

/// Impressions of the hash's own fields and of its keys, for every hash there is.
async fn impressions(redis: &mut MultiplexedConnection) -> BTreeMap<String, i64> {
    let keys: Vec<String> = redis.keys("metrics:*").await.unwrap();
    let mut found = BTreeMap::new();
    for key in keys {
        let fields: BTreeMap<String, String> = redis.hgetall(&key).await.unwrap();
        for (field, value) in fields.iter().filter(|(field, _)| field.ends_with("impressions")) {
            found.insert(format!("{key} {field}"), value.parse().unwrap());
        }
    }
    found
}

/// The same, as the log says.
fn expected(feed: &Feed) -> BTreeMap<String, i64> {
    let mut expected = BTreeMap::new();
    for (window, merged) in feed.recount().iter() {
        let start = jiff::Timestamp::from_millisecond(window.start_ms).unwrap();
        let name = format!("metrics:{}min:{start}", window.size_ms / MINUTE);
        for (key, m) in merged.sums() {
            let field = match window.dimension.as_str() {
                "total" => "impressions".to_owned(),
                dimension => format!("{dimension}|{key}|impressions"),
            };
            expected.insert(format!("{name} {field}"), m.impressions);
        }
    }
    expected
}

/// Commits of two partitions that take turns on overlapping windows.
fn fill(feed: &mut Feed, epoch: u64, commits: std::ops::RangeInclusive<u64>) -> Offset {
    for n in commits {
        let by = ((n % 2) as u32, epoch, n * 100);
        for back in 0..4 {
            let start = T0 + (n as i64 - back) * MINUTE;
            let value = n as i64 * 10 + back;
            feed.partial(by, MINUTE, start, "total", &[("", [value, 1, 0, 5, 0])]);
            feed.partial(by, MINUTE, start, "device_type", &[("1", [value, 1, 1, 2, 3]), ("0", [back, 0, 0, 3, 0])]);
        }
        feed.partial(by, 5 * MINUTE, T0 + (n as i64 / 5) * 5 * MINUTE, "total", &[("", [n as i64, 0, 0, 0, 0])]);
        feed.commit(by, Some(T0 + (n as i64 - 4) * MINUTE));
        feed.flush();
    }
    feed.flush()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_windows_hash_has_the_fields_and_the_time_to_live_of_the_contract() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    for partition in 0..2 {
        let by = (partition, 1, 1);
        feed.partial(by, MINUTE, T0, "total", &[("", [3, 1, 1, 1_500, 20])]);
        feed.partial(by, MINUTE, T0, "site_category", &[("a|b\0", [3, 1, 1, 1_500, 20])]);
        feed.partial(by, 5 * MINUTE, T0, "total", &[("", [3, 0, 0, 0, 0])]);
    }
    let sink = start(&lab, &feed, &RedisOptions::default());
    sink.reach(feed.flush()).await;
    let mut redis = connect(&lab).await;
    let fields: BTreeMap<String, String> = redis.hgetall("metrics:1min:2014-10-21T00:00:00Z").await.unwrap();
    let metrics = [
        ("impressions", "6"),
        ("clicks", "2"),
        ("conversions", "2"),
        ("cost_micros", "3000"),
        ("revenue_micros", "40"),
        ("ctr", "0.333333"),
    ];
    let expected: BTreeMap<String, String> = metrics
        .iter()
        .flat_map(|(name, value)| [((*name).to_owned(), value), (format!("site_category|a|b\0|{name}"), value)])
        .map(|(field, value)| (field, (*value).to_owned()))
        .collect();
    assert_eq!(fields, expected);
    let minute: i64 = redis.ttl("metrics:1min:2014-10-21T00:00:00Z").await.unwrap();
    let five: i64 = redis.ttl("metrics:5min:2014-10-21T00:00:00Z").await.unwrap();
    assert!((295..=300).contains(&minute) && (1_495..=1_500).contains(&five), "{minute} {five}");
    let version: i64 = redis.ttl("clickmill:version:{metrics:1min:2014-10-21T00:00:00Z}").await.unwrap();
    assert!((295..=300).contains(&version));

    // The time to live counts from the last write, and only windows that changed are written.
    let _: bool = redis.expire("metrics:1min:2014-10-21T00:00:00Z", 10).await.unwrap();
    let _: bool = redis.expire("metrics:5min:2014-10-21T00:00:00Z", 10).await.unwrap();
    feed.partial((0, 1, 2), MINUTE, T0, "total", &[("", [9, 1, 1, 1_500, 20])]);
    sink.reach(feed.flush()).await;
    let minute: i64 = redis.ttl("metrics:1min:2014-10-21T00:00:00Z").await.unwrap();
    let five: i64 = redis.ttl("metrics:5min:2014-10-21T00:00:00Z").await.unwrap();
    assert!(minute > 10 && five <= 10, "{minute} {five}");
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_version_is_not_written_over_a_newer_one() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 1);
    feed.partial((0, 1, 1), MINUTE, T0, "total", &[("", [1, 0, 0, 0, 0])]);
    feed.partial((0, 1, 1), MINUTE, T0 + MINUTE, "total", &[("", [1, 0, 0, 0, 0])]);
    let mut redis = connect(&lab).await;
    let (newer, run) = ("metrics:1min:2014-10-21T00:00:00Z", feed.run());
    let foreign = "metrics:1min:2014-10-21T00:01:00Z";
    for key in [newer, foreign] {
        let _: () = redis.hset(key, "impressions", 777).await.unwrap();
    }
    let _: () = redis.set(format!("clickmill:version:{{{newer}}}"), format!("{run} 1000")).await.unwrap();
    let _: () =
        redis.set(format!("clickmill:version:{{{foreign}}}"), format!("{} 1000", "0".repeat(32))).await.unwrap();
    let sink = start(&lab, &feed, &RedisOptions::default());
    sink.reach(feed.flush()).await;
    assert_eq!(redis.hget::<_, _, i64>(newer, "impressions").await.unwrap(), 777);
    assert_eq!(
        redis.hget::<_, _, i64>(foreign, "impressions").await.unwrap(),
        1,
        "versions of another run do not count"
    );
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_rebuilds_the_sums_of_windows_that_are_still_open() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    let mut redis = connect(&lab).await;
    for round in 0..5 {
        let end = fill(&mut feed, 1, round * 7 + 1..=round * 7 + 7);
        let sink = start(&lab, &feed, &small_batches());
        sink.reach(end).await;
        sink.stop().await;
        let found = impressions(&mut redis).await;
        assert_eq!(found, expected(&feed), "round {round}");
    }
    let rebuild_from: u64 = redis.hget("clickmill:sink:redis", "rebuild_from").await.unwrap();
    let end = feed.flush().0;
    assert!(rebuild_from > end / 2 && rebuild_from < end, "{rebuild_from} of {end}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flushed_server_is_filled_again_from_the_beginning() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    let sink = start(&lab, &feed, &small_batches());
    sink.reach(fill(&mut feed, 1, 1..=20)).await;
    let mut redis = connect(&lab).await;
    redis::cmd("FLUSHALL").exec_async(&mut redis).await.unwrap();
    let end = fill(&mut feed, 1, 21..=22);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while impressions(&mut redis).await != expected(&feed) {
        assert!(std::time::Instant::now() < deadline, "{:?}", sink.handle.status());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    sink.reach(end).await;
    // An idle sink notices too.
    redis::cmd("FLUSHALL").exec_async(&mut redis).await.unwrap();
    while impressions(&mut redis).await != expected(&feed) {
        assert!(std::time::Instant::now() < deadline, "{:?}", sink.handle.status());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_in_the_middle_is_waited_for_and_filled_again() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    let sink = start(&lab, &feed, &small_batches());
    sink.reach(fill(&mut feed, 1, 1..=10)).await;
    let record = std::fs::read(lab.path().join("servers/servers.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    let pid = std::fs::read_to_string(format!("{}/redis/redis.pid", record["home"].as_str().unwrap())).unwrap();
    std::process::Command::new("kill").args(["-KILL", pid.trim()]).status().unwrap();
    let end = fill(&mut feed, 1, 11..=40);
    sink.reach(end).await;
    sink.reach_state(SinkState::Running).await;
    assert_eq!(impressions(&mut connect(&lab).await).await, expected(&feed));
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_runs_windows_are_refused_replaced_or_left_to_expire() {
    let lab = Lab::new();
    let mut first = Feed::new(&lab.path().join("first"), 2);
    let mut second = Feed::new(&lab.path().join("second"), 1);
    let first_end = fill(&mut first, 1, 1..=5);
    second.partial((0, 1, 1), MINUTE, T0 - 60 * MINUTE, "total", &[("", [1, 0, 0, 0, 0])]);
    let second_end = second.flush();
    let sink = start(&lab, &first, &RedisOptions::default());
    sink.reach(first_end).await;
    sink.stop().await;
    let mut redis = connect(&lab).await;

    let sink = start(&lab, &second, &RedisOptions::default());
    sink.reach_state(SinkState::Refused).await;
    let error = sink.handle.status().last_error.unwrap();
    assert!(error.contains(&first.run().to_string()) && error.contains("on_other_run"), "{error}");
    sink.stop().await;
    assert_eq!(impressions(&mut redis).await, expected(&first));

    let keep = RedisOptions { on_other_run: OnOtherRun::Keep, ..RedisOptions::default() };
    let sink = start(&lab, &second, &keep);
    sink.reach(second_end).await;
    sink.stop().await;
    let mut both = expected(&first);
    both.extend(expected(&second));
    assert_eq!(impressions(&mut redis).await, both);

    let replace = RedisOptions { on_other_run: OnOtherRun::Replace, ..RedisOptions::default() };
    let sink = start(&lab, &first, &replace);
    sink.reach(first_end).await;
    sink.stop().await;
    assert_eq!(impressions(&mut redis).await, expected(&first));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_script_does_not_move_the_sinks_offset() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 1);
    let sink = start(&lab, &feed, &RedisOptions::default());
    sink.reach_state(SinkState::Running).await;
    let mut redis = connect(&lab).await;
    redis::cmd("CONFIG").arg(&["SET", "maxmemory", "1"]).exec_async(&mut redis).await.unwrap();
    feed.partial((0, 1, 1), MINUTE, T0, "total", &[("", [1, 0, 0, 0, 0])]);
    let end = feed.flush();
    sink.reach_state(SinkState::Retrying).await;
    assert_eq!(sink.handle.confirmed(), Offset(0));
    assert!(sink.handle.status().last_error.unwrap().contains("OOM"));
    redis::cmd("CONFIG").arg(&["SET", "maxmemory", "0"]).exec_async(&mut redis).await.unwrap();
    sink.reach(end).await;
    assert_eq!(impressions(&mut redis).await, expected(&feed));
    // Scripts that the server forgot are loaded again.
    redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut redis).await.unwrap();
    feed.partial((0, 1, 2), MINUTE, T0, "total", &[("", [2, 0, 0, 0, 0])]);
    sink.reach(feed.flush()).await;
    assert_eq!(impressions(&mut redis).await, expected(&feed));
    sink.stop().await;
}
