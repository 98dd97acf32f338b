//! What workers count for Prometheus. What labels may be is bounded: partitions, and what [`names`] lets through.
//!
//! [`stages`] is of the stages, [`open_windows`] of the windows, [`crate::fuel`] of fuel. `docs/METRICS.md` has the table of all.

pub mod names;
mod open_windows;
mod stages;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use clickmill_schemas::PartitionId;
use prometheus::{CounterVec, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

use names::{MOST_RULES, Names};
pub(crate) use open_windows::Window;
use open_windows::{OpenWindows, OpenWindowsGauge};
pub(crate) use stages::{StageMeters, StageMetrics};

/// Seconds that a commit, a checkpoint or a change of the chain takes.
const COMMIT_BUCKETS: [f64; 11] = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];
const SWAP_BUCKETS: [f64; 8] = [0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.5];
/// Seconds from the append of a record to where its effect is seen. The commit interval is 1 s by default, and 5 s is what
/// somebody is called for.
const LATENCY_BUCKETS: [f64; 13] = [0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 600.0];

/// Metrics of the workers.
#[derive(Clone)]
pub struct Metrics {
    events: IntCounterVec,
    rejected: IntCounterVec,
    rules: Arc<Names>,
    commits: HistogramVec,
    latency: HistogramVec,
    checkpoint_bytes: IntGaugeVec,
    checkpoint_at: GaugeVec,
    checkpoint_duration: HistogramVec,
    checkpoints: CounterVec,
    swaps: HistogramVec,
    windows: OpenWindows,
    pub(crate) stages: StageMetrics,
}

/// A commit that is durable, its checkpoint too.
pub(crate) struct Committed {
    /// From its beginning on.
    pub took: Duration,
    /// Age of its oldest new record when its windows could be seen; none where it has no new record.
    pub latency: Option<Duration>,
    pub checkpoint_took: Duration,
    pub checkpoint_bytes: usize,
    pub checkpoint_at_ms: i64,
    /// Windows that it has written, and the end of those that change no more.
    pub written: BTreeSet<Window>,
    pub closed_before_ms: Option<i64>,
}

fn described(name: &str, help: &str) -> Opts {
    Opts::new(format!("clickmill_{name}"), help)
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

/// A histogram by partition.
fn histogram(name: &str, help: &str, buckets: &[f64]) -> Result<HistogramVec, prometheus::Error> {
    HistogramVec::new(HistogramOpts::from(described(name, help)).buckets(buckets.to_vec()), &["partition"])
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// Where the registry has one of the names already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            swaps: histogram(
                "swap_pause_seconds",
                "Time that records waited while the chain was changed.",
                &SWAP_BUCKETS,
            )?,
            events: IntCounterVec::new(
                described(
                    "events_processed_total",
                    "Records that went through the chain in this process, replays included.",
                ),
                &["partition"],
            )?,
            rejected: IntCounterVec::new(
                described("events_rejected_total", "Records rejected in this process, by rule, replays included."),
                &["partition", "rule"],
            )?,
            rules: Arc::new(Names::new(MOST_RULES)),
            commits: histogram("commit_duration_seconds", "Time of a commit, checkpoint included.", &COMMIT_BUCKETS)?,
            latency: histogram(
                "window_latency_seconds",
                "From the append of a commit's oldest record until the commit's windows are durable and can be read",
                &LATENCY_BUCKETS,
            )?,
            checkpoint_bytes: IntGaugeVec::new(
                described("checkpoint_bytes", "Size of the newest checkpoint."),
                &["partition"],
            )?,
            checkpoint_at: GaugeVec::new(
                described("checkpoint_timestamp_seconds", "Wall clock of the newest checkpoint"),
                &["partition"],
            )?,
            checkpoint_duration: histogram(
                "checkpoint_duration_seconds",
                "Time to write a checkpoint, the commit's outputs left out",
                &COMMIT_BUCKETS,
            )?,
            checkpoints: CounterVec::new(
                described("checkpoints_total", "Checkpoints written by this process."),
                &["partition"],
            )?,
            windows: OpenWindows::default(),
            stages: StageMetrics::register(registry)?,
        };
        registry.register(Box::new(metrics.swaps.clone()))?;
        registry.register(Box::new(metrics.events.clone()))?;
        registry.register(Box::new(metrics.rejected.clone()))?;
        registry.register(Box::new(metrics.commits.clone()))?;
        registry.register(Box::new(metrics.latency.clone()))?;
        registry.register(Box::new(metrics.checkpoint_bytes.clone()))?;
        registry.register(Box::new(metrics.checkpoint_at.clone()))?;
        registry.register(Box::new(metrics.checkpoint_duration.clone()))?;
        registry.register(Box::new(metrics.checkpoints.clone()))?;
        registry.register(Box::new(OpenWindowsGauge::new(metrics.windows.clone())?))?;
        Ok(metrics)
    }

    /// What a worker of this partition tells of its stages.
    pub(crate) fn stage_meters(&self, partition: PartitionId) -> StageMeters {
        StageMeters::new(self.stages.clone(), partition)
    }

    /// A worker begins, from a checkpoint of this time if there is one.
    pub(crate) fn recovered(&self, partition: PartitionId, checkpoint_at_ms: Option<i64>) {
        self.windows.forget(partition);
        let label = partition.to_string();
        if let Some(at_ms) = checkpoint_at_ms {
            self.checkpoint_at.with_label_values(&[&label]).set(at_ms as f64 / 1_000.0);
        }
        self.swaps.with_label_values(&[&label]);
    }

    pub(crate) fn processed(&self, partition: PartitionId, records: u64) {
        self.events.with_label_values(&[&partition.to_string()]).inc_by(records);
    }

    pub(crate) fn rejected(&self, partition: PartitionId, rule: &str) {
        self.rejected.with_label_values(&[partition.to_string().as_str(), &self.rules.label(rule)]).inc();
    }

    pub(crate) fn faulted(&self, partition: PartitionId, stage: &str) {
        self.stages.faulted(partition, stage);
    }

    /// A stage fails on every record.
    pub(crate) fn tripped(&self, stage: &str) {
        self.stages.tripped(stage);
    }

    pub(crate) fn committed(&self, partition: PartitionId, commit: Committed) {
        let label = partition.to_string();
        let labels = [label.as_str()];
        self.commits.with_label_values(&labels).observe(seconds(commit.took));
        if let Some(latency) = commit.latency {
            self.latency.with_label_values(&labels).observe(seconds(latency));
        }
        self.checkpoint_duration.with_label_values(&labels).observe(seconds(commit.checkpoint_took));
        let bytes = i64::try_from(commit.checkpoint_bytes).unwrap_or(i64::MAX);
        self.checkpoint_bytes.with_label_values(&labels).set(bytes);
        self.checkpoint_at.with_label_values(&labels).set(commit.checkpoint_at_ms as f64 / 1_000.0);
        self.checkpoints.with_label_values(&labels).inc();
        self.windows.committed(partition, commit.written, commit.closed_before_ms);
    }

    pub(crate) fn swapped(&self, partition: PartitionId, pause: Duration) {
        self.swaps.with_label_values(&[&partition.to_string()]).observe(seconds(pause));
    }
}
