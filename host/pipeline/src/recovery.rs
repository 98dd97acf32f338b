//! What the output topics say about a partition beyond its checkpoint: a pure fold over their records.
//!
//! Decisions found are obeyed, outputs found are not repeated, and nothing new is decided or committed below
//! [`Recovered::resume_at`], the highest input offset that any of them names. This module must not do I/O.

use std::collections::BTreeMap;
use std::ops::Bound;

use clickmill_schemas::dead_letter::{DeadLetter, RetriedAt};
use clickmill_schemas::merge::WindowRecord;
use clickmill_schemas::output::{Body, Decision, Output};
use clickmill_schemas::{DeploymentId, Epoch, Generation, Offset, PartitionId, RunId};
use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;

/// A sandbox verdict as it was written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenVerdict {
    pub stage: String,
    pub message: String,
}

/// A change of the chain as it was written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activation {
    pub deployment: DeploymentId,
    /// The generation from there on; none in the first. Each activation states it, since of several at one offset replay
    /// finds the last alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
}

/// What replay obeys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decisions {
    pub activations: BTreeMap<Offset, Activation>,
    pub verdicts: BTreeMap<Offset, WrittenVerdict>,
    /// Watermark advances by the offset from which they bind.
    pub advances: BTreeMap<Offset, i64>,
    /// Gaps by their first offset; the value is the exclusive end.
    pub gaps: BTreeMap<Offset, Offset>,
}

impl Decisions {
    /// Takes over what was decided for another run, in the order in which it was written; nothing has come of it in this one.
    pub(crate) fn inherit(&mut self, decisions: impl IntoIterator<Item = (Offset, Decision)>) {
        let mut taken = Self::default();
        for (offset, decision) in decisions {
            taken.take(offset, &decision);
        }
        // What this run has written itself comes first.
        let own = std::mem::replace(self, taken);
        self.activations.extend(own.activations);
        self.verdicts.extend(own.verdicts);
        self.advances.extend(own.advances);
        self.gaps.extend(own.gaps);
    }

    /// Takes in a decision: of several of a kind at one offset the last one binds, of watermarks the greatest.
    fn take(&mut self, offset: Offset, decision: &Decision) {
        match decision {
            Decision::Activation { deployment, generation } => {
                self.activations.insert(offset, Activation { deployment: *deployment, generation: *generation });
            }
            Decision::Verdict { stage, message, .. } => {
                self.verdicts.insert(offset, WrittenVerdict { stage: stage.clone(), message: message.clone() });
            }
            Decision::WatermarkAdvance { watermark_ms } => {
                let advance = self.advances.entry(offset).or_insert(*watermark_ms);
                *advance = (*advance).max(*watermark_ms);
            }
            Decision::Gap { end } => {
                self.gaps.insert(offset, *end);
            }
        }
    }

    /// The first offset after `position` at which something binds: no call into the chain may reach beyond it.
    #[must_use]
    pub fn next_after(&self, position: Offset) -> Option<Offset> {
        fn next<T>(of: &BTreeMap<Offset, T>, position: Offset) -> Option<Offset> {
            of.range((Bound::Excluded(position), Bound::Unbounded)).next().map(|(offset, _)| *offset)
        }
        [next(&self.activations, position), next(&self.advances, position), next(&self.gaps, position)]
            .into_iter()
            .flatten()
            .min()
    }
}

/// The outcome of reading the outputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    pub decisions: Decisions,
    /// No new decision or commit is made below this input offset.
    pub resume_at: Offset,
    /// Dead letters of input offsets below this are in the topic already.
    pub errors_through: Offset,
    /// Late events of input offsets below this are in the topic already.
    pub late_through: Offset,
}

/// Folds the records of the output topics, in the order of each topic.
#[derive(Debug)]
pub struct Recovery {
    run: RunId,
    partition: PartitionId,
    windows_epoch: Epoch,
    errors_epoch: Epoch,
    /// Highest input offset that each topic names.
    windows_name: Offset,
    errors_name: Offset,
    /// The epoch under which decisions of another run were taken over: nothing of ours came of those yet.
    inherited: Option<Epoch>,
    out: Recovered,
}

