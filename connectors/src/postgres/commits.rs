//! Rows of `realtime.watermarks`: the newest commit of each partition.

use std::ops::Range;

use clickmill_schemas::Offset;
use clickmill_schemas::output::{Body, Commit, Output};
use tokio_postgres::Transaction;
use tokio_postgres::types::Type;

use super::halves::Rows;
use super::values::{PgRun, PgTime, bigint, integer};

/// A commit at the same offset may raise the watermark (an idle partition), and none lowers it.
const COMMIT: &str = "INSERT INTO realtime.watermarks AS stored (run, partition, generation, epoch, as_of_offset, \
    watermark, closed_before, counted, rejected, late, dropped, committed_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (run, partition) DO UPDATE SET \
    generation = excluded.generation, epoch = excluded.epoch, as_of_offset = excluded.as_of_offset, \
    watermark = excluded.watermark, closed_before = excluded.closed_before, counted = excluded.counted, \
    rejected = excluded.rejected, late = excluded.late, dropped = excluded.dropped, committed_at = excluded.committed_at \
    WHERE (stored.epoch, stored.as_of_offset, coalesce(stored.closed_before, '-infinity')) \
    <= (excluded.epoch, excluded.as_of_offset, coalesce(excluded.closed_before, '-infinity'))";

/// The commits of a batch, each with where it lies.
pub struct Commits(pub Vec<(Offset, Output)>);

impl Rows for Commits {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn offset(&self, row: usize) -> Offset {
        self.0[row].0
    }

    async fn write(&self, savepoint: &Transaction<'_>, rows: Range<usize>) -> Result<u64, tokio_postgres::Error> {
        let mut written = 0;
        for (_, output) in &self.0[rows] {
            written += write_one(savepoint, output).await?;
        }
        Ok(written)
    }
}

async fn write_one(savepoint: &Transaction<'_>, output: &Output) -> Result<u64, tokio_postgres::Error> {
    let Body::Commit(Commit {
        generation, as_of_offset, watermark_ms, closed_before_ms, ledger, committed_at_ms, ..
    }) = &output.body
    else {
        return Ok(0);
    };
    let time = |epoch_ms: Option<i64>| epoch_ms.map(PgTime::clamped);
    savepoint
        .execute_typed(
            COMMIT,
            &[
                (&PgRun(output.stamp.run), Type::UUID),
                (&integer(output.stamp.partition.0), Type::INT4),
                (&integer(generation.0), Type::INT4),
                (&bigint(output.stamp.epoch.0), Type::INT8),
                (&bigint(as_of_offset.0), Type::INT8),
                (&time(*watermark_ms), Type::TIMESTAMPTZ),
                (&time(*closed_before_ms), Type::TIMESTAMPTZ),
                (&bigint(ledger.counted), Type::INT8),
                (&bigint(ledger.rejected), Type::INT8),
                (&bigint(ledger.late), Type::INT8),
                (&bigint(ledger.dropped), Type::INT8),
                (&time(Some(*committed_at_ms)), Type::TIMESTAMPTZ),
            ],
        )
        .await
}
