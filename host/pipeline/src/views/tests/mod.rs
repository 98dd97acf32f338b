//! Views over topics written by hand, in a real log.

mod records;
mod standing;
mod status;
mod windows;

use clickmill_broker::{Broker, EmbeddedLog, LogOptions, TopicPartition};
use clickmill_schemas::output::{Body, Commit, Ledger, Output, Stamp};
use clickmill_schemas::partial::{self, Metrics, OVERFLOW_KEY, Owner, Version};
use clickmill_schemas::record::RecordSetBuilder;
use clickmill_schemas::{Epoch, Generation, Offset, PartitionId, RunId};

use super::*;
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
        let options = TopicsOptions { partitions: 2, ..TopicsOptions::default() };
        let run = topics::create_all(&log, &options).unwrap().id;
        Self { log, run, _dir: dir }
    }

    fn append(&self, topic: &str, partition: u32, records: &[(Option<&[u8]>, &[u8])]) {
        let mut set = RecordSetBuilder::default();
        records.iter().for_each(|(key, value)| set.push(*key, value, 1_000));
        self.log.append(&TopicPartition::new(topic, PartitionId(partition)), &set).unwrap().wait().unwrap();
    }

    /// `entries`: (key, impressions, clicks).
    fn partial(&self, partition: u32, version: (u64, u64), window: (i64, i64, &str), entries: &[(&str, i64, i64)]) {
        let owner = Owner { run: self.run, partition: PartitionId(partition), generation: Generation(0) };
        let (size_ms, start_ms, dimension) = window;
        let mut key = partial::key_prefix(&owner).into_bytes();
        partial::put_guest_key(&mut key, size_ms, start_ms, dimension);
        let mut value = Vec::new();
        partial::put_stamps(&mut value, &Version { epoch: Epoch(version.0), as_of: Offset(version.1) });
        partial::put_guest_head(&mut value, entries.iter().any(|e| e.0 == OVERFLOW_KEY), entries.len());
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
        let stamp = Stamp { run: self.run, partition: PartitionId(partition), epoch: Epoch(epoch) };
        let output = Output { stamp, body };
        self.append(CTR_WINDOWS, 0, &[(Some(output.key().as_bytes()), &output.encode())]);
    }

    fn commit(&self, partition: u32, epoch: u64, as_of: u64, closed_before_ms: i64) {
        let mut ledger = Ledger { counted: as_of.saturating_sub(1), ..Ledger::default() };
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
                oldest_append_ms: None,
            }),
        );
    }

    fn produce(&self, partition: u32, records: usize) {
        self.append(AD_EVENTS_RAW, partition, &vec![(None, &b"{}"[..]); records]);
    }

    fn rows(&self, query: &WindowQuery) -> Vec<WindowRow> {
        windows(&self.log, query).unwrap().into_rows().map(Result::unwrap).collect()
    }
}

fn minutes(dimension: &str) -> WindowQuery {
    WindowQuery { size_ms: MINUTE, dimension: Some(dimension.to_owned()), ..WindowQuery::default() }
}
