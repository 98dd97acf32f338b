//! The store against records as workers write them: what writes and reads them. The tests are in [`windows`] and [`marks`].

mod marks;
mod windows;

use clickmill_pipeline::deployment::{Cause, Deployment};
use clickmill_schemas::output::{Body, Commit, Decision, Ledger, Output, Stamp};
use clickmill_schemas::partial::{
    Metrics, Owner, Version, key_prefix, put_end, put_entry, put_guest_head, put_guest_key, put_stamps,
};
use clickmill_schemas::record::Record;
use clickmill_schemas::{DeploymentId, Epoch, Generation, Offset, PartitionId, RunId};

use crate::live::event::{Event, MarkKind, Window};
use crate::live::store::{LIMIT_BYTES, Now, Store};

const RUN: RunId = RunId([1; 16]);
const MINUTE: i64 = 60_000;
const FIVE: i64 = 5 * MINUTE;
/// 2100-01-01.
const FAR: i64 = 4_102_444_800_000;

/// A writer of records, and the store that reads them.
struct Bench {
    store: Store,
    run: RunId,
    partition: u32,
    epoch: u64,
    generation: u32,
    wall_ms: i64,
}

impl Bench {
    fn new(partitions: u32) -> Self {
        Self::within(partitions, LIMIT_BYTES)
    }

    fn within(partitions: u32, limit_bytes: usize) -> Self {
        let mut store = Store::new(RUN, partitions, limit_bytes);
        store.caught_up = true;
        Self { store, run: RUN, partition: 0, epoch: 1, generation: 0, wall_ms: 7_000 }
    }

    fn partial(&mut self, as_of: u64, (size, start): (i64, i64), dimension: &str, keys: &[(&str, i64)]) {
        let (partition, generation) = (PartitionId(self.partition), Generation(self.generation));
        let owner = Owner { run: self.run, partition, generation };
        let mut key = key_prefix(&owner).into_bytes();
        put_guest_key(&mut key, size, start, dimension);
        let mut value = Vec::new();
        put_stamps(&mut value, &Version { epoch: Epoch(self.epoch), as_of: Offset(as_of) });
        put_guest_head(&mut value, false, keys.len());
        for (key, impressions) in keys {
            let metrics = Metrics { impressions: *impressions, clicks: 1, ..Metrics::default() };
            put_entry(&mut value, key.as_bytes(), &metrics);
        }
        put_end(&mut value);
        let record = Record { offset_delta: 0, timestamp_delta_ms: 0, key: Some(&key), value: &value };
        self.store.take(self.wall_ms, &record).unwrap();
    }

    fn total(&mut self, as_of: u64, start: i64, impressions: i64) {
        self.partial(as_of, (MINUTE, start), "total", &[("", impressions)]);
    }

    fn output(&mut self, body: Body) {
        let stamp = Stamp { run: self.run, partition: PartitionId(self.partition), epoch: Epoch(self.epoch) };
        let value = Output { stamp, body }.encode();
        let record = Record { offset_delta: 0, timestamp_delta_ms: 0, key: None, value: &value };
        self.store.take(self.wall_ms, &record).unwrap();
    }

    fn commit(&mut self, as_of: u64, watermark_ms: i64) {
        self.output(Body::Commit(Commit {
            generation: Generation(0),
            as_of_offset: Offset(as_of),
            watermark_ms: Some(watermark_ms),
            closed_before_ms: Some(watermark_ms - MINUTE),
            ledger: Ledger { counted: as_of, ..Ledger::default() },
            committed_at_ms: self.wall_ms,
            oldest_append_ms: None,
        }));
    }

    fn decide(&mut self, offset: u64, decision: Decision) {
        self.output(Body::Decision { offset: Offset(offset), decision });
    }

    fn activate(&mut self, offset: u64, deployment: u64) {
        self.decide(offset, Decision::Activation { deployment: DeploymentId(deployment), generation: None });
    }

    fn late(&mut self, offset: u64, ts_ms: i64) {
        self.output(Body::Late { offset: Offset(offset), ts_ms, watermark_ms: 0 });
    }

    fn deploy(&mut self, id: u64, cause: Cause, message: &str) {
        let deployment = Deployment {
            stages: Vec::new(),
            message: message.into(),
            created_at_ms: 0,
            cause,
            partitions: None,
            reset_state: false,
            config: None,
        };
        self.store.deployments.add(DeploymentId(id), deployment);
    }

    fn snapshot(&self) -> Event<'_> {
        self.store.snapshot(Now { wall_ms: self.wall_ms, ends: &[0], caught_up: true })
    }

    fn minutes(&self) -> Vec<Window> {
        self.snapshot().windows.minutes
    }

    /// Start and impressions, in minutes.
    fn shown(&self) -> Vec<(i64, i64)> {
        self.minutes().iter().map(|w| (w.start_ms / MINUTE, w.impressions)).collect()
    }

    fn updated(&mut self) -> Vec<Window> {
        let now = Now { wall_ms: self.wall_ms, ends: &[0], caught_up: true };
        let windows = self.store.update(now).unwrap().windows.minutes;
        self.store.told();
        windows
    }

    /// Kind, text, place in event time in minutes.
    fn marks(&self) -> Vec<(MarkKind, String, i64)> {
        self.snapshot().marks.iter().map(|m| (m.kind, m.text.clone(), m.at_ms / MINUTE)).collect()
    }

    fn impressions(&self, size: i64, dimension: &str, from: i64, to: i64) -> Option<usize> {
        self.store.slices(size, dimension, from, to).map(|slices| slices.len())
    }
}
