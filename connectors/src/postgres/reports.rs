//! What PostgreSQL holds of a run's hours, for reports over many days.
//!
//! Read from `realtime.hours` alone, whole columns of keys at once: what a report makes of them (days, weekdays, the largest
//! keys) is not this module's, so that it is the same whoever the hours come from.

use clickmill_schemas::partial::Metrics;
use futures_util::TryStreamExt;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::link::unavailable;
use super::pool::Pool;
use super::values::{PgRun, PgTime};
use super::{PostgresOptions, Reach};
use crate::endpoint::Endpoint;
use crate::hidden::Hidden;
use crate::sink::SinkError;
use crate::{Runs, SinkSource};

const DOING: &str = "read hours";
/// Connections of their own: reports take none from the sinks.
const POOL_SIZE: usize = 2;
/// Longest statement: who asks has something else to turn to.
const STATEMENT_TIMEOUT_MS: u64 = 2_000;
/// Most bytes of hours in one answer.
const LIMIT_BYTES: usize = 64 << 20;
const METRICS: [&str; 5] = ["impressions", "clicks", "conversions", "cost_micros", "revenue_micros"];

/// Which hours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoursQuery {
    pub dimension: String,
    /// All keys where none is named.
    pub key: Option<String>,
    /// Least start, inclusive, epoch milliseconds.
    pub from_ms: Option<i64>,
    /// Greatest start, exclusive.
    pub to_ms: Option<i64>,
}

/// A dimension of an hour, summed over its 5-minute windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hour {
    pub start_ms: i64,
    pub keys: Vec<(String, Metrics)>,
    /// Some of a key's events may be in the overflow bucket.
    pub lower_bound: bool,
}

/// Reads hours of the run that readers are to take. Cheap to clone.
#[derive(Clone)]
pub struct Reports {
    pool: Pool,
    runs: Runs,
    hidden: Hidden,
}

impl PostgresOptions {
    /// What reads the hours that its sinks have written; `endpoint` says where from.
    #[must_use]
    pub fn reports(&self, endpoint: Endpoint, source: &SinkSource) -> Reports {
        let pool = Pool::new(endpoint, Reach { statement_timeout_ms: STATEMENT_TIMEOUT_MS, ..self.reach() }, POOL_SIZE);
        Reports { pool, runs: source.runs.clone(), hidden: self.hidden.clone() }
    }
}

impl Reports {
    /// The hours, in any order; what is asked for and is not there is not among them.
    ///
    /// # Errors
    /// [`SinkError::Unavailable`] where the server is away or slow, does not hold the run yet, or the answer would not fit.
    pub async fn hours(&self, query: &HoursQuery) -> Result<Vec<Hour>, SinkError> {
        let run = (self.runs)()?.id;
        let mut link = self.pool.get().await?;
        let transaction = link.begin_reading().await?;
        // Another run takes its place in one transaction, whose rows are not those of this one.
        let current = "SELECT EXISTS (SELECT FROM realtime.runs WHERE run = $1 AND is_current)";
        let current =
            transaction.query_typed_one(current, &[(&PgRun(run), Type::UUID)]).await.map_err(unavailable(DOING))?;
        if !current.get::<_, bool>(0) {
            return Err(SinkError::unavailable(DOING, "it does not hold all of the current run yet"));
        }
        let (run, from, to) = (PgRun(run), bound(query.from_ms, i64::MIN), bound(query.to_ms, i64::MAX));
        // As they are stored.
        let dimension = query.dimension.replace('\0', "\u{fffd}");
        let key = query.key.as_ref().map(|key| key.replace('\0', "\u{fffd}"));
        let mut of: Vec<(&(dyn ToSql + Sync), Type)> =
            vec![(&run, Type::UUID), (&dimension, Type::TEXT), (&from, Type::TIMESTAMPTZ), (&to, Type::TIMESTAMPTZ)];
        if let Some(key) = &key {
            of.push((key, Type::TEXT));
        }
        let rows = transaction.query_typed_raw(&select(key.is_some()), of).await.map_err(unavailable(DOING))?;
        let mut rows = std::pin::pin!(rows);
        let (mut hours, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.try_next().await.map_err(unavailable(DOING))? {
            bytes += row.raw_size_bytes();
            if bytes > LIMIT_BYTES {
                return Err(SinkError::unavailable(DOING, format!("they take more than {LIMIT_BYTES} bytes")));
            }
            hours.push(hour(&row).map_err(unavailable(DOING))?);
        }
        transaction.commit().await.map_err(unavailable(DOING))?;
        link.give_back();
        Ok(hours)
    }

    /// An error in words, without what must not be printed.
    #[must_use]
    pub fn told(&self, error: &SinkError) -> String {
        self.hidden.redact(&error.chain())
    }
}

fn bound(ms: Option<i64>, without: i64) -> PgTime {
    PgTime::clamped(ms.unwrap_or(without))
}

/// An hour in which the one key does not appear is told of all the same: its lower bound may be that key's.
fn select(one_key: bool) -> String {
    let slice = |column: &str| match one_key {
        true => format!("coalesce(h.{column}[k.at:k.at], '{{}}')"),
        false => format!("h.{column}"),
    };
    let columns = ["keys"].into_iter().chain(METRICS).map(slice).collect::<Vec<_>>().join(", ");
    let at = if one_key { "CROSS JOIN LATERAL (SELECT array_position(h.keys, $5) AS at) k" } else { "" };
    format!(
        "SELECT (extract(epoch FROM h.hour) * 1000)::bigint, h.lower_bound, {columns} FROM realtime.hours h {at} \
         WHERE h.run = $1 AND h.dimension = $2 AND h.hour >= $3 AND h.hour < $4"
    )
}

fn hour(row: &Row) -> Result<Hour, tokio_postgres::Error> {
    let keys: Vec<String> = row.try_get(2)?;
    let mut metrics: [Vec<i64>; 5] = Default::default();
    for (i, column) in metrics.iter_mut().enumerate() {
        *column = row.try_get(3 + i)?;
    }
    let of = |i: usize| {
        let [impressions, clicks, conversions, cost_micros, revenue_micros] =
            std::array::from_fn(|m| metrics[m].get(i).copied().unwrap_or_default());
        Metrics { impressions, clicks, conversions, cost_micros, revenue_micros }
    };
    let keys = keys.into_iter().enumerate().map(|(i, key)| (key, of(i))).collect();
    Ok(Hour { start_ms: row.try_get(0)?, keys, lower_bound: row.try_get(1)? })
}
