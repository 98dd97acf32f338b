//! A log with `ctr_windows` in it, and sinks that run on it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clickmill_broker::{Broker, EmbeddedLog, LogOptions, TopicPartition, TopicSpec};
use clickmill_connectors::sink::Sink;
use clickmill_connectors::{
    Connector, Connectors, RunInfo, Runs, Servers, SinkHandle, SinkService, SinkSource, SinkState,
};
use clickmill_schemas::dead_letter::DeadLetter;
use clickmill_schemas::merge::{Fence, WindowRecord, WindowTable};
use clickmill_schemas::output::{Body, Commit, Ledger, Output, Stamp};
use clickmill_schemas::partial::{self, Metrics, Owner, Version};
use clickmill_schemas::record::{RecordSetBuilder, Records};
use clickmill_schemas::{Epoch, Generation, Offset, PartitionId, RunId};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub const MINUTE: i64 = 60_000;
/// 2014-10-21T00:00:00Z
pub const T0: i64 = 1_413_849_600_000;

/// Writes records as workers would.
pub struct Feed {
    pub source: SinkSource,
    set: RecordSetBuilder,
}

impl Feed {
    /// A new log, whose run has `partitions`.
    pub fn new(dir: &Path, partitions: u32) -> Self {
        let broker: Arc<dyn Broker> = Arc::new(EmbeddedLog::open(&dir.join("log"), LogOptions::default()).unwrap());
        let raw = broker.create_topic(&TopicSpec::new("ad_events_raw", partitions)).unwrap();
        broker.create_topic(&TopicSpec::new("ctr_windows", 1)).unwrap();
        broker.create_topic(&TopicSpec::new("ad_events_error", 1)).unwrap();
        broker.create_topic(&TopicSpec::new("ad_events_dlq", 1)).unwrap();
        let run = RunInfo::first(raw.id, "ad_events_raw".to_owned(), partitions);
        let same = run.clone();
        let runs: Runs = Arc::new(move || Ok(same.clone()));
        let windows = TopicPartition::new("ctr_windows", PartitionId(0));
        let errors = TopicPartition::new("ad_events_error", PartitionId(0));
        let letters = TopicPartition::new("ad_events_dlq", PartitionId(0));
        Self { source: SinkSource { broker, run, runs, windows, errors, letters }, set: RecordSetBuilder::default() }
    }

    pub fn run(&self) -> RunId {
        self.source.run.id
    }

    /// A partial of a window of `size` ms that begins `start` ms after 1970.
    pub fn partial(
        &mut self,
        by: (u32, u64, u64),
        size: i64,
        start: i64,
        dimension: &str,
        entries: &[(&str, [i64; 5])],
    ) {
        let (partition, epoch, as_of) = by;
        let owner = Owner { run: self.run(), partition: PartitionId(partition), generation: Generation(0) };
        let mut key = partial::key_prefix(&owner).into_bytes();
        partial::put_guest_key(&mut key, size, start, dimension);
        let mut value = Vec::new();
        partial::put_stamps(&mut value, &Version { epoch: Epoch(epoch), as_of: Offset(as_of) });
        partial::put_guest_head(&mut value, false, entries.len());
        for (key, [impressions, clicks, conversions, cost_micros, revenue_micros]) in entries {
            let m = Metrics {
                impressions: *impressions,
                clicks: *clicks,
                conversions: *conversions,
                cost_micros: *cost_micros,
                revenue_micros: *revenue_micros,
            };
            partial::put_entry(&mut value, key.as_bytes(), &m);
        }
        partial::put_end(&mut value);
        self.set.push(Some(&key), &value, 0);
    }

    pub fn output(&mut self, partition: u32, epoch: u64, body: Body) {
        let stamp = Stamp { run: self.run(), partition: PartitionId(partition), epoch: Epoch(epoch) };
        let output = Output { stamp, body };
        self.set.push(Some(output.key().as_bytes()), &output.encode(), 0);
    }

    pub fn commit(&mut self, (partition, epoch, as_of): (u32, u64, u64), closed_before_ms: Option<i64>) {
        let commit = Commit {
            generation: Generation(0),
            as_of_offset: Offset(as_of),
            watermark_ms: closed_before_ms.map(|ms| ms + MINUTE),
            closed_before_ms,
            ledger: Ledger { counted: as_of, ..Ledger::default() },
            committed_at_ms: T0,
            oldest_append_ms: None,
        };
        self.output(partition, epoch, Body::Commit(commit));
    }

    /// Appends what was pushed, as one batch; the end of the log.
    pub fn flush(&mut self) -> Offset {
        let at = &self.source.windows;
        if !self.set.is_empty() {
            self.source.broker.append(at, &self.set).unwrap().wait().unwrap();
            self.set.clear();
        }
        self.source.broker.ends(at).unwrap().end
    }

    /// The dead letters so far.
    pub fn letters(&self) -> Vec<DeadLetter> {
        let (broker, at) = (&self.source.broker, &self.source.errors);
        let (mut letters, mut from, end) = (Vec::new(), Offset(0), broker.ends(at).unwrap().end);
        while from < end {
            for batch in broker.fetch(at, from, 1 << 20, Duration::ZERO).unwrap() {
                from = batch.next_offset();
                let set = batch.records().unwrap();
                letters.extend(Records::new(&set).unwrap().map(|r| serde_json::from_slice(r.unwrap().value).unwrap()));
            }
        }
        letters
    }

    /// What a reader of the whole log has in the end.
    pub fn recount(&self) -> WindowTable {
        let (mut table, mut fence) = (WindowTable::default(), Fence::default());
        let mut from = Offset(0);
        let end = self.source.broker.ends(&self.source.windows).unwrap().end;
        while from < end {
            for batch in self.source.broker.fetch(&self.source.windows, from, 1 << 20, Duration::ZERO).unwrap() {
                from = batch.next_offset();
                for record in Records::new(&batch.records().unwrap()).unwrap() {
                    let record = record.unwrap();
                    let record = WindowRecord::decode(record.key, record.value).unwrap();
                    match (fence.admits(record.term()), record) {
                        (true, WindowRecord::Partial(partial)) => table.apply(partial),
                        _ => false,
                    };
                }
            }
        }
        table
    }
}

/// A sink at work.
pub struct Running {
    pub handle: SinkHandle,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    pub fn start<S: Sink>((service, handle): (SinkService<S>, SinkHandle)) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(service.run(async {
            let _ = stopped.await;
        }));
        Self { handle, stop, task }
    }

    /// Waits until everything below `end` is confirmed.
    pub async fn reach(&self, end: Offset) {
        self.wait(|h| h.confirmed() >= end).await;
    }

    pub async fn reach_state(&self, state: SinkState) {
        self.wait(|h| h.status().state == state).await;
    }

    pub async fn wait(&self, done: impl Fn(&SinkHandle) -> bool) {
        wait(&self.handle, done).await;
    }

    pub async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.unwrap();
    }

    /// Ends it wherever it is, as a kill of the process would.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// Waits for what a sink tells of itself.
pub async fn wait(handle: &SinkHandle, done: impl Fn(&SinkHandle) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done(handle) {
        assert!(Instant::now() < deadline, "waited in vain: {:?}", handle.status());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Connectors of a host, as it starts them.
pub async fn host(feed: &Feed, servers: &Servers, connectors: Vec<Connector>) -> Connectors {
    let host = Connectors::new(feed.source.clone(), servers.clone(), tokio::runtime::Handle::current());
    host.apply(|| Ok::<_, std::convert::Infallible>(connectors)).await.unwrap();
    host
}
