//! What workers count for Prometheus. Labels are partitions, rules and stages: all bounded.

use std::time::Duration;

use clickmill_schemas::PartitionId;
use prometheus::{CounterVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

/// Metrics of the workers.
#[derive(Clone)]
pub struct Metrics {
    events: IntCounterVec,
    rejected: IntCounterVec,
    faults: IntCounterVec,
    commits: HistogramVec,
    checkpoint_bytes: IntGaugeVec,
    checkpoints: CounterVec,
    swaps: HistogramVec,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// Where the registry has one of the names already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = |name: &str, help: &str| Opts::new(format!("clickmill_{name}"), help);
        let buckets = vec![0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];
        let duration = HistogramOpts::from(opts("commit_duration_seconds", "Time of a commit, checkpoint included."));
        let swap =
            HistogramOpts::from(opts("swap_pause_seconds", "Time that records waited while the chain was changed."));
        let swap_buckets = vec![0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.5];
        let metrics = Self {
            swaps: HistogramVec::new(swap.buckets(swap_buckets), &["partition"])?,
            events: IntCounterVec::new(
                opts(
                    "events_processed_total",
                    "Records that went through the chain in this process, replays included.",
                ),
                &["partition"],
            )?,
            rejected: IntCounterVec::new(
                opts("events_rejected_total", "Records rejected in this process, by rule, replays included."),
                &["partition", "rule"],
            )?,
            faults: IntCounterVec::new(
                opts("smartmodule_faults_total", "Calls in which a module failed."),
                &["partition", "stage"],
            )?,
            commits: HistogramVec::new(duration.buckets(buckets), &["partition"])?,
            checkpoint_bytes: IntGaugeVec::new(
                opts("checkpoint_bytes", "Size of the newest checkpoint."),
                &["partition"],
            )?,
            checkpoints: CounterVec::new(
                opts("checkpoints_total", "Checkpoints written by this process."),
                &["partition"],
            )?,
        };
        registry.register(Box::new(metrics.swaps.clone()))?;
        registry.register(Box::new(metrics.events.clone()))?;
        registry.register(Box::new(metrics.rejected.clone()))?;
        registry.register(Box::new(metrics.faults.clone()))?;
        registry.register(Box::new(metrics.commits.clone()))?;
        registry.register(Box::new(metrics.checkpoint_bytes.clone()))?;
        registry.register(Box::new(metrics.checkpoints.clone()))?;
        Ok(metrics)
    }

    pub(crate) fn processed(&self, partition: PartitionId, records: u64) {
        self.events.with_label_values(&[&partition.to_string()]).inc_by(records);
    }

    pub(crate) fn rejected(&self, partition: PartitionId, rule: &str) {
        self.rejected.with_label_values(&[partition.to_string().as_str(), rule]).inc();
    }

    pub(crate) fn faulted(&self, partition: PartitionId, stage: &str) {
        self.faults.with_label_values(&[partition.to_string().as_str(), stage]).inc();
    }

    pub(crate) fn committed(&self, partition: PartitionId, took: Duration, bytes: usize) {
        let label = partition.to_string();
        let labels = [label.as_str()];
        self.commits.with_label_values(&labels).observe(took.as_secs_f64());
        self.checkpoint_bytes.with_label_values(&labels).set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.checkpoints.with_label_values(&labels).inc();
    }

    pub(crate) fn swapped(&self, partition: PartitionId, pause: Duration) {
        self.swaps.with_label_values(&[&partition.to_string()]).observe(pause.as_secs_f64());
    }
}