impl Recovery {
    /// Starts from a checkpoint, or from nothing.
    #[must_use]
    pub fn new(run: RunId, partition: PartitionId, checkpoint: Option<&Checkpoint>) -> Self {
        let epoch = checkpoint.map_or(Epoch(0), |c| c.epoch);
        let offset = checkpoint.map_or(Offset(0), |c| c.offset);
        let mut decisions = Decisions::default();
        if let Some(checkpoint) = checkpoint {
            decisions.activations.clone_from(&checkpoint.ahead);
            decisions.verdicts.clone_from(&checkpoint.verdicts);
        }
        let out = Recovered { decisions, resume_at: offset, errors_through: offset, late_through: offset };
        let (windows_name, errors_name) = (offset, offset);
        let inherited = None;
        Self { run, partition, windows_epoch: epoch, errors_epoch: epoch, windows_name, errors_name, inherited, out }
    }

    /// Takes in a record of `ctr_windows`.
    pub fn window_record(&mut self, record: &WindowRecord) {
        let (run, partition, epoch) = record.term();
        if run != self.run || partition != self.partition || epoch < self.windows_epoch {
            return;
        }
        self.windows_epoch = epoch;
        match record {
            WindowRecord::Partial(partial) => self.names(partial.version.as_of),
            WindowRecord::Output(Output { body, .. }) => match body {
                Body::Epoch | Body::Retried { .. } => {}
                Body::Inherit { .. } => self.inherited = Some(epoch),
                Body::Rewind { as_of_offset } => self.rewind(*as_of_offset),
                Body::Commit(commit) => self.names(commit.as_of_offset),
                Body::Late { offset, .. } => {
                    self.out.late_through = self.out.late_through.max(offset.plus(1));
                    self.names(offset.plus(1));
                }
                Body::Decision { offset, decision } => self.decision(*offset, decision),
            },
        }
    }

    /// Takes in a record of `ad_events_error`.
    pub fn dead_letter(&mut self, letter: &DeadLetter) {
        let (Some(judged), Some(RetriedAt { partition, offset })) = (&letter.judged, letter.rejected()) else {
            return;
        };
        if judged.run != self.run || partition != self.partition || judged.epoch < self.errors_epoch {
            return;
        }
        self.errors_epoch = judged.epoch;
        self.errors_through(offset);
    }

    fn errors_through(&mut self, offset: Offset) {
        self.out.errors_through = self.out.errors_through.max(offset.plus(1));
        self.errors_name = self.errors_name.max(offset.plus(1));
    }

    /// Takes in a record of `ad_events_error` that is no dead letter.
    pub fn errors_term(&mut self, output: &Output) {
        let Output { stamp, body } = output;
        if stamp.run != self.run || stamp.partition != self.partition || stamp.epoch < self.errors_epoch {
            return;
        }
        self.errors_epoch = stamp.epoch;
        match body {
            Body::Rewind { as_of_offset } => {
                self.out.errors_through = self.out.errors_through.min(*as_of_offset);
                self.errors_name = self.errors_name.min(*as_of_offset);
            }
            Body::Retried { offset, .. } => self.errors_through(*offset),
            _ => {}
        }
    }

    #[must_use]
    pub fn finish(mut self) -> Recovered {
        self.out.resume_at = self.windows_name.max(self.errors_name);
        self.out
    }

    fn names(&mut self, offset: Offset) {
        self.windows_name = self.windows_name.max(offset);
    }

    /// What was decided beyond is not obeyed, and what came of it is written again.
    fn rewind(&mut self, to: Offset) {
        let Decisions { activations, verdicts, advances, gaps } = &mut self.out.decisions;
        activations.retain(|at, _| *at <= to);
        verdicts.retain(|at, _| *at < to);
        advances.retain(|at, _| *at <= to);
        gaps.retain(|at, _| *at < to);
        self.windows_name = self.windows_name.min(to);
        self.out.late_through = self.out.late_through.min(to);
    }

