//! The Parquet sink, against a real folder and a real HTTP server that speaks S3.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clickmill_connectors::verify::{Value, Verified, verify};
use clickmill_connectors::{Connector, Endpoint, ParquetOptions, ServerUrl, Servers, SinkState};
use clickmill_schemas::Offset;

use crate::bucket::Bucket;
use crate::feed::{Feed, MINUTE, Running, T0};

/// Small files.
fn options() -> ParquetOptions {
    ParquetOptions { offsets_per_file: 50, ..ParquetOptions::default() }
}

fn endpoint(dir: &Path, options: &ParquetOptions) -> Endpoint {
    options.url.clone().map_or_else(|| Endpoint::Private(Servers::new(dir)), Endpoint::Named)
}

fn start(dir: &Path, feed: &Feed, options: &ParquetOptions) -> Running {
    Running::start(options.windows(endpoint(dir, options), &feed.source))
}

/// Commits of two partitions that take turns on overlapping windows: six records each.
fn fill(feed: &mut Feed, epoch: u64, commits: std::ops::Range<u64>) -> Offset {
    for n in commits {
        let by = ((n % 2) as u32, epoch, n * 100);
        for back in 0..4 {
            let value = n as i64 * 10 + back;
            let keys = [("1", [value, 1, 1, 2, 3]), ("a|b,\0\u{e9}", [back + 1, 0, 0, 3, 0])];
            feed.partial(by, MINUTE, T0 + (n as i64 / 3 - back) * MINUTE, "device_type", &keys);
        }
        feed.partial(by, 5 * MINUTE, T0 + (n as i64 / 15) * 5 * MINUTE, "total", &[("", [n as i64 + 1, 0, 0, 0, 0])]);
        feed.commit(by, Some(T0 + (n as i64 / 3 - 4) * MINUTE));
        feed.flush();
    }
    feed.flush()
}

/// The windows of a size, as the topic has them.
fn topic(feed: &Feed, size_ms: i64) -> Vec<Value> {
    let mut values = Vec::new();
    for (window, merged) in feed.recount().iter().filter(|(window, _)| window.size_ms == size_ms) {
        for (key, metrics) in merged.sums() {
            let (start_ms, dimension) = (window.start_ms, window.dimension.clone());
            values.push(Value { start_ms, dimension, key, metrics, lower_bound: merged.lower_bound() });
        }
    }
    values.sort_by_key(|value| (value.start_ms, value.dimension.clone()));
    values
}

/// Compares the files with the topic, both sizes.
async fn verified(dir: &Path, feed: &Feed, options: &ParquetOptions) -> Verified {
    let mut all = Verified::default();
    for size_ms in [MINUTE, 5 * MINUTE] {
        let (values, run) = (topic(feed, size_ms), feed.run());
        let (connector, endpoint) = (Connector::Parquet(options.clone()), endpoint(dir, options));
        let runtime = tokio::runtime::Handle::current();
        let work = move || {
            let values = Box::new(values.into_iter().map(Ok));
            verify(&connector, &endpoint, &runtime, (run, size_ms), values).unwrap()
        };
        let one = tokio::task::spawn_blocking(work).await.unwrap();
        all.compared += one.compared;
        all.different += one.different;
        all.differences.extend(one.differences);
    }
    all
}

async fn assert_same(dir: &Path, feed: &Feed, options: &ParquetOptions) {
    let all = verified(dir, feed, options).await;
    assert!(all.different == 0 && all.compared > 20, "{all:?}");
}

fn folder(dir: &Path, feed: &Feed) -> PathBuf {
    dir.join("processed/windows").join(format!("run={}", feed.run()))
}

