//! Retries of rejected records: each is judged once more, or dropped where its origin has been taken in by now.

use clickmill_broker::StoredBatch;
use clickmill_engine::RouteOwned;
use clickmill_schemas::Offset;
use clickmill_schemas::dead_letter::Origin;
use clickmill_schemas::envelope::{Retry, RetryOf};
use clickmill_schemas::output::{Body, Output, RetryFate};
use clickmill_schemas::record::Records;

use super::outputs::Waiting;
use super::{Worker, WorkerError};

/// Why one too many is dropped, in the ledger.
pub(crate) const REPEATED: &str = "repeated retry";

/// A retry's key.
pub(super) struct RetryKey(Vec<u8>);

impl RetryKey {
    /// That of a batch, if it is a retry: those are alone in theirs.
    pub(super) fn of(batch: &StoredBatch) -> Result<Option<Self>, WorkerError> {
        if batch.count != 1 {
            return Ok(None);
        }
        let bytes = batch.records()?;
        let Some(record) = Records::new(&bytes)?.next() else { return Ok(None) };
        let key = record?.key.filter(|key| Retry::decode(key).is_some());
        Ok(key.map(|key| Self(key.to_vec())))
    }

    /// What it says; always there, since only such keys are made.
    pub(super) fn get(&self) -> Option<Retry<'_>> {
        Retry::decode(&self.0)
    }
}

impl Worker {
    /// Whether this retry is one too many: it is dropped then.
    pub(super) fn drops_repeated(&mut self, retry: Option<Retry<'_>>) -> bool {
        let Some(retry) = retry.filter(|retry| !self.rejected.admits(retry)) else {
            return false;
        };
        self.ledger.drop_for(REPEATED, 1);
        self.tell_fate(retry, RetryFate::Repeated);
        true
    }

    /// Takes down what became of a retry that has just been judged, if it was not rejected again.
    pub(super) fn settle_retry(&mut self, retry: Retry<'_>) {
        let fate = match self.outcome.routed.first().map(|routed| &routed.route) {
            Some(RouteOwned::Error { .. }) => return,
            Some(RouteOwned::Late { .. }) => RetryFate::Late,
            None if self.outcome.counted > 0 => RetryFate::Counted,
            None => RetryFate::Dropped,
        };
        self.rejected.settle(&retry);
        self.tell_fate(retry, fate);
    }

    fn tell_fate(&mut self, retry: Retry<'_>, fate: RetryFate) {
        let offset = self.position;
        if offset < self.recovered.errors_through {
            return;
        }
        let body = Body::Retried { offset, attempt: retry.attempt, origin: self.origin(Some(retry), offset), fate };
        let output = Output { stamp: self.stamp(), body };
        self.outputs.letter(Waiting { key: output.key(), value: output.encode() });
    }

    /// Where a record came from first.
    pub(super) fn origin(&self, retry: Option<Retry<'_>>, offset: Offset) -> Origin {
        let offset = match retry.map(|retry| retry.of) {
            None => offset,
            Some(RetryOf::Record { offset }) => offset,
            Some(RetryOf::Line { file, line, source }) => {
                return Origin::Line { file: file.to_owned(), line, source };
            }
        };
        Origin::Record { topic: self.input.topic.to_string(), partition: self.owner.partition, offset }
    }
}
