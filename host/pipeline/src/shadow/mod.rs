//! A candidate beside the live chain: it judges the same records, and what it makes of them is thrown away.
//!
//! A thread of its own reads the topic by itself, so nothing of it is in the way of a worker; it runs at the lowest
//! priority and for a part of the time only, and where it falls behind it leaves records out and says how many. Instances
//! are its own, on an engine that meters. A shadow lives as long as its host.

mod condition;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clickmill_broker::{Broker, TopicPartition};
use clickmill_engine::BatchSource;
use clickmill_schemas::{DeploymentId, ModuleDigest, Offset, PartitionId};
use serde::{Deserialize, Serialize};

use crate::chains::ChainError;
use crate::deployment::canary::{tried, value_at};
use crate::deployment::change::{self, ChangeError};
use crate::deployment::control::{Candidate, Options};
use crate::deployment::registry::Registry;
use crate::deployment::{digest, newest_everywhere};
use crate::input::{Input, InputError};
use crate::judge::{Failure, Judge, JudgeError, Matrix, Verdict};
use crate::quiet::{lower_priority, quietly};
use crate::topics::AD_EVENTS_RAW;

pub use condition::Condition;

/// Records that it may be behind the end of a partition before it leaves some out.
const MOST_BEHIND: u64 = 50_000;
/// Records that the candidate may fail on before it is asked no more: finding each costs many calls.
const MOST_FAILURES: usize = 100;
/// Bytes of batches asked for at once.
const FETCH_BYTES: usize = 256 << 10;
/// The part of a core's time that it takes at most.
const DUTY: f64 = 0.15;
/// Records that are judged at once, at most; fewer where they take longer than this.
const MOST_AT_ONCE: u64 = 4_096;
const LONG: Duration = Duration::from_millis(50);
/// Longest wait for records of one partition.
const WAIT: Duration = Duration::from_millis(20);

/// What a shadow has seen so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub stage: String,
    pub name: String,
    pub version: String,
    pub sha256: ModuleDigest,
    /// The deployment that it is compared with.
    pub against: DeploymentId,
    /// Wall clock when it began.
    pub since_ms: i64,
    /// The offset of each partition at which it began.
    pub from: BTreeMap<PartitionId, Offset>,
    #[serde(flatten)]
    pub verdicts: Matrix,
    /// Records that it left out, being too slow for them.
    pub skipped: u64,
    /// Records seen of those that have come: 1 where it is up to date and none was left out.
    pub share_seen: f64,
    /// Records on which the candidate failed and the live chain did not.
    pub failures: u64,
    pub fuel_per_record_old: u64,
    pub fuel_per_record_new: u64,
    /// Time of its thread for a record, nanoseconds, fuel counting included.
    pub nanos_per_record_old: u64,
    pub nanos_per_record_new: u64,
    /// Why it has ended by itself.
    pub ended: Option<String>,
}