fn names(dir: &Path, feed: &Feed) -> Vec<String> {
    let entries = std::fs::read_dir(folder(dir, feed)).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn name(from: u64, to: u64) -> String {
    format!("ctr_windows-0-{from:020}-{to:020}.parquet")
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_fixed_ranges_hold_the_windows_and_are_the_same_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut feed = Feed::new(dir.path(), 2);
    let end = fill(&mut feed, 1, 0..40);
    let sink = start(dir.path(), &feed, &options());
    sink.reach(end).await;
    assert_eq!(end, Offset(240));
    let expected = [name(0, 50), name(50, 100), name(100, 150), name(150, 200), name(200, 240)];
    assert_eq!(names(dir.path(), &feed), expected);
    assert_same(dir.path(), &feed, &options()).await;

    // What comes later is in parts until its range is whole; another worker's term replaces what it counted anew.
    let end = fill(&mut feed, 2, 38..42);
    sink.reach(end).await;
    assert_same(dir.path(), &feed, &options()).await;
    sink.stop().await;
    let sink = start(dir.path(), &feed, &options());
    sink.wait(|h| h.status().state == SinkState::Running && h.confirmed() == end).await;
    fill(&mut feed, 2, 42..60);
    // A savepoint that was gone back to empties a window; who is of an older term has no say any more.
    feed.partial((0, 3, 1), MINUTE, T0, "device_type", &[]);
    feed.partial((0, 2, 9_999), MINUTE, T0 + 900 * MINUTE, "device_type", &[("1", [7, 0, 0, 0, 0])]);
    let end = feed.flush();
    sink.reach(end).await;
    assert_same(dir.path(), &feed, &options()).await;
    assert_eq!(names(dir.path(), &feed)[4], name(200, 250));
    sink.stop().await;

    // A file that is gone is written again, the same byte for byte, and so are those behind it.
    let path = folder(dir.path(), &feed).join(name(100, 150));
    let before: Vec<_> = names(dir.path(), &feed).into_iter().take(7).collect();
    assert_eq!(before[6], name(300, 350));
    let bytes = |name: &String| std::fs::read(folder(dir.path(), &feed).join(name)).unwrap();
    let contents: Vec<_> = before.iter().map(bytes).collect();
    std::fs::remove_file(path).unwrap();
    let sink = start(dir.path(), &feed, &options());
    sink.reach(end).await;
    sink.stop().await;
    assert_eq!(before.iter().map(bytes).collect::<Vec<_>>(), contents);
    assert_same(dir.path(), &feed, &options()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_nothing_is_lost_and_nothing_doubled() {
    let dir = tempfile::tempdir().unwrap();
    let mut feed = Feed::new(dir.path(), 2);
    for kill in 0..30_u64 {
        fill(&mut feed, 1, kill * 5..kill * 5 + 5);
        let sink = start(dir.path(), &feed, &options());
        tokio::time::sleep(Duration::from_micros(kill * 600)).await;
        sink.kill().await;
    }
    let end = feed.flush();
    // Between a file and the removal of the parts that it has taken in.
    let sink = start(dir.path(), &feed, &options());
    sink.reach(end).await;
    sink.stop().await;
    let whole = folder(dir.path(), &feed).join(name(0, 50));
    std::fs::copy(whole, folder(dir.path(), &feed).join(name(10, 40))).unwrap();
    assert_same(dir.path(), &feed, &options()).await;
    let sink = start(dir.path(), &feed, &options());
    sink.reach(end).await;
    assert!(!names(dir.path(), &feed).contains(&name(10, 40)));
    assert_same(dir.path(), &feed, &options()).await;

    // Files that are taken away while it runs are written again.
    std::fs::remove_dir_all(folder(dir.path(), &feed)).unwrap();
    sink.wait(|h| h.status().retries > 0).await;
    sink.wait(|_| folder(dir.path(), &feed).join(name(850, 900)).exists()).await;
    sink.wait(|h| h.status().state == SinkState::Running && h.confirmed() == end).await;
    assert_same(dir.path(), &feed, &options()).await;
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_trickles_leaves_few_parts_and_other_sizes_go_on_from_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut feed = Feed::new(dir.path(), 2);
    let wide = ParquetOptions { offsets_per_file: 10_000, ..ParquetOptions::default() };
    for n in 0..32 {
        // A sink that has just begun writes a part at once.
        let sink = start(dir.path(), &feed, &wide);
        sink.reach(fill(&mut feed, 1, n..n + 1)).await;
        sink.stop().await;
        assert!(names(dir.path(), &feed).len() <= 6, "{:?}", names(dir.path(), &feed));
    }
    assert_same(dir.path(), &feed, &wide).await;
    let sink = start(dir.path(), &feed, &options());
    let end = fill(&mut feed, 1, 32..60);
    sink.reach(end).await;
    sink.stop().await;
    assert_same(dir.path(), &feed, &options()).await;
    let sink = start(dir.path(), &feed, &wide);
    sink.reach(fill(&mut feed, 2, 59..62)).await;
    assert_same(dir.path(), &feed, &wide).await;
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_had_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut feed = Feed::new(dir.path(), 2);
    let end = fill(&mut feed, 1, 0..20);
    std::fs::write(dir.path().join("processed"), "a file where the folder should be").unwrap();
    let sink = start(dir.path(), &feed, &options());
    sink.wait(|h| h.status().retries > 1).await;
    let status = sink.handle.status();
    assert_eq!(status.state, SinkState::Retrying);
    assert!(status.last_error.unwrap().contains("make the folder"));
    std::fs::remove_file(dir.path().join("processed")).unwrap();
    sink.reach(end).await;
    assert_same(dir.path(), &feed, &options()).await;
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_refuses_is_tried_again_and_no_key_of_it_is_told() {
    let (dir, bucket) = (tempfile::tempdir().unwrap(), Bucket::start().await);
    let mut feed = Feed::new(dir.path(), 2);
    let options = ParquetOptions {
        url: Some(ServerUrl("s3://b/lake/windows".to_owned())),
        access_key_id: Some("AKIA-s3cr3t".to_owned()),
        secret_access_key: Some("s3cr3t-key".to_owned()),
        endpoint: Some(bucket.endpoint.clone()),
        allow_http: true,
        ..options()
    };
    bucket.refuse(403);
    let end = fill(&mut feed, 1, 0..30);
    let sink = start(dir.path(), &feed, &options);
    sink.wait(|h| h.status().retries > 0).await;
    bucket.refuse(0);
    sink.reach(end).await;
    assert_same(dir.path(), &feed, &options).await;
    for status in [403, 500] {
        bucket.refuse(status);
        let retries = sink.handle.status().retries;
        let end = fill(&mut feed, 1, 30 + u64::from(status)..60 + u64::from(status));
        sink.wait(|h| h.status().retries > retries && h.status().state == SinkState::Retrying).await;
        let said = format!("{:?} {options:?}", sink.handle.status());
        assert!(said.contains(&status.to_string()) && !said.contains("s3cr3t"), "{said}");
        bucket.refuse(0);
        sink.reach(end).await;
        assert_same(dir.path(), &feed, &options).await;
    }
    let key = format!("lake/windows/run={}/{}", feed.run(), name(0, 50));
    assert!(bucket.keys().contains(&key), "{:?}", bucket.keys());
    sink.stop().await;
}
