//! Hours that are kept summed: which of them a row makes stale, and the task that sums them again.
//!
//! What an hour is, and that readers are right at any moment, is in `schemas/postgres/0004_hourly.sql`. This task only makes
//! their answers quick; a sink waits for nothing of it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::link::unavailable;
use super::pool::Pool;
use super::values::{PartialRow, PgTime};
use crate::sink::SinkError;
use crate::verify::HOUR_MS;

/// Held while hours are summed, and by who removes a run's rows: `roll_up` in `0004_hourly.sql` has the same.
pub const HOURS_LOCK: &str = "SELECT pg_advisory_xact_lock(7307480182513459572)";

/// One hour a transaction: little work at once, however many keys an hour has.
const ROLL_UP: &str = "SELECT realtime.roll_up(1, interval '5 seconds')";
/// Between two looks for stale hours.
const LOOK: Duration = Duration::from_secs(1);
/// A pause after each hour, as a multiple of the time that it took: rows go first.
const PAUSE: u32 = 3;

/// The windows that hours are summed from.
const PANE_MS: i64 = 300_000;

/// The hours that rows make stale.
#[must_use]
pub fn stale<'a>(rows: impl IntoIterator<Item = &'a PartialRow>) -> Vec<PgTime> {
    let panes = rows.into_iter().filter(|row| row.window_size_ms == PANE_MS);
    let hours: BTreeSet<i64> = panes.map(|row| row.start_ms.div_euclid(HOUR_MS) * HOUR_MS).collect();
    // The least and the greatest time of a row are whole hours: none of these is beyond.
    hours.into_iter().map(PgTime::clamped).collect()
}

/// Sums hours as long as this value is there.
pub struct Roller(JoinHandle<()>);

impl Roller {
    /// Over connections of the pool that nobody else wants.
    #[must_use]
    pub fn start(pool: Pool) -> Self {
        Self(tokio::spawn(async move { keep_rolling(&pool).await }))
    }
}

impl Drop for Roller {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn keep_rolling(pool: &Pool) {
    loop {
        let begun = Instant::now();
        let pause = match roll(pool).await {
            Ok(true) => begun.elapsed() * PAUSE,
            Ok(false) => LOOK,
            // Nothing is lost by it: readers sum the hour themselves, and the sink tells of a server that is away.
            Err(e) => {
                tracing::debug!("hours are not summed: {}", e.chain());
                LOOK
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Whether there was an hour to sum.
async fn roll(pool: &Pool) -> Result<bool, SinkError> {
    const DOING: &str = "sum hours";
    let Some(mut link) = pool.get_if_free().await? else { return Ok(false) };
    let transaction = link.begin().await?;
    let hours: i32 = transaction.query_typed_one(ROLL_UP, &[]).await.map_err(unavailable(DOING))?.get(0);
    transaction.commit().await.map_err(unavailable(DOING))?;
    link.give_back();
    Ok(hours > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(window_size_ms: i64, start_ms: i64) -> PartialRow {
        PartialRow {
            partition: 0,
            generation: 0,
            window_size_ms,
            start_ms,
            window_start: PgTime::clamped(start_ms),
            dimension: "total".into(),
            epoch: 1,
            as_of_offset: 1,
            lower_bound: false,
            keys: Vec::new(),
            metrics: Default::default(),
        }
    }

    #[test]
    fn an_hour_is_stale_by_its_5_minute_windows_once_also_before_1970() {
        let rows = [(PANE_MS, -1), (PANE_MS, HOUR_MS - 1), (PANE_MS, 0), (60_000, 9 * HOUR_MS), (PANE_MS, HOUR_MS)];
        let rows = rows.map(|(size, start)| row(size, start));
        assert_eq!(stale(&rows), [-HOUR_MS, 0, HOUR_MS].map(PgTime::clamped));
    }
}
