//! What the next commit will append: dead letters and late events, held in the order of their offsets.

use clickmill_broker::StoredBatch;
use clickmill_engine::{RouteOwned, Routed};
use clickmill_schemas::Offset;
use clickmill_schemas::dead_letter::{DeadLetter, Judged, RawPayload, RetriedAt};
use clickmill_schemas::envelope::{ErrorType, Retry};
use clickmill_schemas::output::{Body, Output, Stamp};
use clickmill_schemas::record::Records;

use super::{Worker, WorkerError};

/// A record that waits.
pub(super) struct Waiting {
    pub key: String,
    pub value: Vec<u8>,
}

/// Dead letters and late events since the last commit.
#[derive(Default)]
pub(super) struct Outputs {
    letters: Vec<Waiting>,
    late: Vec<Waiting>,
    bytes: usize,
}

/// A length to go back to.
#[derive(Clone, Copy, Default)]
pub(super) struct Mark {
    letters: usize,
    late: usize,
}

impl Outputs {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { letters: self.letters.len(), late: self.late.len() }
    }

    pub(super) fn back_to(&mut self, mark: Mark) {
        self.letters.truncate(mark.letters);
        self.late.truncate(mark.late);
        self.bytes = self.letters.iter().chain(&self.late).map(Waiting::bytes).sum();
    }

    /// Dead letters and late events, for a commit.
    pub(super) fn take(&mut self) -> (Vec<Waiting>, Vec<Waiting>) {
        let Self { letters, late, .. } = std::mem::take(self);
        (letters, late)
    }

    pub(super) fn letter(&mut self, waiting: Waiting) {
        self.bytes += waiting.bytes();
        self.letters.push(waiting);
    }

    fn late(&mut self, waiting: Waiting) {
        self.bytes += waiting.bytes();
        self.late.push(waiting);
    }
}

impl Waiting {
    fn bytes(&self) -> usize {
        self.key.len() + self.value.len()
    }
}

impl Worker {
    /// Takes the outcome of a batch into the ledger and into the outputs, except what is in the topics already.
    pub(super) fn absorb(&mut self, batch: &StoredBatch, retry: Option<Retry<'_>>) -> Result<(), WorkerError> {
        self.ledger.counted += self.outcome.counted;
        for (stage, records) in &self.outcome.dropped {
            let name = self.stages.stages.get(*stage).map_or("", |s| s.stage.as_str());
            self.ledger.drop_for(&format!("filtered by {name}"), *records);
        }
        if let Some(retry) = retry.filter(|_| self.outcome.records > 0) {
            self.settle_retry(retry);
        }
        if self.outcome.routed.is_empty() {
            return Ok(());
        }
        let raw = batch.records()?;
        let mut records = Records::new(&raw)?;
        let mut routed = std::mem::take(&mut self.outcome.routed);
        // Stages route one after the other; the topics hold offsets in order.
        routed.sort_unstable_by_key(|r| r.offset);
        for routed in &routed {
            match &routed.route {
                RouteOwned::Error { error_type, rule, message } => {
                    self.ledger.reject(rule);
                    if retry.is_none() {
                        self.rejected.insert(routed.offset);
                    }
                    self.shared.metrics.rejected(self.owner.partition, rule);
                    if routed.offset >= self.recovered.errors_through {
                        let payload = payload(&mut records, batch.base_offset, routed.offset)?;
                        let letter = self.letter(routed, payload, (*error_type, rule, message), retry);
                        let key = format!("{}|{}|{}", self.owner.run, self.owner.partition, routed.offset);
                        // Plain structs: serialization has no failing case.
                        let value = serde_json::to_vec(&letter).unwrap_or_default();
                        self.outputs.letter(Waiting { key, value });
                    }
                }
                RouteOwned::Late { ts_ms, watermark_ms } => {
                    self.ledger.late += 1;
                    if routed.offset >= self.recovered.late_through {
                        let body = Body::Late { offset: routed.offset, ts_ms: *ts_ms, watermark_ms: *watermark_ms };
                        let output = Output { stamp: self.stamp(), body };
                        self.outputs.late(Waiting { key: output.key(), value: output.encode() });
                    }
                }
            }
        }
        routed.clear();
        self.outcome.routed = routed;
        Ok(())
    }

    pub(super) fn stamp(&self) -> Stamp {
        Stamp { run: self.owner.run, partition: self.owner.partition, epoch: self.epoch }
    }

    fn letter(
        &self,
        routed: &Routed,
        payload: &[u8],
        (error_type, rule, message): (ErrorType, &str, &str),
        retry: Option<Retry<'_>>,
    ) -> DeadLetter {
        let judged = self.stages.stages.get(routed.stage).map(|stage| Judged {
            run: self.owner.run,
            epoch: self.epoch,
            stage: stage.stage.clone(),
            sha256: stage.sha256,
            deployment: self.deployment,
        });
        DeadLetter {
            payload: RawPayload::new(payload),
            error_type,
            rule: rule.to_owned(),
            message: message.to_owned(),
            retry_count: retry.map_or(0, |retry| retry.attempt),
            error_timestamp_ms: self.shared.clock.now_ms(),
            origin: self.origin(retry, routed.offset),
            judged,
            stacktrace: (error_type == ErrorType::Smartmodule).then(|| stacktrace(message)).flatten(),
            retried_at: retry.map(|_| RetriedAt { partition: self.owner.partition, offset: routed.offset }),
            connector: None,
        }
    }
}

/// The functions that a trap's message names, innermost first, one a line.
fn stacktrace(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("; in ")?;
    let frames = rest.split("; ").next().unwrap_or_default().split(" < ");
    Some(frames.enumerate().map(|(depth, function)| format!("{depth}: {function}")).collect::<Vec<_>>().join("\n"))
}

/// The value of the record at `offset`, as it was produced: a later stage only saw it in another encoding.
fn payload<'a>(records: &mut Records<'a>, base: Offset, offset: Offset) -> Result<&'a [u8], WorkerError> {
    for record in records {
        let record = record?;
        if base.plus(record.offset_delta.unsigned_abs()) == offset {
            return Ok(record.value);
        }
    }
    Err(WorkerError::Source(format!("offset {offset} was routed and is not in its batch")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_has_the_functions_of_a_traps_message_and_nothing_else() {
        let message = "array_map failed: wasm trap: unreachable; in rust_panic < validate::judge; before that memory";
        assert_eq!(stacktrace(message).as_deref(), Some("0: rust_panic\n1: validate::judge"));
        assert_eq!(stacktrace("array_map ran past its time limit"), None);
    }
}
