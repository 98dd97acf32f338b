//! Views over topics written by hand, in a real log.

use std::time::Duration;

use clickmill_broker::{Broker, EmbeddedLog, LogOptions, TopicPartition};
use clickmill_schemas::envelope::SourcePosition;
use clickmill_schemas::output::{Body, Commit, Ledger, Output, Stamp};
use clickmill_schemas::partial::{self, Metrics, OVERFLOW_KEY, Owner, Version};
use clickmill_schemas::record::RecordSetBuilder;
use clickmill_schemas::{Epoch, Generation, ModuleDigest, Offset, PartitionId, RunId};

use super::records::{Content, PageLimits, read_page};
use super::*;
use crate::deployment::{self, Deployment, Stage};
use crate::topics::{self, AD_EVENTS_RAW, CTR_WINDOWS, TopicsOptions};

const MINUTE: i64 = 60_000;

/// A log with the topics of a run, and what a worker would write.
struct Fixture {
    log: EmbeddedLog,
    run: RunId,
    _dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(dir.path(), LogOptions::default()).unwrap();
        let options = TopicsOptions {
            partitions: 2,
            ..TopicsOptions::default()
        };
        let run = topics::create_all(&log, &options).unwrap().id;
        Self {
            log,
            run,
            _dir: dir,
        }
    }

    fn append(&self, topic: &str, partition: u32, records: &[(Option<&[u8]>, &[u8])]) {
        let mut set = RecordSetBuilder::default();
        records
            .iter()
            .for_each(|(key, value)| set.push(*key, value, 1_000));
        self.log
            .append(&TopicPartition::new(topic, PartitionId(partition)), &set)
            .unwrap()
            .wait()
            .unwrap();
    }

    /// `entries`: (key, impressions, clicks).
    fn partial(
        &self,
        partition: u32,
        version: (u64, u64),
        window: (i64, i64, &str),
        entries: &[(&str, i64, i64)],
    ) {
        let owner = Owner {
            run: self.run,
            partition: PartitionId(partition),
            generation: Generation(0),
        };
        let (size_ms, start_ms, dimension) = window;
        let mut key = partial::key_prefix(&owner).into_bytes();
        partial::put_guest_key(&mut key, size_ms, start_ms, dimension);
        let mut value = Vec::new();
        partial::put_stamps(
            &mut value,
            &Version {
                epoch: Epoch(version.0),
                as_of: Offset(version.1),
            },
        );
        partial::put_guest_head(
            &mut value,
            entries.iter().any(|e| e.0 == OVERFLOW_KEY),
            entries.len(),
        );
        for (key, impressions, clicks) in entries {
            let metrics = Metrics {
                impressions: *impressions,
                clicks: *clicks,
                cost_micros: impressions * 1_000,
                ..Metrics::default()
            };
            partial::put_entry(&mut value, key.as_bytes(), &metrics);
        }
        partial::put_end(&mut value);
        self.append(CTR_WINDOWS, 0, &[(Some(&key), &value)]);
    }

    fn output(&self, partition: u32, epoch: u64, body: Body) {
        let stamp = Stamp {
            run: self.run,
            partition: PartitionId(partition),
            epoch: Epoch(epoch),
        };
        let output = Output { stamp, body };
        self.append(
            CTR_WINDOWS,
            0,
            &[(Some(output.key().as_bytes()), &output.encode())],
        );
    }

    fn commit(&self, partition: u32, epoch: u64, as_of: u64, closed_before_ms: i64) {
        let mut ledger = Ledger {
            counted: as_of.saturating_sub(1),
            ..Ledger::default()
        };
        ledger.reject("json");
        self.output(
            partition,
            epoch,
            Body::Commit(Commit {
                generation: Generation(0),
                as_of_offset: Offset(as_of),
                watermark_ms: Some(closed_before_ms + MINUTE),
                closed_before_ms: Some(closed_before_ms),
                ledger,
                committed_at_ms: 7,
            }),
        );
    }

    fn produce(&self, partition: u32, records: usize) {
        self.append(AD_EVENTS_RAW, partition, &vec![(None, &b"{}"[..]); records]);
    }

    fn rows(&self, query: &WindowQuery) -> Vec<WindowRow> {
        windows(&self.log, query)
            .unwrap()
            .into_rows()
            .map(Result::unwrap)
            .collect()
    }
}

