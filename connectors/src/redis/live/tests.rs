//! A model of the sink: whatever the batches and restarts, hashes are the sums of the log.

use std::collections::BTreeMap;

use clickmill_schemas::merge::WindowTable;
use clickmill_schemas::output::{Body, Commit, Ledger, Stamp};
use clickmill_schemas::partial::{self, Metrics, Owner, Version};
use clickmill_schemas::record::RecordSetBuilder;
use clickmill_schemas::{Epoch, Generation, PartitionId, RunId};
use proptest::prelude::*;

use super::*;
use crate::reader::Chunk;
use crate::windows::Terms;

const RUN: RunId = RunId([7; 16]);
const MINUTE: i64 = 60_000;
const PARTITIONS: u32 = 2;

/// A worker counts one event in a minute, or commits with everything before a minute closed.
#[derive(Clone, Debug)]
enum Step {
    Count {
        partition: u32,
        minute: i64,
        key: u8,
    },
    Close {
        partition: u32,
        minutes: i64,
    },
    /// The worker is replaced, and writes its open windows again.
    Restart {
        partition: u32,
    },
    /// The worker that was replaced has not noticed, and writes.
    Frozen {
        partition: u32,
        minute: i64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let partition = 0..PARTITIONS;
    let step = prop_oneof![
        6 => (partition.clone(), 0..12i64, 0..3u8)
            .prop_map(|(partition, minute, key)| Step::Count { partition, minute, key }),
        2 => (partition.clone(), 1..3i64).prop_map(|(partition, minutes)| Step::Close { partition, minutes }),
        1 => partition.clone().prop_map(|partition| Step::Restart { partition }),
        1 => (partition, 0..12i64).prop_map(|(partition, minute)| Step::Frozen { partition, minute }),
    ];
    prop::collection::vec(step, 1..60)
}

#[derive(Clone, Default)]
struct Worker {
    epoch: u64,
    as_of: u64,
    closed_before_ms: i64,
    counts: BTreeMap<i64, BTreeMap<String, Metrics>>,
}

/// A log of one record a chunk.
#[derive(Default)]
struct Log {
    chunks: Vec<Chunk>,
}

impl Log {
    fn push(&mut self, key: &[u8], value: &[u8]) {
        let mut set = RecordSetBuilder::default();
        set.push(Some(key), value, 0);
        let at = Offset(self.chunks.len() as u64);
        self.chunks.push(Chunk {
            from: at,
            base_offset: at,
            next_offset: at.plus(1),
            base_timestamp_ms: 0,
            set: set.bytes().to_vec(),
            failed: Vec::new(),
        });
    }

    fn partial(&mut self, partition: u32, version: (u64, u64), start: i64, counts: &BTreeMap<String, Metrics>) {
        let owner = Owner { run: RUN, partition: PartitionId(partition), generation: Generation(0) };
        let mut key = partial::key_prefix(&owner).into_bytes();
        partial::put_guest_key(&mut key, MINUTE, start, "site_category");
        let mut value = Vec::new();
        partial::put_stamps(&mut value, &Version { epoch: Epoch(version.0), as_of: Offset(version.1) });
        partial::put_guest_head(&mut value, false, counts.len());
        counts.iter().for_each(|(key, m)| partial::put_entry(&mut value, key.as_bytes(), m));
        partial::put_end(&mut value);
        self.push(&key, &value);
    }

