//! What a record costs each stage in fuel: told by the newest records, apart from the stream, while somebody asks.
//!
//! The workers' engine does not meter. A thread of low priority runs a few records through a chain of its own that does, as a
//! shadow's is; it sleeps where nobody has scraped since its last sample, so a host that is not watched pays nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use clickmill_broker::Broker;
use clickmill_engine::{BatchOutcome, BatchSource, ProcessError, Verdicts};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Opts, Registry};

use crate::chains::ChainError;
use crate::deployment::newest_everywhere;
use crate::deployment::registry;
use crate::host::StartError;
use crate::judge::{JudgeError, newest_records};
use crate::metrics::StageMetrics;
use crate::quiet::{Pace, lower_priority, quietly};

/// Newest records that are asked about, over all partitions.
const RECORDS: u64 = 1_000;
/// Longest time for them.
const WITHIN: Duration = Duration::from_secs(1);
/// Between two samples, at least.
const PERIOD: Duration = Duration::from_secs(30);
/// The same where there was no record yet.
const SOON: Duration = Duration::from_secs(1);

/// Fuel for a record in the mean, by stage.
type Sample = BTreeMap<String, f64>;

/// Samples until it is dropped.
pub(crate) struct FuelSampler(Arc<Board>);

/// What the thread and the collector share.
#[derive(Default)]
struct Board {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    asked: bool,
    stopped: bool,
    sample: Sample,
}

impl Board {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until somebody has asked since the last sample; `false` when it is over.
    fn until_asked(&self) -> bool {
        let waiting = self.changed.wait_while(self.state(), |state| !state.asked && !state.stopped);
        let mut state = waiting.unwrap_or_else(PoisonError::into_inner);
        state.asked = false;
        !state.stopped
    }

    fn rest(&self, time: Duration) {
        // Woken early or not: the one who waits next looks at the state itself.
        drop(self.changed.wait_timeout_while(self.state(), time, |state| !state.stopped));
    }
}

impl FuelSampler {
    /// Starts the thread, and registers the metric.
    pub(crate) fn start(
        metrics: &Registry,
        stages: StageMetrics,
        registry: &Arc<registry::Registry>,
        broker: &Arc<dyn Broker>,
    ) -> Result<Self, StartError> {
        let board = Arc::new(Board::default());
        let opts =
            Opts::new("clickmill_stage_fuel_per_record", "Fuel that a stage takes for a record, of the newest ones");
        let gauge = GaugeVec::new(opts, &["stage"])?;
        metrics.register(Box::new(FuelGauge { board: board.clone(), gauge }))?;
        // It keeps nothing open: who stops the pipeline may open its folder again at once.
        let (shared, registry, broker) = (board.clone(), Arc::downgrade(registry), Arc::downgrade(broker));
        let work = move || {
            lower_priority();
            while shared.until_asked() {
                let Some((registry, broker)) = Weak::upgrade(&registry).zip(broker.upgrade()) else { return };
                let sampled = sample(&registry, &*broker);
                drop((registry, broker));
                let sampled = sampled.inspect_err(|error| tracing::debug!(%error, "no sample of fuel")).ok();
                let rest = if sampled.as_ref().is_some_and(Sample::is_empty) { SOON } else { PERIOD };
                let by_label = |(stage, fuel): (String, f64)| (stages.names.label(&stage).into_owned(), fuel);
                shared.state().sample = sampled.unwrap_or_default().into_iter().map(by_label).collect();
                shared.rest(rest);
            }
        };
        std::thread::Builder::new().name("fuel".to_owned()).spawn(work).map_err(StartError::Thread)?;
        Ok(Self(board))
    }
}

impl Drop for FuelSampler {
    fn drop(&mut self) {
        // Without a wait: the thread ends by itself, and holds nothing that must be closed.
        self.0.state().stopped = true;
        self.0.changed.notify_all();
    }
}

/// Why there is no sample.
#[derive(Debug, thiserror::Error)]
enum SampleError {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Judge(#[from] JudgeError),
}

/// Of the chain that is in force, from an empty state on; empty where there are no records. What comes behind a record that
/// a module fails on is left out.
fn sample(registry: &registry::Registry, broker: &dyn Broker) -> Result<Sample, SampleError> {
    let history = registry.history();
    let stages = newest_everywhere(&history).map(|(_, deployment)| deployment.stages.clone()).unwrap_or_default();
    let mut chain = quietly(|| registry.chains.metering(None)?.chain(&stages))?;
    let (mut fuel, mut records) = (vec![0_u64; stages.len()], vec![0_u64; stages.len()]);
    let (verdicts, mut out, mut pace) = (Verdicts::default(), BatchOutcome::default(), Pace::new());
    newest_records(broker, registry.partitions(), RECORDS, WITHIN, |input| {
        let before: Vec<u64> = chain.fuel().map(|(_, fuel)| fuel).collect();
        match chain.process(input, &verdicts, &mut out) {
            Ok(()) => {}
            Err(ProcessError::Fault(_)) => return Ok(false),
            Err(ProcessError::Source(e)) => return Err(JudgeError::Source(e.to_string())),
        }
        for (at, (usage, (_, after))) in chain.usage().zip(chain.fuel()).enumerate() {
            records[at] += usage.records;
            fuel[at] += after.saturating_sub(before.get(at).copied().unwrap_or(after));
        }
        debug_assert!(out.records == u64::from(input.count()));
        pace.rest();
        Ok(true)
    })?;
    let a_record = |(stage, (fuel, records)): (&str, (u64, u64))| {
        (records > 0).then(|| (stage.to_owned(), fuel as f64 / records as f64))
    };
    Ok(chain.stages().zip(fuel.into_iter().zip(records)).filter_map(a_record).collect())
}

/// The collector: whoever reads it asks for the next sample.
struct FuelGauge {
    board: Arc<Board>,
    gauge: GaugeVec,
}

impl Collector for FuelGauge {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut state = self.board.state();
        state.asked = true;
        self.board.changed.notify_all();
        // A stage that is no more has no sample.
        self.gauge.reset();
        state.sample.iter().for_each(|(stage, fuel)| self.gauge.with_label_values(&[stage]).set(*fuel));
        self.gauge.collect()
    }
}
