//! Rows of `realtime.watermarks`: the newest commit of each partition, all of a batch in one statement.

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
    SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (run, partition) DO UPDATE SET \
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

    async fn write(&self, transaction: &Transaction<'_>, rows: Range<usize>) -> Result<u64, tokio_postgres::Error> {
        let commits: Vec<(&Output, &Commit)> = self.0[rows].iter().filter_map(commit).collect();
        let time = |epoch_ms: Option<i64>| epoch_ms.map(PgTime::clamped);
        let integers = |of: fn(&(&Output, &Commit)) -> u32| commits.iter().map(of).map(integer).collect::<Vec<i32>>();
        let bigints = |of: fn(&(&Output, &Commit)) -> u64| commits.iter().map(of).map(bigint).collect::<Vec<i64>>();
        let times = |of: fn(&(&Output, &Commit)) -> Option<i64>| commits.iter().map(of).map(time).collect::<Vec<_>>();
        let runs: Vec<PgRun> = commits.iter().map(|(output, _)| PgRun(output.stamp.run)).collect();
        transaction
            .execute_typed(
                COMMIT,
                &[
                    (&runs, Type::UUID_ARRAY),
                    (&integers(|(output, _)| output.stamp.partition.0), Type::INT4_ARRAY),
                    (&integers(|(_, commit)| commit.generation.0), Type::INT4_ARRAY),
                    (&bigints(|(output, _)| output.stamp.epoch.0), Type::INT8_ARRAY),
                    (&bigints(|(_, commit)| commit.as_of_offset.0), Type::INT8_ARRAY),
                    (&times(|(_, commit)| commit.watermark_ms), Type::TIMESTAMPTZ_ARRAY),
                    (&times(|(_, commit)| commit.closed_before_ms), Type::TIMESTAMPTZ_ARRAY),
                    (&bigints(|(_, commit)| commit.ledger.counted), Type::INT8_ARRAY),
                    (&bigints(|(_, commit)| commit.ledger.rejected), Type::INT8_ARRAY),
                    (&bigints(|(_, commit)| commit.ledger.late), Type::INT8_ARRAY),
                    (&bigints(|(_, commit)| commit.ledger.dropped), Type::INT8_ARRAY),
                    (&times(|(_, commit)| Some(commit.committed_at_ms)), Type::TIMESTAMPTZ_ARRAY),
                ],
            )
            .await
    }
}

fn commit((_, output): &(Offset, Output)) -> Option<(&Output, &Commit)> {
    match &output.body {
        Body::Commit(commit) => Some((output, commit)),
        _ => None,
    }
}