    fn output(&mut self, partition: u32, epoch: u64, body: Body) {
        let stamp = Stamp { run: RUN, partition: PartitionId(partition), epoch: Epoch(epoch) };
        let output = Output { stamp, body };
        self.push(output.key().as_bytes(), &output.encode());
    }
}

/// Writes what the steps say.
fn log(steps: &[Step]) -> Vec<Chunk> {
    let mut workers = vec![Worker::default(); PARTITIONS as usize];
    let mut log = Log::default();
    for step in steps {
        match *step {
            Step::Count { partition, minute, key } => {
                let worker = &mut workers[partition as usize];
                let start = (minute * MINUTE).max(worker.closed_before_ms);
                worker.as_of += 1;
                let counts = worker.counts.entry(start).or_default();
                counts.entry(format!("k{key}")).or_default().impressions += 1;
                log.partial(partition, (worker.epoch, worker.as_of), start, counts);
            }
            Step::Close { partition, minutes } => {
                let worker = &mut workers[partition as usize];
                worker.closed_before_ms += minutes * MINUTE;
                let commit = Commit {
                    generation: Generation(0),
                    as_of_offset: Offset(worker.as_of),
                    watermark_ms: Some(worker.closed_before_ms),
                    closed_before_ms: Some(worker.closed_before_ms),
                    ledger: Ledger::default(),
                    committed_at_ms: 0,
                    oldest_append_ms: None,
                };
                log.output(partition, worker.epoch, Body::Commit(commit));
            }
            Step::Restart { partition } => {
                let worker = &mut workers[partition as usize];
                worker.epoch += 1;
                log.output(partition, worker.epoch, Body::Epoch);
                let open = worker.counts.keys().filter(|start| **start >= worker.closed_before_ms);
                // Some that are closed, too: the checkpoint that it began with may be old.
                for start in worker.counts.keys().rev().take(3).chain(open) {
                    log.partial(partition, (worker.epoch, worker.as_of), *start, &worker.counts[start]);
                }
            }
            Step::Frozen { partition, minute } => {
                let worker = &workers[partition as usize];
                let counts = [("k0".to_owned(), Metrics { impressions: 999, ..Metrics::default() })].into();
                if let Some(epoch) = worker.epoch.checked_sub(1) {
                    log.partial(partition, (epoch, worker.as_of + 100), minute * MINUTE, &counts);
                }
            }
        }
    }
    log.chunks
}

/// What every window adds up to over the whole log.
fn recount(chunks: &[Chunk]) -> BTreeMap<Span, Fields> {
    let mut terms = Terms::new(RUN, Epochs::new());
    let mut tables = BTreeMap::<Span, WindowTable>::new();
    for chunk in chunks {
        let mut written = Written::default();
        let batch = WindowBatch::read(std::slice::from_ref(chunk), &mut terms, &mut written);
        for ((owner, window), newest) in batch.partials {
            let span = Span { start_ms: window.start_ms, size_ms: window.size_ms };
            tables.entry(span).or_default().apply(Partial {
                owner,
                window,
                version: newest.version,
                lower_bound: newest.lower_bound,
                entries: take_entries(newest.entries).unwrap(),
            });
        }
    }
    tables.iter().map(|(span, table)| (*span, Fields::of(table))).collect()
}

/// Runs a sink over the log in batches, starting anew from what it wrote down after some of them.
fn run(chunks: &[Chunk], batches: &[(usize, bool, bool)], most_keys: usize) -> (BTreeMap<Span, Fields>, Written) {
    let (mut hashes, mut written) = (BTreeMap::new(), Written::default());
    let mut state: Option<(Offset, Offset, Memory)> = None;
    let mut sizes = batches.iter().cycle();
    'sessions: loop {
        let (applied, from, memory) = state.clone().unwrap_or_default();
        let mut terms = Terms::new(RUN, memory.epochs.clone());
        let mut live = LiveWindows::new(PARTITIONS, most_keys, memory);
        let mut at = from.0 as usize;
        while at < chunks.len() {
            let (size, behind, restart) = sizes.next().unwrap();
            let batch = &chunks[at..chunks.len().min(at + size)];
            at += batch.len();
            let batch = WindowBatch::read(batch, &mut terms, &mut written);
            live.take(&batch, &mut written);
            if batch.end <= applied {
                live.rebuilt(&mut written);
                continue;
            }
            if *behind && at < chunks.len() {
                continue;
            }
            let changes = live.changes(&mut written);
            for change in changes {
                match change {
                    Change::Write(span, fields, _) => hashes.insert(span, fields),
                    Change::Remove(span) => hashes.remove(&span),
                };
            }
            let rebuild_from = live.rebuild_from(batch.end);
            state = Some((batch.end, rebuild_from, live.memory(terms.as_of(rebuild_from).clone())));
            // Only where it moved on: else a session could restart for ever before it gets anywhere.
            if *restart {
                continue 'sessions;
            }
        }
        return (hashes, written);
    }
}

proptest! {
    #[test]
    fn hashes_are_the_sums_of_the_log_whatever_the_batches_and_restarts(
        steps in steps(),
        batches in prop::collection::vec((1usize..9, any::<bool>(), any::<bool>()), 1..9),
    ) {
        let chunks = log(&steps);
        let (hashes, written) = run(&chunks, &batches, 1_000);
        prop_assert_eq!(hashes, recount(&chunks));
        prop_assert_eq!(written.skipped, 0);
    }

    #[test]
    fn with_too_many_windows_some_are_missing_and_none_is_wrong(
        steps in steps(),
        batches in prop::collection::vec((1usize..9, any::<bool>(), any::<bool>()), 1..9),
    ) {
        let chunks = log(&steps);
        let all = recount(&chunks);
        let (hashes, _) = run(&chunks, &batches, 4);
        for (span, fields) in hashes {
            prop_assert_eq!(Some(&fields), all.get(&span), "{:?}", span);
        }
    }
}
