//! How letters would fare: their payloads through the stages before the one that keeps windows. Nothing is counted.
//!
//! Whether a window is still open is not asked: the stream says that once a letter is sent.

use std::collections::BTreeMap;

use clickmill_engine::MemoryBatch;
use clickmill_schemas::Offset;
use clickmill_schemas::dlq::Letter;
use clickmill_schemas::envelope::ErrorType;
use serde::{Deserialize, Serialize};

use crate::chains::{ChainError, Maker};
use crate::deployment::Stage;
use crate::judge::{Judge, JudgeError, Verdict};

/// Payloads that are judged at once.
const AT_ONCE: usize = 512;
/// And no more bytes of them, about.
const BYTES_AT_ONCE: usize = 4 << 20;

/// Judges payloads.
pub(super) struct Trial(Option<Judge>);

/// Why a payload does not pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objection {
    pub rule: String,
    pub message: String,
}

impl Trial {
    /// With the stages of a deployment, or of one that may come to be.
    /// Asked until `over` says so at most: a module that loops takes its time limit for each payload.
    pub(super) fn new(
        maker: &Maker<'_>,
        stages: &[Stage],
        over: impl Fn() -> bool + Send + 'static,
    ) -> Result<Self, ChainError> {
        let mut asked = 0;
        for stage in stages {
            if maker.keeps_windows(stage)? {
                break;
            }
            asked += 1;
        }
        match asked {
            0 => Ok(Self(None)),
            _ => Ok(Self(Some(Judge::new(maker.chain(&stages[..asked])?, usize::MAX).until(over)))),
        }
    }

    /// What each payload is told, in their order; none where it passes. Fewer than there are payloads where its time is over.
    pub(super) fn judge(&mut self, payloads: &[&[u8]], now_ms: i64) -> Result<Vec<Option<Objection>>, JudgeError> {
        let Some(judge) = &mut self.0 else { return Ok(vec![None; payloads.len()]) };
        let mut told = Vec::with_capacity(payloads.len());
        while told.len() < payloads.len() {
            let rest = &payloads[told.len()..];
            let mut bytes = 0;
            let fits = |payload: &&&[u8]| {
                bytes += payload.len();
                bytes <= BYTES_AT_ONCE
            };
            let batch = &rest[..rest.iter().take(AT_ONCE).take_while(fits).count().max(1)];
            let source = MemoryBatch::of(Offset(0), batch.iter().map(|payload| (None, *payload, now_ms)));
            let verdicts = judge.judge(&source)?;
            if verdicts.is_empty() {
                break;
            }
            told.extend(verdicts.into_iter().map(|(_, verdict)| objection(verdict)));
        }
        Ok(told)
    }
}

fn objection(verdict: Verdict) -> Option<Objection> {
    match verdict {
        Verdict::Rejected { rule, message, .. } => Some(Objection { rule, message }),
        Verdict::Failed { message, .. } => Some(Objection { rule: "smartmodule".to_owned(), message }),
        Verdict::Passed | Verdict::Late | Verdict::Dropped { .. } => None,
    }
}

/// How many letters would pass.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fares {
    pub letters: u64,
    pub would_pass: u64,
    /// Most letters first.
    pub by_rule: Vec<RuleFares>,
}

/// The same of the letters that one rule has rejected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleFares {
    pub error_type: ErrorType,
    pub rule: String,
    pub letters: u64,
    pub would_pass: u64,
    /// The others, by the rule that would reject them.
    pub rejected_by: BTreeMap<String, u64>,
    /// One of the others, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<String>,
}

impl Fares {
    pub(super) fn add(&mut self, letter: &Letter, objection: Option<&Objection>) {
        let (error_type, rule) = (letter.letter.error_type, &letter.letter.rule);
        let known = self.by_rule.iter().position(|fares| fares.error_type == error_type && fares.rule == *rule);
        let at = known.unwrap_or_else(|| {
            let (rule, rejected_by) = (rule.clone(), BTreeMap::new());
            let new = RuleFares { error_type, rule, letters: 0, would_pass: 0, rejected_by, example: None };
            self.by_rule.push(new);
            self.by_rule.len() - 1
        });
        let fares = &mut self.by_rule[at];
        self.letters += 1;
        fares.letters += 1;
        match objection {
            None => {
                self.would_pass += 1;
                fares.would_pass += 1;
            }
            Some(Objection { rule, message }) => {
                *fares.rejected_by.entry(rule.clone()).or_default() += 1;
                fares.example.get_or_insert_with(|| format!("{}: {message}", letter.id));
            }
        }
    }

    pub(super) fn sort(&mut self) {
        self.by_rule.sort_by(|a, b| b.letters.cmp(&a.letters).then_with(|| a.rule.cmp(&b.rule)));
    }
}
