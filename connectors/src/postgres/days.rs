//! Which days of a table get a partition of their own, and which lose theirs. Pure planning, and the statements.
//!
//! A day in the expected range gets one when its first row comes, up to a limit; everything else (an event of the year
//! 2100) lies in the default partition, and so does a day that already has rows there.

use std::collections::BTreeSet;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use tokio_postgres::Client;

use super::link::{Link, unavailable};
use crate::sink::SinkError;

const DAY_MS: i64 = 86_400_000;
/// 2014-01-01: no Avazu event is older.
const FIRST_DAY: Day = Day(16_071);
/// How far ahead of today a day is expected.
const DAYS_AHEAD: i64 = 731;

/// Days since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(i64);

impl Day {
    #[must_use]
    pub fn today() -> Self {
        Self::of_ms(Timestamp::now().as_millisecond())
    }

    /// So many days earlier.
    #[must_use]
    pub fn before(self, days: u32) -> Self {
        Self(self.0.saturating_sub(days.into()))
    }

    #[must_use]
    pub const fn of_ms(epoch_ms: i64) -> Self {
        Self(epoch_ms.div_euclid(DAY_MS))
    }

    fn date(self) -> Option<Date> {
        let since = SignedDuration::from_hours(self.0.checked_mul(24)?);
        Timestamp::UNIX_EPOCH.checked_add(since).ok().map(|t| t.to_zoned(jiff::tz::TimeZone::UTC).date())
    }

    fn of_date(date: Date) -> Option<Self> {
        let midnight = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
        Some(Self::of_ms(midnight.as_millisecond()))
    }
}

/// A table that is partitioned by day.
#[derive(Debug)]
pub struct Table {
    schema: &'static str,
    name: &'static str,
    /// The time that it is partitioned by.
    column: &'static str,
}

pub const WINDOWS: Table = Table { schema: "realtime", name: "window_partials", column: "window_start" };
pub const LETTERS: Table = Table { schema: "errors", name: "dlq_messages", column: "error_timestamp" };
pub const RETRIES: Table = Table { schema: "errors", name: "retry_history", column: "attempted_at" };

/// The partitions that are known to be there or not to come.
#[derive(Clone, Debug)]
pub struct Days {
    table: &'static Table,
    made: BTreeSet<Day>,
    /// They have rows in the default partition.
    in_default: BTreeSet<Day>,
    last: Day,
    most: usize,
}

