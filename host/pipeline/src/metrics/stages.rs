//! What is counted of each stage. The engine tells what a batch has cost; here it gets its names.

use std::sync::Arc;

use clickmill_engine::{Chain, StageUsage};
use clickmill_schemas::{DeploymentId, PartitionId};
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::names::{MOST_STAGES, Names};
use super::{described, seconds};

/// Seconds; from a batch of one record to a call that takes its time limit.
const BUCKETS: [f64; 12] = [0.00005, 0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5];

/// Metrics with the label `stage`.
#[derive(Clone)]
pub(crate) struct StageMetrics {
    /// Also for others who have something to tell of a stage.
    pub(crate) names: Arc<Names>,
    duration: HistogramVec,
    records: IntCounterVec,
    memory: IntGaugeVec,
    faults: IntCounterVec,
    trips: IntCounterVec,
}

impl StageMetrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let duration = described("stage_duration_seconds", "Time of one batch in the calls of a stage");
        let metrics = Self {
            names: Arc::new(Names::new(MOST_STAGES)),
            duration: HistogramVec::new(HistogramOpts::from(duration).buckets(BUCKETS.to_vec()), &["stage"])?,
            records: IntCounterVec::new(
                described("stage_records_total", "Records that a stage was given in this process, replays included"),
                &["stage"],
            )?,
            memory: IntGaugeVec::new(
                described("stage_memory_bytes", "Linear memory of a stage's instance at the newest commit"),
                &["stage", "partition"],
            )?,
            faults: IntCounterVec::new(
                described("smartmodule_faults_total", "Calls in which a module failed."),
                &["partition", "stage"],
            )?,
            trips: IntCounterVec::new(
                described("breaker_trips_total", "Times that a stage was found to fail on every record"),
                &["stage"],
            )?,
        };
        registry.register(Box::new(metrics.duration.clone()))?;
        registry.register(Box::new(metrics.records.clone()))?;
        registry.register(Box::new(metrics.memory.clone()))?;
        registry.register(Box::new(metrics.faults.clone()))?;
        registry.register(Box::new(metrics.trips.clone()))?;
        Ok(metrics)
    }

    pub(super) fn faulted(&self, partition: PartitionId, stage: &str) {
        self.faults.with_label_values(&[partition.to_string().as_str(), &self.names.label(stage)]).inc();
    }

    pub(super) fn tripped(&self, stage: &str) {
        self.trips.with_label_values(&[&self.names.label(stage)]).inc();
    }

    fn meter(&self, partition: &str, stage: &str) -> Meter {
        let label = self.names.label(stage).into_owned();
        // They are there from the beginning: what appears with its first failure has no rate.
        self.faults.with_label_values(&[partition, &label]);
        self.trips.with_label_values(&[&label]);
        Meter {
            duration: self.duration.with_label_values(&[&label]),
            records: self.records.with_label_values(&[&label]),
            memory: self.memory.with_label_values(&[label.as_str(), partition]),
            label,
        }
    }
}

/// Those of the stages of one worker, found once a deployment and not once a batch.
pub(crate) struct StageMeters {
    metrics: StageMetrics,
    partition: String,
    of: Option<DeploymentId>,
    meters: Vec<Meter>,
}

struct Meter {
    label: String,
    duration: Histogram,
    records: IntCounter,
    memory: IntGauge,
}

impl StageMeters {
    pub(super) fn new(metrics: StageMetrics, partition: PartitionId) -> Self {
        Self { metrics, partition: partition.to_string(), of: None, meters: Vec::new() }
    }

    /// A batch has gone through the chain of this deployment.
    #[inline]
    pub(crate) fn batch(&mut self, deployment: DeploymentId, chain: &Chain) {
        self.follow(deployment, chain);
        for (meter, usage) in self.meters.iter().zip(chain.usage()) {
            if usage.records > 0 {
                meter.duration.observe(seconds(usage.time));
                meter.records.inc_by(usage.records);
            }
        }
    }

    /// The chain as a commit finds it.
    pub(crate) fn commit(&mut self, deployment: DeploymentId, chain: &Chain) {
        self.follow(deployment, chain);
        for (meter, StageUsage { memory_bytes, .. }) in self.meters.iter().zip(chain.usage()) {
            meter.memory.set(i64::try_from(memory_bytes).unwrap_or(i64::MAX));
        }
    }

    #[inline]
    fn follow(&mut self, deployment: DeploymentId, chain: &Chain) {
        if self.of != Some(deployment) {
            self.change(deployment, chain);
        }
    }

    #[cold]
    fn change(&mut self, deployment: DeploymentId, chain: &Chain) {
        for gone in &self.meters {
            // A stage that is no more takes no memory.
            let _ = self.metrics.memory.remove_label_values(&[gone.label.as_str(), &self.partition]);
        }
        self.meters = chain.stages().map(|stage| self.metrics.meter(&self.partition, stage)).collect();
        self.of = Some(deployment);
    }
}