fn minutes(dimension: &str) -> WindowQuery {
    WindowQuery {
        size_ms: MINUTE,
        dimension: Some(dimension.to_owned()),
        ..WindowQuery::default()
    }
}

fn short(rows: &[WindowRow]) -> Vec<(i64, &str, &str, i64)> {
    rows.iter()
        .map(|r| {
            (
                r.window.start_ms / MINUTE,
                r.window.dimension.as_str(),
                r.key.as_str(),
                r.metrics.impressions,
            )
        })
        .collect()
}

#[test]
fn partitions_add_up_and_rows_come_by_start_dimension_and_key_bytewise() {
    let f = Fixture::new();
    f.partial(
        0,
        (1, 5),
        (MINUTE, MINUTE, "site_category"),
        &[("b", 2, 1), ("B", 1, 0), ("é", 4, 0)],
    );
    f.partial(1, (1, 5), (MINUTE, MINUTE, "site_category"), &[("b", 3, 1)]);
    f.partial(0, (1, 5), (MINUTE, 0, "total"), &[("", 9, 3)]);
    f.partial(0, (1, 5), (MINUTE, 0, "banner_pos"), &[("0", 9, 3)]);
    f.partial(0, (1, 5), (5 * MINUTE, 0, "total"), &[("", 99, 3)]);
    let rows = f.rows(&WindowQuery {
        size_ms: MINUTE,
        ..WindowQuery::default()
    });
    let expected = [
        (0, "banner_pos", "0", 9),
        (0, "total", "", 9),
        (1, "site_category", "B", 1),
        (1, "site_category", "b", 5),
        (1, "site_category", "é", 4),
    ];
    assert_eq!(short(&rows), expected);
    assert_eq!(rows[3].metrics.clicks, 2);
}

#[test]
fn a_query_takes_windows_by_start_from_inclusive_to_exclusive() {
    let f = Fixture::new();
    for start in 0..4 {
        f.partial(0, (1, 1), (MINUTE, start * MINUTE, "total"), &[("", 1, 0)]);
    }
    let query = WindowQuery {
        from_ms: Some(MINUTE),
        to_ms: Some(3 * MINUTE),
        ..minutes("total")
    };
    assert_eq!(
        short(&f.rows(&query)),
        [(1, "total", "", 1), (2, "total", "", 1)]
    );
}

#[test]
fn a_newer_version_replaces_and_an_older_one_or_a_fenced_one_does_not() {
    let f = Fixture::new();
    let window = (MINUTE, 0, "total");
    f.partial(0, (1, 10), window, &[("", 10, 0)]);
    f.partial(0, (1, 9), window, &[("", 9, 0)]);
    assert_eq!(f.rows(&minutes("total"))[0].metrics.impressions, 10);
    f.output(0, 2, Body::Epoch);
    // A window that only the frozen worker writes, after its successor began.
    f.partial(0, (1, 20), (MINUTE, MINUTE, "total"), &[("", 77, 0)]);
    f.partial(0, (2, 8), window, &[("", 8, 0)]);
    let rows = f.rows(&minutes("total"));
    assert_eq!(short(&rows), [(0, "total", "", 8)]);
}

#[test]
fn a_window_is_final_once_every_partition_has_closed_it_and_empty_ones_are_not_shown() {
    let f = Fixture::new();
    f.partial(
        0,
        (1, 5),
        (MINUTE, 0, "total"),
        &[("", 1, 0), ("gone", 0, 0)],
    );
    f.partial(0, (1, 5), (MINUTE, MINUTE, "total"), &[("", 1, 0)]);
    f.commit(0, 1, 5, 10 * MINUTE);
    assert!(f.rows(&minutes("total")).iter().all(|r| !r.final_));
    f.commit(1, 1, 5, MINUTE);
    let finals: Vec<_> = f.rows(&minutes("total")).iter().map(|r| r.final_).collect();
    assert_eq!(finals, [true, false]);
}