    fn decision(&mut self, offset: Offset, decision: &Decision) {
        self.out.decisions.take(offset, decision);
        // What was taken over from another run says nothing of this one.
        if self.inherited == Some(self.windows_epoch) {
            return;
        }
        match decision {
            // It may lie ahead of everything that the worker has seen, and nothing comes out of it before it is reached: what
            // may be decided and committed below it stays free.
            Decision::Activation { .. } => {}
            // The verdict is about the record at `offset`: up to it nothing may be decided anew.
            Decision::Verdict { .. } => self.names(offset.plus(1)),
            Decision::WatermarkAdvance { .. } => self.names(offset),
            Decision::Gap { end } => self.names(*end),
        }
    }
}

#[cfg(test)]
mod tests {
    use clickmill_schemas::output::{Commit, Ledger, Stamp};

    use super::*;

    const RUN: RunId = RunId([1; 16]);

    #[test]
    fn of_inherited_activations_at_one_offset_the_last_one_binds() {
        let activation = |deployment, generation: Option<u32>| Decision::Activation {
            deployment: DeploymentId(deployment),
            generation: generation.map(Generation),
        };
        let mut own = Decisions::default();
        let kept = Activation { deployment: DeploymentId(9), generation: None };
        own.activations.insert(Offset(7), kept);
        own.inherit([
            (Offset(5), activation(1, None)),
            (Offset(5), activation(2, Some(1))),
            (Offset(7), activation(3, None)),
        ]);
        let begins = Activation { deployment: DeploymentId(2), generation: Some(Generation(1)) };
        assert_eq!(own.activations, BTreeMap::from([(Offset(5), begins), (Offset(7), kept)]));
    }

    fn record(partition: u32, epoch: u64, body: Body) -> WindowRecord {
        let stamp = Stamp { run: RUN, partition: PartitionId(partition), epoch: Epoch(epoch) };
        WindowRecord::Output(Output { stamp, body })
    }

    fn commit(as_of: u64) -> Body {
        Body::Commit(Commit {
            generation: Generation(0),
            as_of_offset: Offset(as_of),
            watermark_ms: None,
            closed_before_ms: None,
            ledger: Ledger::default(),
            committed_at_ms: 0,
            oldest_append_ms: None,
        })
    }

    fn fold(records: &[WindowRecord]) -> Recovered {
        let mut recovery = Recovery::new(RUN, PartitionId(0), None);
        records.iter().for_each(|r| recovery.window_record(r));
        recovery.finish()
    }

    #[test]
    fn what_a_checkpoint_says_of_what_lies_ahead_is_obeyed_and_holds_nothing_back() {
        let checkpoint = crate::checkpoint::format::tests::sample(3, 100);
        let got = Recovery::new(checkpoint.run, checkpoint.partition, Some(&checkpoint)).finish();
        assert_eq!(got.decisions.activations, checkpoint.ahead);
        assert_eq!(got.decisions.verdicts, checkpoint.verdicts);
        assert_eq!(got.resume_at, Offset(100));
    }

    #[test]
    fn a_commit_without_its_checkpoint_holds_new_commits_back_to_its_offset() {
        assert_eq!(fold(&[record(0, 1, commit(500))]).resume_at, Offset(500));
    }

    #[test]
    fn other_partitions_and_fenced_terms_say_nothing() {
        let got = fold(&[record(1, 1, commit(900)), record(0, 3, Body::Epoch), record(0, 2, commit(700))]);
        assert_eq!(got, Recovered::default());
    }

    #[test]
    fn late_events_found_are_not_repeated() {
        let late = Body::Late { offset: Offset(41), ts_ms: 0, watermark_ms: 0 };
        let got = fold(&[record(0, 1, late)]);
        assert_eq!((got.late_through, got.resume_at), (Offset(42), Offset(42)));
    }