impl Days {
    /// `names` are those of the partitions there are; at most `most` are made.
    fn new<'a>(table: &'static Table, names: impl IntoIterator<Item = &'a str>, today: Day, most: usize) -> Self {
        let day = |name: &str| {
            let digits = name.strip_prefix(table.name)?.strip_prefix('_')?;
            Day::of_date(Date::strptime("%Y%m%d", digits).ok()?)
        };
        Self {
            table,
            made: names.into_iter().filter_map(day).collect(),
            in_default: BTreeSet::new(),
            last: Day(today.0 + DAYS_AHEAD),
            most,
        }
    }

    /// The days of `wanted` to make a partition for, oldest first.
    #[must_use]
    pub fn missing(&self, wanted: impl IntoIterator<Item = Day>) -> Vec<Day> {
        let new: BTreeSet<Day> = wanted
            .into_iter()
            .filter(|d| (FIRST_DAY..=self.last).contains(d))
            .filter(|d| !self.made.contains(d) && !self.in_default.contains(d))
            .collect();
        new.into_iter().take(self.most.saturating_sub(self.made.len())).collect()
    }

    /// The partitions that are known to be there.
    pub fn partitions(&self) -> impl Iterator<Item = String> {
        let Table { schema, name, .. } = self.table;
        let days = self.made.iter().filter_map(|day| day.date());
        days.map(move |date| format!("{schema}.{name}_{}", date.strftime("%Y%m%d")))
    }

    /// Asks the database which there are.
    ///
    /// # Errors
    /// [`SinkError::Unavailable`]
    pub async fn load(client: &Client, table: &'static Table, most: usize) -> Result<Self, SinkError> {
        let rows = client
            .query_typed(
                &format!(
                    "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
                     WHERE i.inhparent = '{}.{}'::regclass",
                    table.schema, table.name
                ),
                &[],
            )
            .await
            .map_err(unavailable("list the days"))?;
        let names: Vec<String> = rows.iter().map(|r| r.get(0)).collect();
        Ok(Self::new(table, names.iter().map(String::as_str), Day::today(), most))
    }

    /// Makes the partitions, in a transaction of their own.
    ///
    /// # Errors
    /// [`SinkError::Unavailable`]
    pub async fn make(&mut self, link: &mut Link, days: &[Day]) -> Result<(), SinkError> {
        const DOING: &str = "make partitions";
        let Table { schema, name, column } = self.table;
        let transaction = link.begin_alone().await?;
        for day in days {
            let (Some(from), Some(to)) = (day.date(), Day(day.0 + 1).date()) else {
                continue;
            };
            let occupied = format!(
                "SELECT EXISTS (SELECT FROM {schema}.{name}_default \
                 WHERE {column} >= '{from} 00:00+00' AND {column} < '{to} 00:00+00')"
            );
            let row = transaction.query_typed_one(&occupied, &[]).await.map_err(unavailable(DOING))?;
            if row.get(0) {
                self.in_default.insert(*day);
                continue;
            }
            // Room on each page for the next versions of a row.
            let make = format!(
                "CREATE TABLE IF NOT EXISTS {schema}.{name}_{} PARTITION OF {schema}.{name} \
                 FOR VALUES FROM ('{from} 00:00+00') TO ('{to} 00:00+00') WITH (fillfactor = 70)",
                from.strftime("%Y%m%d")
            );
            transaction.batch_execute(&make).await.map_err(unavailable(DOING))?;
            self.made.insert(*day);
        }
        transaction.commit().await.map_err(unavailable(DOING))
    }

    /// Drops the partitions of the days before this one.
    ///
    /// # Errors
    /// [`SinkError::Unavailable`]
    pub async fn drop_before(&mut self, link: &mut Link, oldest: Day) -> Result<(), SinkError> {
        const DOING: &str = "drop old partitions";
        let kept = self.made.split_off(&oldest);
        let old = std::mem::replace(&mut self.made, kept);
        if old.is_empty() {
            return Ok(());
        }
        let transaction = link.begin_setup().await?;
        for date in old.into_iter().filter_map(Day::date) {
            let Table { schema, name, .. } = self.table;
            let drop = format!("DROP TABLE IF EXISTS {schema}.{name}_{}", date.strftime("%Y%m%d"));
            transaction.batch_execute(&drop).await.map_err(unavailable(DOING))?;
        }
        transaction.commit().await.map_err(unavailable(DOING))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(date: &str) -> Day {
        Day::of_date(date.parse().unwrap()).unwrap()
    }

    #[test]
    fn days_in_the_expected_range_get_a_partition_once_and_others_none() {
        assert_eq!(day("2014-01-01"), FIRST_DAY);
        let mut days =
            Days::new(&WINDOWS, ["window_partials_default", "window_partials_20141021", "x"], day("2026-11-21"), 4);
        let wanted = ["1900-01-01", "2013-12-31", "2014-10-21", "2014-10-22", "2028-11-21", "2028-11-22", "2100-01-01"];
        assert_eq!(days.missing(wanted.map(day)), [day("2014-10-22"), day("2028-11-21")]);
        assert_eq!(days.missing([Day(i64::MAX), Day(i64::MIN)]), []);
        days.in_default.insert(day("2014-10-22"));
        assert_eq!(days.missing([day("2014-10-22")]), []);
    }

    #[test]
    fn the_number_of_partitions_is_bounded() {
        let days = Days::new(&WINDOWS, ["window_partials_20141021"], day("2026-11-21"), 3);
        let many = (0..50).map(|i| Day(FIRST_DAY.0 + i));
        assert_eq!(days.missing(many), [FIRST_DAY, Day(FIRST_DAY.0 + 1)]);
    }

    #[test]
    fn windows_before_1970_belong_to_the_day_they_begin_in() {
        assert_eq!(Day::of_ms(-1), Day(-1));
        assert_eq!(Day(-1).date().unwrap().to_string(), "1969-12-31");
    }
}