/// Why there is no shadow.
#[derive(Debug, thiserror::Error)]
pub enum ShadowError {
    #[error("a shadow of stage {stage} is running already: stop it first (`clickmill shadow stop`)")]
    Running { stage: String },
    #[error("no shadow is running: start one with `clickmill shadow start FILE.wasm --stage STAGE`")]
    None,
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error("the candidate is refused: {0}")]
    Refused(#[from] ChainError),
    #[error("the candidate cannot judge: {0}")]
    Judge(#[from] JudgeError),
    #[error("cannot start its thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// The one shadow that may run.
#[derive(Default)]
pub(crate) struct Shadows(Mutex<Option<Running>>);

struct Running {
    candidate: Candidate,
    options: Options,
    report: Arc<Mutex<Report>>,
    stop: Arc<AtomicBool>,
    broker: Arc<dyn Broker>,
}

/// What the thread needs.
struct Follower {
    registry: Arc<Registry>,
    broker: Arc<dyn Broker>,
    candidate: Candidate,
    report: Arc<Mutex<Report>>,
    stop: Arc<AtomicBool>,
    next: BTreeMap<PartitionId, Offset>,
    totals: Totals,
    /// Records that are judged at once.
    at_once: u64,
}

#[derive(Default)]
struct Totals {
    old: Cost,
    new: Cost,
}

/// What judging has cost.
#[derive(Default)]
struct Cost {
    fuel: u64,
    time: Duration,
}

/// Both chains of a comparison.
struct Pair {
    against: DeploymentId,
    old: Judge,
    new: Judge,
}

impl Shadows {
    /// Starts a candidate, from the ends that the partitions have now.
    pub(crate) fn start(
        &self,
        registry: &Arc<Registry>,
        broker: &Arc<dyn Broker>,
        (candidate, options): (Candidate, Options),
        ends: BTreeMap<PartitionId, Offset>,
        now_ms: i64,
    ) -> Result<Report, ShadowError> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = running.as_ref() {
            return Err(ShadowError::Running { stage: running.candidate.stage.clone() });
        }
        let stop = Arc::new(AtomicBool::new(false));
        let pair = quietly(|| pair(registry, &candidate, &stop))?;
        let report = Report {
            stage: candidate.stage.clone(),
            name: candidate.name.clone(),
            version: candidate.version.clone(),
            sha256: digest(&candidate.wasm),
            against: pair.against,
            since_ms: now_ms,
            from: ends.clone(),
            verdicts: Matrix::default(),
            skipped: 0,
            share_seen: 1.0,
            failures: 0,
            fuel_per_record_old: 0,
            fuel_per_record_new: 0,
            nanos_per_record_old: 0,
            nanos_per_record_new: 0,
            ended: None,
        };
        let shared = Arc::new(Mutex::new(report.clone()));
        let follower = Follower {
            registry: registry.clone(),
            broker: broker.clone(),
            candidate: candidate.clone(),
            report: shared.clone(),
            stop: stop.clone(),
            next: ends,
            totals: Totals::default(),
            // One first: of a candidate that never ends each takes seconds.
            at_once: 1,
        };
        std::thread::Builder::new().name("shadow".to_owned()).spawn(move || follower.run(pair))?;
        *running = Some(Running { candidate, options, report: shared, stop, broker: broker.clone() });
        Ok(report)
    }

    pub(crate) fn report(&self) -> Result<Report, ShadowError> {
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.as_ref().map(Running::report).ok_or(ShadowError::None)
    }

    /// Ends it; its last report, and what it was.
    pub(crate) fn stop(&self) -> Result<(Report, Candidate, Options), ShadowError> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(running) = running.take() else {
            return Err(ShadowError::None);
        };
        // The thread ends by itself, when what it judges just now is done.
        running.stop.store(true, Ordering::Relaxed);
        Ok((running.report(), running.candidate, running.options))
    }

    /// What it is, to be promoted.
    pub(crate) fn candidate(&self) -> Result<(Report, Candidate, Options), ShadowError> {
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let running = running.as_ref().ok_or(ShadowError::None)?;
        Ok((running.report(), running.candidate.clone(), running.options.clone()))
    }
}

impl Drop for Shadows {
    fn drop(&mut self) {
        // Without a wait: the thread ends by itself, and holds nothing that must be closed.
        if let Some(running) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            running.stop.store(true, Ordering::Relaxed);
        }
    }
}

impl Running {
    fn report(&self) -> Report {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let end = |partition| self.broker.ends(&TopicPartition::new(AD_EVENTS_RAW, partition)).map(|ends| ends.end.0);
        let came = report.from.iter().map(|(partition, from)| end(*partition).unwrap_or(from.0).saturating_sub(from.0));
        let came: u64 = came.sum();
        report.share_seen = if came == 0 { 1.0 } else { report.verdicts.records as f64 / came as f64 };
        report
    }
}

/// The chain in force, and the same with the candidate in it.
fn pair(registry: &Registry, candidate: &Candidate, stop: &Arc<AtomicBool>) -> Result<Pair, ShadowError> {
    let history = registry.history();
    let newest = newest_everywhere(&history);
    let (against, old) = newest.map(|(id, d)| (id, d.stages.clone())).unwrap_or_default();
    let new = change::put(&old, candidate.as_stage(), &candidate.place)?;
    let metering = registry.chains.metering(Some(&candidate.wasm))?;
    let (old_tried, new_tried) = (tried(&old, &metering, &new)?, tried(&new, &metering, &old)?);
    let judge = |chain, most_failures| {
        let stop = stop.clone();
        Judge::new(chain, most_failures).until(move || stop.load(Ordering::Relaxed))
    };
    Ok(Pair {
        against,
        old: judge(metering.chain(old_tried)?, usize::MAX),
        new: judge(metering.chain(new_tried)?, MOST_FAILURES),
    })
}

impl Follower {
    fn run(mut self, mut pair: Pair) {
        lower_priority();
        while !self.stop.load(Ordering::Relaxed) {
            if let Err(why) = self.round(&mut pair) {
                let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
                report.ended = Some(why.to_string());
                return;
            }
        }
    }