    #[test]
    fn decisions_are_kept_by_the_offset_from_which_they_bind() {
        let decide = |offset, decision| record(0, 1, Body::Decision { offset: Offset(offset), decision });
        let activation = |id| Decision::Activation { deployment: DeploymentId(id), generation: None };
        let got = fold(&[
            decide(0, activation(3)),
            decide(90, activation(4)),
            decide(10, Decision::WatermarkAdvance { watermark_ms: 5 }),
            decide(10, Decision::WatermarkAdvance { watermark_ms: 4 }),
            decide(20, Decision::Gap { end: Offset(30) }),
        ]);
        assert_eq!(got.decisions.activations[&Offset(0)].deployment, DeploymentId(3));
        assert_eq!(got.decisions.advances[&Offset(10)], 5);
        assert_eq!(got.decisions.gaps[&Offset(20)], Offset(30));
        assert_eq!(got.resume_at, Offset(30), "the activation that lies ahead holds nothing back");
        assert_eq!(got.decisions.next_after(Offset(0)), Some(Offset(10)));
        assert_eq!(got.decisions.next_after(Offset(20)), Some(Offset(90)));
        assert_eq!(got.decisions.next_after(Offset(90)), None);
    }

    #[test]
    fn what_lies_beyond_a_rewind_is_not_obeyed_and_holds_nothing_back() {
        let decide = |epoch, offset, decision| record(0, epoch, Body::Decision { offset: Offset(offset), decision });
        let activation = |id| Decision::Activation { deployment: DeploymentId(id), generation: None };
        let late = Body::Late { offset: Offset(41), ts_ms: 0, watermark_ms: 0 };
        let old = [decide(1, 0, activation(1)), decide(1, 40, activation(2)), record(0, 1, late)];
        let verdict = Decision::Verdict {
            stage: "v".into(),
            sha256: clickmill_schemas::ModuleDigest([0; 32]),
            message: String::new(),
        };
        let rewind = record(0, 2, Body::Rewind { as_of_offset: Offset(30) });
        let more = [decide(1, 50, verdict), record(0, 1, commit(90)), rewind, record(0, 2, commit(30))];
        let got = fold(&[old.as_slice(), more.as_slice()].concat());
        assert_eq!(got.decisions.activations.keys().copied().collect::<Vec<_>>(), [Offset(0)]);
        assert!(got.decisions.verdicts.is_empty());
        assert_eq!((got.resume_at, got.late_through), (Offset(30), Offset(30)));
    }

    #[test]
    fn dead_letters_of_an_older_term_after_a_newer_one_began_do_not_count() {
        let mut recovery = Recovery::new(RUN, PartitionId(0), None);
        let stamp = Stamp { run: RUN, partition: PartitionId(0), epoch: Epoch(2) };
        recovery.errors_term(&Output { stamp, body: Body::Epoch });
        let letter = |epoch, offset| DeadLetter {
            payload: clickmill_schemas::dead_letter::RawPayload::new(b""),
            error_type: clickmill_schemas::envelope::ErrorType::Parsing,
            rule: "json".into(),
            message: String::new(),
            retry_count: 0,
            error_timestamp_ms: 0,
            origin: clickmill_schemas::dead_letter::Origin::Record {
                topic: "t".into(),
                partition: PartitionId(0),
                offset: Offset(offset),
            },
            judged: Some(clickmill_schemas::dead_letter::Judged {
                run: RUN,
                epoch: Epoch(epoch),
                stage: "validate".into(),
                sha256: clickmill_schemas::ModuleDigest([0; 32]),
                deployment: DeploymentId(0),
            }),
            stacktrace: None,
            retried_at: None,
            connector: None,
        };
        recovery.dead_letter(&letter(1, 50));
        recovery.dead_letter(&letter(2, 7));
        assert_eq!(recovery.finish().errors_through, Offset(8));
    }
}
