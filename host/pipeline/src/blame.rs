//! What became of a record, and what judged it: the written decisions read back, and the stages asked again.
//!
//! A rejection and a late event are taken from the topics that hold them; whether a stage dropped a record is found by
//! judging it again with the modules that were in force at its offset, which gives what it gave then. Nothing is written.

use std::collections::BTreeMap;

use clickmill_broker::{Broker, TopicPartition};
use clickmill_engine::BatchSource;
use clickmill_schemas::dead_letter::{DeadLetter, Origin, RetriedAt};
use clickmill_schemas::merge::{Fence, WindowRecord};
use clickmill_schemas::output::{Body, Decision, Output, RetryFate};
use clickmill_schemas::record::Records;
use clickmill_schemas::{DeploymentId, ModuleDigest, Offset, PartitionId, RunId};
use serde::{Deserialize, Serialize};

use crate::chains::{ChainError, Chains};
use crate::deployment::{Deployment, Stage};
use crate::input::{Input, InputError};
use crate::judge::{Judge, JudgeError, Verdict};
use crate::topics::{AD_EVENTS_ERROR, AD_EVENTS_RAW, CTR_WINDOWS};
use crate::views::ViewError;
use crate::views::modules::since;
use crate::views::scan::scan;
use crate::views::windows::{SIZES_MS, size_name};
use crate::worker::REPEATED;

/// Bytes of batches asked for at once.
const FETCH_BYTES: usize = 1 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum BlameError {
    #[error(transparent)]
    View(#[from] ViewError),
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Judge(#[from] JudgeError),
    #[error("there is no partition {partition} of {AD_EVENTS_RAW}; it has {partitions}")]
    NoPartition { partition: PartitionId, partitions: u32 },
    #[error("{AD_EVENTS_RAW}/{partition} has the offsets {start} up to {end}, and {asked} is not among them")]
    NoOffset { partition: PartitionId, asked: Offset, start: Offset, end: Offset },
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    Counted,
    Rejected,
    Late,
    Dropped,
    /// It has none yet.
    Waiting,
}

/// One record's story.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blame {
    pub topic: String,
    pub partition: PartitionId,
    pub offset: Offset,
    pub fate: Fate,
    /// The rule that rejected it, or why it was dropped.
    pub reason: Option<String>,
    /// The rule in words.
    pub message: Option<String>,
    /// The deployment in force at its offset.
    pub deployment: Option<DeploymentId>,
    /// The stages that it came to, first to last.
    pub stages: Vec<StageBlame>,
    /// Its event time, epoch milliseconds, where it can be read.
    pub ts_ms: Option<i64>,
    /// The watermark that it came after, of a late one.
    pub watermark_ms: Option<i64>,
    /// The windows that it was counted in.
    pub windows: Vec<WindowOf>,
}

/// A stage that judged a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageBlame {
    pub stage: String,
    pub name: String,
    pub version: String,
    pub sha256: ModuleDigest,
    /// The deployment that put the module there, and what was said of it.
    pub deployment: DeploymentId,
    pub message: String,
    pub params: BTreeMap<String, String>,
    /// The rule by which this stage rejected the record.
    pub rule: Option<String>,
}

/// A window that counts a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowOf {
    pub size: String,
    /// Epoch milliseconds, inclusive.
    pub start_ms: i64,
}

/// What is needed to tell.
pub(crate) struct Blamer<'a> {
    pub broker: &'a dyn Broker,
    pub chains: &'a Chains,
    pub history: &'a BTreeMap<DeploymentId, Deployment>,
    pub partition: PartitionId,
    /// Where each deployment began in this partition.
    pub activations: BTreeMap<Offset, DeploymentId>,
    pub run: RunId,
    /// Records at and behind it have no fate yet.
    pub processed: Offset,
}

/// What is known of some records before they are looked at: what the output topics say of them, and who judged.
#[derive(Default)]
struct Written {
    /// The stages of each deployment that was in force there.
    stages: BTreeMap<DeploymentId, Vec<StageBlame>>,
    letters: BTreeMap<Offset, DeadLetter>,
    /// Retries that were not rejected again: which of what, and what became of it.
    retried: BTreeMap<Offset, (u32, Origin, RetryFate)>,
    /// Event time and watermark.
    late: BTreeMap<Offset, (i64, i64)>,
    gaps: Vec<(Offset, Offset)>,
}