#[test]
fn an_overflow_bucket_makes_the_dimension_of_that_window_a_lower_bound() {
    let f = Fixture::new();
    f.partial(
        0,
        (1, 5),
        (MINUTE, 0, "site_category"),
        &[("a", 1, 0), (OVERFLOW_KEY, 3, 0)],
    );
    f.partial(1, (1, 5), (MINUTE, 0, "site_category"), &[("b", 1, 0)]);
    assert!(
        f.rows(&minutes("site_category"))
            .iter()
            .all(|r| r.lower_bound)
    );
}

#[test]
fn another_runs_windows_are_not_ours() {
    let mut f = Fixture::new();
    let own = std::mem::replace(&mut f.run, RunId([9; 16]));
    f.partial(0, (1, 5), (MINUTE, 0, "total"), &[("", 5, 0)]);
    f.commit(0, 1, 5, 0);
    f.run = own;
    assert!(f.rows(&minutes("total")).is_empty());
    assert_eq!(
        status(&f.log, RunState::Stopped, Vec::new())
            .unwrap()
            .partitions[0]
            .processed_offset,
        Offset(0)
    );
}

#[test]
fn a_record_that_no_worker_wrote_is_named_with_its_place() {
    let f = Fixture::new();
    f.append(CTR_WINDOWS, 0, &[(None, b"{\"kind\":\"epoch\"}")]);
    let error = windows(&f.log, &minutes("total")).unwrap_err().to_string();
    assert!(
        error.starts_with("topic ctr_windows, partition 0, offset 0: not an output record"),
        "{error}"
    );
}

#[test]
fn a_data_directory_without_topics_has_an_empty_status_and_no_windows() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path(), LogOptions::default()).unwrap();
    assert_eq!(
        windows(&log, &minutes("total"))
            .unwrap()
            .into_rows()
            .count(),
        0
    );
    let status = status(&log, RunState::Stopped, Vec::new()).unwrap();
    assert!(status.run.is_none() && status.partitions.is_empty() && status.ledger.balances());
}

#[test]
fn status_sums_the_newest_commits_and_takes_produced_from_the_log() {
    let f = Fixture::new();
    f.produce(0, 12);
    f.produce(1, 3);
    f.output(0, 1, Body::Epoch);
    f.output(1, 1, Body::Epoch);
    f.commit(0, 1, 5, 0);
    f.commit(1, 1, 3, MINUTE);
    f.commit(0, 1, 10, MINUTE);
    let status = status(
        &f.log,
        RunState::Running,
        vec![serde_json::json!({"name": "s"})],
    )
    .unwrap();
    assert_eq!(
        (
            status.ledger.produced,
            status.ledger.fates.counted,
            status.ledger.fates.rejected
        ),
        (13, 11, 2)
    );
    assert!(status.ledger.balances());
    let p0 = &status.partitions[0];
    assert_eq!(
        (p0.log_end_offset, p0.processed_offset, p0.lag),
        (Offset(12), Offset(10), 2)
    );
    assert_eq!(
        (p0.watermark_ms, p0.closed_before_ms),
        (Some(2 * MINUTE), Some(MINUTE))
    );
    assert_eq!(status.run, Some(f.run));
    assert_eq!(status.topics.len(), 4);
    let json = serde_json::to_value(&status).unwrap();
    for key in ["produced", "counted", "rejected", "late", "dropped"] {
        assert!(json["ledger"][key].is_u64(), "{key}");
    }
    assert_eq!(serde_json::from_value::<Status>(json).unwrap(), status);
}

#[test]
fn a_commit_ahead_of_its_log_does_not_balance() {
    let f = Fixture::new();
    f.produce(0, 4);
    f.commit(0, 1, 4, 0);
    assert!(
        status(&f.log, RunState::Stopped, Vec::new())
            .unwrap()
            .ledger
            .balances()
    );
    f.commit(0, 1, 10, 0);
    assert!(
        !status(&f.log, RunState::Stopped, Vec::new())
            .unwrap()
            .ledger
            .balances()
    );
}