    /// Some records of each partition.
    fn round(&mut self, pair: &mut Pair) -> Result<(), ShadowError> {
        if self.registry.chains.newest() != Some(pair.against) {
            *pair = quietly(|| self::pair(&self.registry, &self.candidate, &self.stop))?;
            self.report.lock().unwrap_or_else(PoisonError::into_inner).against = pair.against;
        }
        for (partition, from) in self.next.clone() {
            let next = self.partition(partition, from, pair)?;
            self.next.insert(partition, next);
        }
        Ok(())
    }

    fn partition(&mut self, partition: PartitionId, from: Offset, pair: &mut Pair) -> Result<Offset, ShadowError> {
        let at = TopicPartition::new(AD_EVENTS_RAW, partition);
        let ends = self.broker.ends(&at).map_err(|e| JudgeError::from(InputError::from(e)))?;
        let (mut next, mut skipped) = (from.max(ends.start), from.0.abs_diff(from.max(ends.start).0));
        if ends.end.0 - next.0 > MOST_BEHIND {
            let ahead = Offset(ends.end.0 - MOST_BEHIND / 2);
            skipped += ahead.0 - next.0;
            next = ahead;
        }
        let batches =
            self.broker.fetch(&at, next, FETCH_BYTES, WAIT).map_err(|e| JudgeError::from(InputError::from(e)))?;
        for batch in &batches {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            if next >= batch.next_offset() {
                continue;
            }
            if pair.new.has_given_up() {
                let why = format!("the candidate failed on {MOST_FAILURES} records and is asked no more");
                self.report.lock().unwrap_or_else(PoisonError::into_inner).ended.get_or_insert(why);
                skipped += batch.next_offset().0 - next.0;
                next = batch.next_offset();
            }
            while next < batch.next_offset() && !pair.new.has_given_up() && !self.stop.load(Ordering::Relaxed) {
                let input = Input::new(batch, next, Some(next.plus(self.at_once))).map_err(JudgeError::from)?;
                self.compare(&input, pair)?;
                next = input.to();
            }
        }
        if skipped > 0 {
            let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
            report.skipped += skipped;
        }
        Ok(next)
    }

    fn compare(&mut self, input: &Input<'_>, pair: &mut Pair) -> Result<(), ShadowError> {
        let begun = Instant::now();
        let was = judged(&mut pair.old, input, &mut self.totals.old)?;
        let is = judged(&mut pair.new, input, &mut self.totals.new)?;
        drop(pair.old.take_failures());
        let took = begun.elapsed();
        self.tell(input, &was, &is, &pair.new.take_failures());
        self.rest(took);
        Ok(())
    }

    /// Takes the verdicts on these records into the report.
    fn tell(&self, input: &Input<'_>, was: &[(Offset, Verdict)], is: &[(Offset, Verdict)], failures: &[Failure]) {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        let partition = input.batch.at.partition;
        for failure in failures {
            let old = was.iter().find(|(offset, _)| *offset == failure.offset).map(|(_, verdict)| verdict);
            report.failures += u64::from(!matches!(old, Some(Verdict::Failed { .. })));
        }
        for ((offset, old), (_, new)) in was.iter().zip(is) {
            let value = || value_at(input, offset.0 - input.base_offset().0).unwrap_or_default();
            report.verdicts.add(partition, *offset, (old, new), value);
        }
        report.verdicts.sort();
        let records = report.verdicts.records;
        let a_record = |sum: u64| sum.checked_div(records).unwrap_or_default();
        let nanos = |time: Duration| a_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        report.fuel_per_record_old = a_record(self.totals.old.fuel);
        report.fuel_per_record_new = a_record(self.totals.new.fuel);
        report.nanos_per_record_old = nanos(self.totals.old.time);
        report.nanos_per_record_new = nanos(self.totals.new.time);
    }

    /// Sleeps for the rest of its share of the time, and takes more or fewer records at once, by how long these took.
    fn rest(&mut self, took: Duration) {
        self.at_once = match took {
            long if long > LONG => (self.at_once / 2).max(1),
            short if short < LONG / 4 => (self.at_once * 2).min(MOST_AT_ONCE),
            _ => self.at_once,
        };
        let until = Instant::now() + took.mul_f64(1.0 / DUTY - 1.0);
        while Instant::now() < until && !self.stop.load(Ordering::Relaxed) {
            std::thread::sleep(WAIT.min(until.saturating_duration_since(Instant::now())));
        }
    }
}

fn judged(judge: &mut Judge, input: &Input<'_>, cost: &mut Cost) -> Result<Vec<(Offset, Verdict)>, JudgeError> {
    let (begun, fuel) = (Instant::now(), judge.fuel());
    let verdicts = judge.judge(input)?;
    cost.time += begun.elapsed();
    cost.fuel += judge.fuel().saturating_sub(fuel);
    Ok(verdicts)
}
