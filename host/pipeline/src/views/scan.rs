//! Walking a partition's records in order, one batch in memory at a time.

use std::time::Duration;

use clickmill_broker::{Broker, BrokerError, StoredBatch, TopicPartition};
use clickmill_schemas::Offset;
use clickmill_schemas::record::{Record, Records};

use super::{BadRecord, ViewError};

/// Bytes of batches asked for at once.
const FETCH_BYTES: usize = 1 << 20;

/// What a visitor makes of a record.
pub type Visit<'a> = dyn FnMut(Offset, &Record<'_>) -> Result<(), BadRecord> + 'a;

/// Visits the records from `from` to the end that the partition has now; returns that end.
///
/// Records below the log's start are gone and skipped.
///
/// # Errors
/// [`ViewError`] where the log cannot be read, or with the record that `visit` refused.
pub fn scan(
    broker: &dyn Broker,
    at: &TopicPartition,
    from: Offset,
    visit: &mut Visit<'_>,
) -> Result<Offset, ViewError> {
    let ends = broker.ends(at)?;
    let mut next = from.max(ends.start);
    while next < ends.end {
        let batches = match broker.fetch(at, next, FETCH_BYTES, Duration::ZERO) {
            // Retention was faster than we are: go on from where the log begins now.
            Err(BrokerError::OffsetOutOfRange { start, .. }) if start > next => {
                next = start;
                continue;
            }
            other => other?,
        };
        if batches.is_empty() {
            break;
        }
        for batch in &batches {
            visit_batch(at, batch, next, visit)?;
            next = batch.next_offset();
        }
    }
    Ok(next)
}

/// Visits the records of one batch that are not below `from`.
///
/// # Errors
/// As [`scan`].
pub fn visit_batch(
    at: &TopicPartition,
    batch: &StoredBatch,
    from: Offset,
    visit: &mut Visit<'_>,
) -> Result<(), ViewError> {
    let bad =
        |offset, source| ViewError::Record { topic: at.topic.to_string(), partition: at.partition, offset, source };
    let bytes = batch.records()?;
    for record in Records::new(&bytes).map_err(|e| bad(batch.base_offset, e.into()))? {
        let record = record.map_err(|e| bad(batch.base_offset, e.into()))?;
        let offset = batch.base_offset.plus(record.offset_delta.unsigned_abs());
        if offset >= from {
            visit(offset, &record).map_err(|e| bad(offset, e))?;
        }
    }
    Ok(())
}
