//! A letter's record without reading all of it: what decides whether it is listed, and its JSON as it is listed.
//!
//! Of a hundred thousand letters nobody reads more: payloads and messages are passed on as they lie in the topic.

use std::borrow::Cow;

use clickmill_schemas::dead_letter::Origin;
use clickmill_schemas::dlq::{LetterId, LetterState};
use clickmill_schemas::envelope::ErrorType;
use clickmill_schemas::{DeploymentId, ModuleDigest, Offset, PartitionId, RunId};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Shape;
use crate::views::time::iso8601;

/// A record of `ad_events_dlq`, if it is a letter.
#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    letter: Option<Outer<'a>>,
}

#[derive(Deserialize)]
struct Outer<'a> {
    id: LetterId,
    state: LetterState,
    #[serde(borrow)]
    reason: &'a RawValue,
    first_error_ms: i64,
    due_at_ms: Option<i64>,
    #[serde(borrow)]
    attempts: Option<&'a RawValue>,
    #[serde(borrow)]
    edited: Option<&'a RawValue>,
    #[serde(borrow)]
    letter: &'a RawValue,
}

#[derive(Deserialize)]
struct Inner<'a> {
    error_type: ErrorType,
    #[serde(borrow)]
    rule: Cow<'a, str>,
    #[serde(borrow)]
    message: &'a RawValue,
    #[serde(borrow)]
    origin: &'a RawValue,
    judged: Option<InnerJudged>,
}

#[derive(Deserialize)]
struct InnerJudged {
    run: RunId,
    sha256: ModuleDigest,
    deployment: DeploymentId,
}

/// A letter at a glance.
pub(super) struct Glance<'a> {
    outer: Outer<'a>,
    inner: Inner<'a>,
}

impl<'a> Glance<'a> {
    /// Of a record's value; none where it is no letter.
    ///
    /// # Errors
    /// Where it is nothing that this program has written.
    pub(super) fn read(value: &'a [u8]) -> Result<Option<Self>, serde_json::Error> {
        let Some(outer) = serde_json::from_slice::<Record<'_>>(value)?.letter else { return Ok(None) };
        let inner = serde_json::from_str(outer.letter.get())?;
        Ok(Some(Self { outer, inner }))
    }

    pub(super) const fn id(&self) -> &LetterId {
        &self.outer.id
    }

    pub(super) const fn state(&self) -> LetterState {
        self.outer.state
    }

    pub(super) const fn error_type(&self) -> ErrorType {
        self.inner.error_type
    }

    pub(super) fn rule(&self) -> &str {
        &self.inner.rule
    }

    pub(super) const fn first_error_ms(&self) -> i64 {
        self.outer.first_error_ms
    }

    /// The run that judged it; none of lines and of sinks' rows.
    pub(super) fn run(&self) -> Option<RunId> {
        self.inner.judged.as_ref().map(|judged| judged.run)
    }

    /// The record of the input topic that it began with.
    pub(super) fn place(&self) -> Option<(PartitionId, Offset)> {
        self.inner.judged.as_ref()?;
        match serde_json::from_str(self.inner.origin.get()).ok()? {
            Origin::Record { partition, offset, .. } => Some((partition, offset)),
            Origin::Line { .. } => None,
        }
    }

    /// As [`super::Listed`] has it.
    pub(super) fn listed(&self) -> Result<Box<RawValue>, serde_json::Error> {
        let mut out = String::new();
        self.put(&mut out, Shape::Whole)?;
        RawValue::from_string(out)
    }

    /// Appends the JSON of it.
    pub(super) fn put(&self, out: &mut String, shape: Shape) -> Result<(), serde_json::Error> {
        let Outer { id, state, reason, first_error_ms, due_at_ms, attempts, edited, letter } = &self.outer;
        out.reserve(letter.get().len() + 512);
        out.push_str("{\"id\":");
        out.push_str(&serde_json::to_string(id)?);
        let mut field = |name: &str, value: &str| {
            for part in [",\"", name, "\":", value] {
                out.push_str(part);
            }
        };
        field("state", &serde_json::to_string(state)?);
        field("error_timestamp", &format!("\"{}\"", iso8601(*first_error_ms)));
        if shape == Shape::Brief {
            field("error_type", &serde_json::to_string(&self.inner.error_type)?);
            field("rule", &serde_json::to_string(&self.inner.rule)?);
            field("message", self.inner.message.get());
            out.push('}');
            return Ok(());
        }
        field("reason", reason.get());
        if let Some(judged) = &self.inner.judged {
            field("module_digest", &format!("\"{}\"", judged.sha256));
            field("deployment", &judged.deployment.to_string());
        }
        if let Some(due_at_ms) = due_at_ms {
            field("due_at", &format!("\"{}\"", iso8601(*due_at_ms)));
        }
        field("attempts", attempts.map_or("[]", RawValue::get));
        if let Some(edited) = edited {
            field("edited", edited.get());
        }
        // The envelope's own fields follow: it is an object, and never an empty one.
        out.push(',');
        out.push_str(letter.get().trim_start().trim_start_matches('{'));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clickmill_schemas::Epoch;
    use clickmill_schemas::dead_letter::{Judged, RawPayload};
    use clickmill_schemas::dlq::{Attempt, DlqRecord, Letter, Outcome};

    use super::super::letter::tests::letter;
    use super::super::{Listed, RetryPolicy, letter::found};
    use super::*;

    fn at_a_glance(letter: &Letter) -> Listed {
        let value = DlqRecord::Letter(Box::new(letter.clone())).encode();
        let glance = Glance::read(&value).unwrap().unwrap();
        serde_json::from_str(glance.listed().unwrap().get()).unwrap()
    }

    #[test]
    fn what_is_listed_at_a_glance_is_what_is_listed() {
        let bare = found(letter(ErrorType::Parsing, 7), &RetryPolicy::default());
        assert_eq!(at_a_glance(&bare), Listed::from(bare.clone()));
        let mut full = found(letter(ErrorType::Smartmodule, 7), &RetryPolicy::default());
        full.letter.judged = Some(Judged {
            run: RunId([1; 16]),
            epoch: Epoch(2),
            stage: "validate".into(),
            sha256: ModuleDigest([3; 32]),
            deployment: DeploymentId(4),
        });
        full.letter.stacktrace = Some("at \"f\"".into());
        full.edited = Some(RawPayload::new(b"\xff{"));
        full.reason = "{, \"}".into();
        let (rule, message) = ("r".to_owned(), "\u{0}".to_owned());
        full.attempts.push(Attempt {
            attempt: 1,
            at_ms: 5,
            deployment: None,
            outcome: Outcome::Rejected,
            rule,
            message,
        });
        assert!(full.due_at_ms.is_some());
        assert_eq!(at_a_glance(&full), Listed::from(full.clone()));
    }
}
