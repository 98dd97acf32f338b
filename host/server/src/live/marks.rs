//! [`Marks`]: what happened, on the axis of event time, from the decisions that were read.
//!
//! A decision is about an offset, often one a little ahead. It is marked where its partition was in event time when it came
//! to that offset. Bounded: what happens over and over is one mark with a count.

use std::collections::{BTreeMap, BTreeSet};

use clickmill_pipeline::topics::AD_EVENTS_RAW;
use clickmill_schemas::output::Decision;
use clickmill_schemas::{DeploymentId, Offset, PartitionId};

use super::deployments::Deployments;
use super::event::{Mark, MarkKind};

/// Marks that are kept, and decisions that wait for their partition.
const MAX_MARKS: usize = 500;
/// What a module says of its failure may be long, and every listener gets it.
const MAX_TEXT_CHARS: usize = 300;
/// Verdicts on one stage within so much event time are one mark.
const VERDICTS_MS: i64 = 60_000;

/// What a mark is about: another one about the same is the same mark.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum About {
    Deployment(DeploymentId),
    /// A partition that could not go on with a later one.
    Again(PartitionId, Offset),
    /// A stage, and a place in event time.
    Verdicts(String, i64),
    Gap(PartitionId, Offset),
    /// An idle partition stands at one offset.
    Advance(PartitionId, Offset),
    Pause(i64),
}

#[derive(Debug)]
struct Waiting {
    partition: PartitionId,
    offset: Offset,
    decision: Decision,
    wall_ms: i64,
}

#[derive(Debug)]
struct Kept {
    about: About,
    mark: Mark,
    /// How often it has happened.
    count: u64,
    /// What is said of the first time.
    first: String,
}

/// The marks, in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Marks {
    kept: Vec<Kept>,
    waiting: Vec<Waiting>,
    /// What judges each partition.
    in_force: BTreeMap<PartitionId, DeploymentId>,
    next_id: u64,
    /// Those that nobody has been told of, or not as they are now.
    untold: BTreeSet<u64>,
}

impl Marks {
    pub(super) fn decided(&mut self, partition: PartitionId, offset: Offset, decision: Decision, wall_ms: i64) {
        self.waiting.push(Waiting { partition, offset, decision, wall_ms });
        if self.waiting.len() > MAX_MARKS {
            self.waiting.remove(0);
        }
    }

    /// A partition has come to this offset, and is there in event time.
    pub(super) fn reached(&mut self, partition: PartitionId, offset: Offset, at_ms: i64, deployments: &Deployments) {
        let there = |w: &mut Waiting| w.partition == partition && w.offset <= offset;
        let reached: Vec<Waiting> = self.waiting.extract_if(.., there).collect();
        for waiting in reached {
            self.mark(waiting, at_ms, deployments);
        }
    }

    /// A partition has gone back: what was decided for offsets at or behind this is void.
    pub(super) fn rewind(&mut self, partition: PartitionId, to: Offset) {
        self.waiting.retain(|w| w.partition != partition || w.offset < to);
    }

    fn mark(&mut self, waiting: Waiting, at_ms: i64, deployments: &Deployments) {
        let Waiting { partition, offset, decision, wall_ms } = waiting;
        let (about, kind, text, deployment) = match decision {
            Decision::Activation { deployment, .. } => {
                let before = self.in_force.insert(partition, deployment);
                if before == Some(deployment) {
                    return;
                }
                let (kind, text) = deployments.mark(deployment);
                if before.is_some_and(|before| before > deployment) {
                    let text = format!("partition {partition} cannot go on with a later one: {text}");
                    (About::Again(partition, offset), MarkKind::Rollback, text, Some(deployment))
                } else {
                    (About::Deployment(deployment), kind, text, Some(deployment))
                }
            }
            Decision::Verdict { stage, message, .. } => {
                let text = format!("stage {stage} fails on {AD_EVENTS_RAW}/{partition}@{offset}: {message}");
                (About::Verdicts(stage, at_ms.div_euclid(VERDICTS_MS)), MarkKind::Verdict, text, None)
            }
            Decision::Gap { end } => {
                let lost = end.0.saturating_sub(offset.0);
                let text = format!("retention took {lost} records of partition {partition} before they were judged");
                (About::Gap(partition, offset), MarkKind::Gap, text, None)
            }
            Decision::WatermarkAdvance { .. } => {
                let text = format!("partition {partition} is idle, and its watermark follows the others");
                (About::Advance(partition, offset), MarkKind::Advance, text, None)
            }
        };
        self.put(about, kind, text, deployment, (at_ms, wall_ms));
    }

    /// The workers stand still, or go on.
    pub(super) fn paused(&mut self, reason: Option<&str>, at_ms: i64, wall_ms: i64) {
        let text = reason.map_or_else(|| "resumed".to_owned(), |reason| format!("paused: {reason}"));
        self.put(About::Pause(wall_ms), MarkKind::Pause, text, None, (at_ms, wall_ms));
    }

    fn put(
        &mut self,
        about: About,
        kind: MarkKind,
        text: String,
        deployment: Option<DeploymentId>,
        (at_ms, wall_ms): (i64, i64),
    ) {
        if let Some(kept) = self.kept.iter_mut().rev().find(|kept| kept.about == about) {
            // A deployment comes to one partition after the other, which is no news.
            if !matches!(about, About::Deployment(_)) {
                kept.count += 1;
                kept.mark.text = format!("{} ({} times)", kept.first, kept.count);
                self.untold.insert(kept.mark.id);
            }
            return;
        }
        let text = match text.char_indices().nth(MAX_TEXT_CHARS) {
            Some((at, _)) => format!("{}…", &text[..at]),
            None => text,
        };
        let mark = Mark { id: self.next_id, at_ms, wall_ms, kind, text: text.clone(), deployment };
        self.untold.insert(mark.id);
        self.next_id += 1;
        self.kept.push(Kept { about, mark, count: 1, first: text });
        if self.kept.len() > MAX_MARKS {
            // Deployments are what others are explained by.
            let frequent = |kept: &Kept| matches!(kept.mark.kind, MarkKind::Verdict | MarkKind::Advance);
            let at = self.kept.iter().position(frequent).unwrap_or_default();
            self.untold.remove(&self.kept.remove(at).mark.id);
        }
    }

    /// Forgets what lies before this in event time.
    pub(super) fn forget_before(&mut self, ms: i64) {
        let untold = &mut self.untold;
        self.kept.retain(|kept| {
            let keep = kept.mark.at_ms >= ms;
            keep || {
                untold.remove(&kept.mark.id);
                false
            }
        });
    }

    pub(super) fn all(&self) -> Vec<&Mark> {
        self.kept.iter().map(|kept| &kept.mark).collect()
    }

    pub(super) fn untold(&self) -> Vec<&Mark> {
        self.kept.iter().map(|kept| &kept.mark).filter(|mark| self.untold.contains(&mark.id)).collect()
    }

    pub(super) fn told(&mut self) {
        self.untold.clear();
    }
}