impl Blamer<'_> {
    /// Tells the stories of the records from `from` up to `to`, in order.
    pub(crate) fn stories(&self, from: Offset, to: Offset, tell: &mut dyn FnMut(Blame)) -> Result<(), BlameError> {
        let written = self.written(from, to)?;
        let at = TopicPartition::new(AD_EVENTS_RAW, self.partition);
        let mut next = from;
        let ends = self.broker.ends(&at).map_err(ViewError::from)?;
        while next < ends.start.min(to) {
            tell(self.gone(next, &written));
            next = next.plus(1);
        }
        let mut judge: Option<(DeploymentId, Option<Judge>)> = None;
        while next < to.min(ends.end) {
            let batches =
                self.broker.fetch(&at, next, FETCH_BYTES, std::time::Duration::ZERO).map_err(ViewError::from)?;
            if batches.is_empty() {
                break;
            }
            for batch in &batches {
                while next < batch.next_offset().min(to) {
                    let (deployment, until) = self.in_force(next);
                    let limit = until.map_or(to, |until| until.min(to));
                    let input = Input::new(batch, next, Some(limit)).map_err(JudgeError::from)?;
                    if judge.as_ref().is_none_or(|(of, _)| Some(*of) != deployment) {
                        judge = match deployment {
                            Some(id) => Some((id, self.judge(id)?)),
                            None => None,
                        };
                    }
                    let verdicts = match judge.as_mut().and_then(|(_, judge)| judge.as_mut()) {
                        Some(judge) => judge.judge(&input)?,
                        None => Vec::new(),
                    };
                    let mut set = vec![0; input.records_len()];
                    input.write_records(&mut set).map_err(|e| JudgeError::Source(e.to_string()))?;
                    let records = Records::new(&set).map_err(InputError::from).map_err(JudgeError::from)?;
                    for (record, index) in records.zip(0..) {
                        let record = record.map_err(InputError::from).map_err(JudgeError::from)?;
                        let verdict = verdicts.get(index).map_or(&Verdict::Passed, |(_, verdict)| verdict);
                        tell(self.story(next, deployment, verdict, &written, Some(record.value)));
                        next = next.plus(1);
                    }
                    next = input.to();
                }
            }
        }
        Ok(())
    }

    /// The deployment at an offset, and where the next one begins.
    fn in_force(&self, offset: Offset) -> (Option<DeploymentId>, Option<Offset>) {
        let now = self.activations.range(..=offset).next_back().map(|(_, id)| *id);
        let then = self.activations.range(offset.plus(1)..).next().map(|(at, _)| *at);
        (now, then)
    }

    /// The stages before the one that keeps windows; none where there are none.
    fn judge(&self, id: DeploymentId) -> Result<Option<Judge>, BlameError> {
        let stages = self.chains.deployment(id).map_err(ChainError::from)?.stages;
        let (live, mut asked) = (self.chains.live(None), 0);
        for stage in &stages {
            if live.keeps_windows(stage)? {
                break;
            }
            asked += 1;
        }
        if asked == 0 {
            return Ok(None);
        }
        Ok(Some(Judge::new(live.chain(&stages[..asked])?, usize::MAX)))
    }

    fn written(&self, from: Offset, to: Offset) -> Result<Written, BlameError> {
        let in_force = self.in_force(from).0.into_iter().chain(self.activations.range(from..to).map(|(_, id)| *id));
        let stages = in_force.map(|id| (id, self.stages(id))).collect();
        let mut written = Written { stages, ..Written::default() };
        let wanted = |offset: Offset| offset >= from && offset < to;
        let mut fence = Fence::default();
        scan(self.broker, &TopicPartition::new(CTR_WINDOWS, PartitionId(0)), Offset(0), &mut |_, record| {
            if clickmill_schemas::partial::is_partial(record.value) {
                return Ok(());
            }
            let record = WindowRecord::decode(record.key, record.value)?;
            let (run, partition, _) = record.term();
            if run != self.run || partition != self.partition || !fence.admits(record.term()) {
                return Ok(());
            }
            match record {
                WindowRecord::Output(Output { body: Body::Late { offset, ts_ms, watermark_ms }, .. })
                    if wanted(offset) =>
                {
                    written.late.insert(offset, (ts_ms, watermark_ms));
                }
                WindowRecord::Output(Output {
                    body: Body::Decision { offset, decision: Decision::Gap { end } },
                    ..
                }) => {
                    written.gaps.push((offset, end));
                }
                // What was said of the records behind a savepoint that was gone back to holds no more.
                WindowRecord::Output(Output { body: Body::Rewind { as_of_offset }, .. }) => {
                    drop(written.late.split_off(&as_of_offset));
                }
                _ => {}
            }
            Ok(())
        })?;
        scan(self.broker, &TopicPartition::new(AD_EVENTS_ERROR, PartitionId(0)), Offset(0), &mut |_, record| {
            let Ok(letter) = serde_json::from_slice::<DeadLetter>(record.value) else {
                match Output::decode(record.value) {
                    Ok(Output { stamp, .. }) if (stamp.run, stamp.partition) != (self.run, self.partition) => {}
                    Ok(Output { body: Body::Rewind { as_of_offset }, .. }) => {
                        drop(written.letters.split_off(&as_of_offset));
                        drop(written.retried.split_off(&as_of_offset));
                    }
                    Ok(Output { body: Body::Retried { offset, attempt, origin, fate }, .. }) if wanted(offset) => {
                        written.retried.insert(offset, (attempt, origin, fate));
                    }
                    _ => {}
                }
                return Ok(());
            };
            if let (Some(judged), Some(RetriedAt { partition, offset })) = (&letter.judged, letter.rejected())
                && judged.run == self.run
                && partition == self.partition
                && wanted(offset)
            {
                written.letters.insert(offset, letter);
            }
            Ok(())
        })?;
        Ok(written)
    }

    /// A record that retention has taken.
    fn gone(&self, offset: Offset, written: &Written) -> Blame {
        let mut blame = self.story(offset, self.in_force(offset).0, &Verdict::Passed, written, None);
        let unseen = written.gaps.iter().any(|(start, end)| offset >= *start && offset < *end);
        if blame.fate == Fate::Counted && unseen {
            (blame.fate, blame.reason) = (Fate::Dropped, Some("retention".to_owned()));
            blame.stages.clear();
        }
        blame
    }

    fn story(
        &self,
        offset: Offset,
        deployment: Option<DeploymentId>,
        verdict: &Verdict,
        written: &Written,
        value: Option<&[u8]>,
    ) -> Blame {
        let mut blame = Blame {
            topic: AD_EVENTS_RAW.to_owned(),
            partition: self.partition,
            offset,
            fate: Fate::Waiting,
            reason: None,
            message: None,
            deployment,
            stages: Vec::new(),
            ts_ms: value.and_then(event_time),
            watermark_ms: None,
            windows: Vec::new(),
        };
        if offset >= self.processed {
            return blame;
        }
        if let Some((attempt, origin, fate)) = written.retried.get(&offset) {
            blame.message = Some(format!("retry {attempt} of {origin}"));
            if *fate == RetryFate::Repeated {
                (blame.fate, blame.reason) = (Fate::Dropped, Some(REPEATED.to_owned()));
                return blame;
            }
        }
        // Where it ended, if it did not come to the end.
        let mut ended: Option<(String, Option<String>)> = None;
        match (written.letters.get(&offset), written.late.get(&offset), verdict) {
            (Some(letter), ..) => {
                let stage = letter.judged.as_ref().map(|judged| judged.stage.clone()).unwrap_or_default();
                blame.fate = Fate::Rejected;
                blame.message = Some(letter.message.clone());
                ended = Some((stage, Some(letter.rule.clone())));
            }
            (None, Some((ts_ms, watermark_ms)), _) => {
                blame.fate = Fate::Late;
                (blame.ts_ms, blame.watermark_ms) = (Some(*ts_ms), Some(*watermark_ms));
            }
            // Its dead letter is gone: retention is allowed to take those.
            (None, None, Verdict::Rejected { stage, rule, message }) => {
                blame.fate = Fate::Rejected;
                blame.message = Some(message.clone());
                ended = Some((stage.clone(), Some(rule.clone())));
            }
            (None, None, Verdict::Failed { stage, message }) => {
                blame.fate = Fate::Rejected;
                blame.message = Some(message.clone());
                ended = Some((stage.clone(), Some("smartmodule".to_owned())));
            }
            (None, None, Verdict::Dropped { stage }) => {
                blame.fate = Fate::Dropped;
                blame.reason = Some(format!("filtered by {stage}"));
                ended = Some((stage.clone(), None));
            }
            (None, None, Verdict::Late | Verdict::Passed) => {
                blame.fate = Fate::Counted;
                let start = |size_ms: i64, ts_ms: i64| ts_ms - ts_ms.rem_euclid(size_ms);
                let window = |size_ms| {
                    let start_ms = start(size_ms, blame.ts_ms?);
                    Some(WindowOf { size: size_name(size_ms), start_ms })
                };
                blame.windows = SIZES_MS.into_iter().filter_map(window).collect();
            }
        }
        if let Some((_, Some(rule))) = &ended {
            blame.reason = Some(rule.clone());
        }
        blame.stages = deployment.and_then(|id| written.stages.get(&id)).cloned().unwrap_or_default();
        if let Some((name, rule)) = ended
            && let Some(at) = blame.stages.iter().position(|stage| stage.stage == name)
        {
            blame.stages.truncate(at + 1);
            blame.stages[at].rule = rule;
        }
        blame
    }

    /// The stages of a deployment, first to last.
    fn stages(&self, id: DeploymentId) -> Vec<StageBlame> {
        let stage = |stage: &Stage| {
            let put = since(self.history, id, stage);
            StageBlame {
                stage: stage.stage.clone(),
                name: stage.name.clone(),
                version: stage.version.clone(),
                sha256: stage.sha256,
                deployment: put,
                message: self.history.get(&put).map(|d| d.message.clone()).unwrap_or_default(),
                params: stage.params.clone(),
                rule: None,
            }
        };
        self.history.get(&id).map(|record| record.stages.iter().map(stage).collect()).unwrap_or_default()
    }
}

/// The event time of a JSON event.
pub(crate) fn event_time(value: &[u8]) -> Option<i64> {
    #[derive(Deserialize)]
    struct Event {
        ts: i64,
    }
    serde_json::from_slice::<Event>(value).ok().map(|event| event.ts)
}
