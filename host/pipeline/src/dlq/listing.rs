//! Which letters, and how they are shown. Plain data.

use std::collections::BTreeMap;

use clickmill_schemas::dead_letter::{DeadLetter, RawPayload};
use clickmill_schemas::dlq::{Attempt, Letter, LetterId, LetterState};
use clickmill_schemas::envelope::ErrorType;
use clickmill_schemas::{DeploymentId, ModuleDigest, Offset};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::glance::Glance;
use super::trial::Objection;
use crate::views::time::iso8601;

/// Letters that somebody means; all where nothing is named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_type: Option<ErrorType>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// First rejected at or after it, epoch milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<LetterState>,
}

impl Filter {
    pub(super) fn lets(&self, glance: &Glance<'_>) -> bool {
        self.wants((glance.error_type(), glance.rule()), glance.first_error_ms(), glance.state())
    }

    pub(super) fn means(&self, letter: &Letter) -> bool {
        self.wants((letter.letter.error_type, &letter.letter.rule), letter.first_error_ms, letter.state)
    }

    fn wants(&self, (kind, rule): (ErrorType, &str), first_error_ms: i64, state: LetterState) -> bool {
        self.error_type.is_none_or(|wanted| wanted == kind)
            && self.rule.as_ref().is_none_or(|wanted| wanted == rule)
            && self.since_ms.is_none_or(|since| first_error_ms >= since)
            && self.state.is_none_or(|wanted| wanted == state)
    }
}

/// A letter as people see it: the envelope's fields, and what has become of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    pub id: LetterId,
    pub state: LetterState,
    /// Why it is in that state.
    pub reason: String,
    /// Of the first rejection, ISO 8601.
    pub error_timestamp: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module_digest: Option<ModuleDigest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentId>,
    /// When the next attempt is due, ISO 8601.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<String>,
    pub attempts: Vec<Attempt>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited: Option<RawPayload>,
    #[serde(flatten)]
    pub letter: DeadLetter,
}

impl From<Letter> for Listed {
    fn from(letter: Letter) -> Self {
        let Letter { id, state, reason, first_error_ms, due_at_ms, attempts, edited, letter, .. } = letter;
        Self {
            id,
            state,
            reason,
            error_timestamp: iso8601(first_error_ms),
            module_digest: letter.judged.as_ref().map(|judged| judged.sha256),
            deployment: letter.judged.as_ref().map(|judged| judged.deployment),
            due_at: due_at_ms.map(iso8601),
            attempts,
            edited,
            letter,
        }
    }
}

/// Some letters, and where the next ones begin.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Page {
    /// Each a [`Listed`].
    pub letters: Vec<Box<RawValue>>,
    /// None where there are no more.
    pub next: Option<Offset>,
}

/// How much is said of a letter on its line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// A [`Listed`].
    #[default]
    Whole,
    /// Its id, state, error_timestamp, error_type, rule and message.
    Brief,
}

/// Letters as lines of JSON, and where the next ones begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    pub text: String,
    /// None where there are no more.
    pub next: Option<Offset>,
}

/// A letter, and how it would fare now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    #[serde(flatten)]
    pub letter: Listed,
    pub now: Fate,
}

/// How a letter would fare if it were sent now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fate", rename_all = "snake_case")]
pub enum Fate {
    /// The modules take it; whether its window is still open shows when it is sent.
    Passes,
    Rejected(Objection),
    /// It cannot be told, or is nothing that modules judge.
    Unknown {
        why: String,
    },
}

/// How many letters there are of each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    pub letters: u64,
    pub by_state: BTreeMap<LetterState, u64>,
    /// Most letters first.
    pub by_rule: Vec<RuleStats>,
}

/// The letters that one rule has rejected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleStats {
    pub error_type: ErrorType,
    pub rule: String,
    pub letters: u64,
    pub by_state: BTreeMap<LetterState, u64>,
    /// First rejections: of the oldest and the newest, ISO 8601.
    pub oldest: String,
    pub newest: String,
}

/// Counts letters.
#[derive(Default)]
pub(super) struct Census {
    by_state: BTreeMap<LetterState, u64>,
    by_rule: BTreeMap<(ErrorType, String), OfRule>,
}

/// How many are in each state; of the oldest and the newest, when they were rejected.
type OfRule = (BTreeMap<LetterState, u64>, i64, i64);

impl Census {
    pub(super) fn add(&mut self, letter: &Glance<'_>) {
        *self.by_state.entry(letter.state()).or_default() += 1;
        let at_ms = letter.first_error_ms();
        let key = (letter.error_type(), letter.rule().to_owned());
        let (states, oldest, newest) = self.by_rule.entry(key).or_insert_with(|| (BTreeMap::new(), at_ms, at_ms));
        *states.entry(letter.state()).or_default() += 1;
        (*oldest, *newest) = ((*oldest).min(at_ms), (*newest).max(at_ms));
    }

    pub(super) fn finish(self) -> Stats {
        let rule = |((error_type, rule), (by_state, oldest, newest)): ((_, _), OfRule)| RuleStats {
            error_type,
            rule,
            letters: by_state.values().sum(),
            by_state,
            oldest: iso8601(oldest),
            newest: iso8601(newest),
        };
        let mut by_rule: Vec<RuleStats> = self.by_rule.into_iter().map(rule).collect();
        by_rule.sort_by(|a, b| b.letters.cmp(&a.letters).then_with(|| a.rule.cmp(&b.rule)));
        Stats { letters: self.by_state.values().sum(), by_state: self.by_state, by_rule }
    }
}