#[test]
fn the_commit_of_a_frozen_host_behind_its_successors_is_not_the_newest() {
    let f = Fixture::new();
    f.produce(0, 50);
    for partition in [0, 1] {
        f.output(partition, 1, Body::Epoch);
        f.output(partition, 2, Body::Epoch);
        f.commit(partition, 2, 20, 0);
    }
    f.commit(0, 1, 40, 0);
    let status = status(&f.log, RunState::Stopped, Vec::new()).unwrap();
    assert_eq!(
        (
            status.partitions[0].processed_offset,
            status.partitions[0].epoch
        ),
        (Offset(20), Some(Epoch(2)))
    );
}

#[test]
fn modules_are_those_of_the_newest_deployment() {
    let f = Fixture::new();
    for version in ["0.1.0", "0.2.0"] {
        let stage = Stage {
            stage: "validate".into(),
            name: "validate".into(),
            version: version.into(),
            sha256: ModuleDigest([4; 32]),
            params: Default::default(),
        };
        let deployment = Deployment {
            stages: vec![stage],
            message: String::new(),
            created_at_ms: 1,
        };
        deployment::append(&f.log, &deployment).unwrap();
    }
    let modules = status(&f.log, RunState::Stopped, Vec::new())
        .unwrap()
        .modules;
    assert_eq!(modules.len(), 1);
    assert_eq!(
        (modules[0].version.as_str(), modules[0].sha256),
        ("0.2.0", ModuleDigest([4; 32]))
    );
}

#[test]
fn a_page_shows_text_as_it_is_partials_decoded_and_other_bytes_in_base64() {
    let f = Fixture::new();
    let position = SourcePosition {
        source: 255,
        row: 6,
    }
    .encode();
    f.append(
        AD_EVENTS_RAW,
        0,
        &[
            (None, b"{\"b\":1, \"a\":2}"),
            (Some(&position), b"\xff\x00"),
            (Some(b"k"), b"3"),
        ],
    );
    let limits = PageLimits {
        records: 2,
        bytes: 1 << 20,
        wait: Duration::ZERO,
    };
    let at = TopicPartition::new(AD_EVENTS_RAW, PartitionId(0));
    let page = read_page(&f.log, &at, Offset(0), limits).unwrap();
    assert_eq!(
        (page.next_offset, page.log_end_offset),
        (Offset(2), Offset(3))
    );
    assert_eq!(
        page.records[0].value,
        Content::Utf8("{\"b\":1, \"a\":2}".into())
    );
    assert_eq!(page.records[1].value, Content::Base64("/wA=".into()));
    assert_eq!(
        page.records[1].key,
        Some(Content::SourcePosition {
            source: "00000000000000ff".into(),
            row: 6
        })
    );
    let rest = read_page(&f.log, &at, page.next_offset, limits).unwrap();
    assert_eq!((rest.records.len(), rest.records[0].offset), (1, Offset(2)));
    assert!(read_page(&f.log, &at, Offset(4), limits).is_err());

    f.partial(1, (3, 9), (MINUTE, 0, "device_type"), &[("1", 5, 2)]);
    let page = read_page(
        &f.log,
        &TopicPartition::new(CTR_WINDOWS, PartitionId(0)),
        Offset(0),
        limits,
    )
    .unwrap();
    let Content::Partial(partial) = &page.records[0].value else {
        panic!("{page:?}")
    };
    assert_eq!(
        (
            partial.dimension.as_str(),
            partial.entries[0].impressions,
            partial.epoch
        ),
        ("device_type", 5, Epoch(3))
    );
}

#[test]
fn a_page_is_bounded_in_bytes_and_gives_at_least_one_record() {
    let f = Fixture::new();
    f.append(AD_EVENTS_RAW, 0, &vec![(None, &[b'x'; 100][..]); 5]);
    let at = TopicPartition::new(AD_EVENTS_RAW, PartitionId(0));
    for (bytes, expected) in [(10, 1), (250, 2), (1_000, 5)] {
        let limits = PageLimits {
            records: 100,
            bytes,
            wait: Duration::ZERO,
        };
        assert_eq!(
            read_page(&f.log, &at, Offset(0), limits)
                .unwrap()
                .records
                .len(),
            expected,
            "{bytes}"
        );
    }
}
