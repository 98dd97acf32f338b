//! The sink of raw events: the input topic as it came, each record once, JSON where it is JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::ops::Range;
use std::pin::pin;

use bytes::{BufMut, BytesMut};
use clickmill_broker::Ends;
use clickmill_schemas::Offset;
use serde::de::IgnoredAny;
use tokio_postgres::Transaction;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{IsNull, ToSql, Type, accepts, to_sql_checked};

use super::PostgresSettings;
use super::claim::claim;
use super::halves::{Refusals, Rows, write_all};
use super::link::unavailable;
use super::migrate::migrate;
use super::position::{Position, not_there};
use super::values::{PgRun, PgTime, bigint, integer};
use crate::progress::Progress;
use crate::reader::Chunk;
use crate::sink::{Opened, Refused, RetryOutcome, Sink, SinkError, Written};
use crate::windows::Epochs;

const TABLE: &str = "realtime.raw_events";
const COPY: &str = "COPY realtime.raw_events (run, topic, partition, \"offset\", written_at, value, payload) \
    FROM STDIN BINARY";
const COPY_TYPES: [Type; 7] =
    [Type::UUID, Type::TEXT, Type::INT4, Type::INT8, Type::TIMESTAMPTZ, Type::JSONB, Type::BYTEA];
const DOING: &str = "write raw events";
const THERE: &str = "SELECT 1 FROM realtime.raw_events WHERE run = $1 AND \"offset\" = $2 AND partition = $3";

/// Writes raw events into PostgreSQL.
pub struct RawSink {
    settings: PostgresSettings,
    position: Position,
    /// None where it is not connected.
    applied: Option<Offset>,
    /// Of the batch that is being written, or that could not be.
    written: Written,
    /// Of the same: what is no `jsonb` after all.
    as_bytes: BTreeSet<Offset>,
    refusals: Refusals,
}

impl RawSink {
    pub(super) fn new(settings: PostgresSettings, position: Position) -> Self {
        let (written, refusals) = (Written::default(), Refusals::default());
        Self { settings, position, applied: None, written, as_bytes: BTreeSet::new(), refusals }
    }
}

struct RawRow<'a> {
    at: Offset,
    /// The same, as it is stored.
    offset: i64,
    written_at: PgTime,
    value: &'a [u8],
    is_json: bool,
}

impl Sink for RawSink {
    const KIND: &'static str = "postgres";
    const RESET: &'static str = super::RESET;

    async fn open(&mut self, ends: Ends) -> Result<Opened, SinkError> {
        self.applied = None;
        let mut link = self.settings.pool.get().await?;
        let server = link.server.clone();
        migrate(&mut link).await?;
        claim(&mut link, &self.settings.run, self.settings.on_other_run).await?;
        let (applied, _) = self.position.load(&link.client).await?;
        link.give_back();
        self.applied = Some(applied);
        // Retention may have taken the oldest records: a copy begins with what is there.
        Ok(Opened { applied, read_from: applied.max(ends.start), server })
    }

    async fn write(&mut self, chunks: &[Chunk], _: bool) -> Result<Written, SinkError> {
        let Self { settings, position, applied, written, as_bytes, refusals } = self;
        let from = applied.ok_or_else(|| SinkError::unavailable(DOING, "not connected"))?;
        let mut known = written.begin_anew();
        refusals.begin();
        let mut rows = RawRows { position, rows: Vec::new(), as_bytes };
        for chunk in chunks {
            rows.read(chunk, &mut known, written);
        }
        let end = chunks.last().map_or(from, |chunk| chunk.next_offset);
        let mut link = settings.pool.get().await?;
        let transaction = link.begin().await?;
        position.advance(&transaction, from, end, &Epochs::new()).await?;
        write_all(&transaction, &mut rows, DOING, (&mut *written, &mut *refusals)).await?;
        settings.letters.write(&written.refused).await?;
        transaction.commit().await.map_err(unavailable("commit"))?;
        link.give_back();
        as_bytes.clear();
        refusals.keep();
        *applied = Some(end);
        Ok(Written { applied: Some(end), ..std::mem::take(written) })
    }

    async fn check(&mut self) -> Result<Option<String>, SinkError> {
        let applied = self.applied.ok_or_else(|| SinkError::unavailable(DOING, "not connected"))?;
        let link = self.settings.pool.get().await?;
        let gone = self.position.check(&link.client, applied, &[TABLE.to_owned()]).await?;
        link.give_back();
        if gone.is_empty() { Ok(None) } else { Err(SinkError::unavailable("check the tables", not_there(&gone))) }
    }

    async fn retry(&mut self, chunk: &Chunk) -> Result<RetryOutcome, SinkError> {
        let (mut written, mut as_bytes) = (Written::default(), BTreeSet::new());
        let mut rows = RawRows { position: &self.position, rows: Vec::new(), as_bytes: &mut as_bytes };
        rows.read(chunk, &mut BTreeMap::new(), &mut written);
        let mut link = self.settings.pool.get().await?;
        let transaction = link.begin().await?;
        for row in &rows.rows {
            let there = transaction
                .query_typed_opt(
                    THERE,
                    &[
                        (&PgRun(self.position.run), Type::UUID),
                        (&row.offset, Type::INT8),
                        (&integer(self.position.at.partition.0), Type::INT4),
                    ],
                )
                .await
                .map_err(unavailable(DOING))?;
            if there.is_some() {
                return Ok(RetryOutcome::Superseded);
            }
        }
        write_all(&transaction, &mut rows, DOING, (&mut written, &mut Refusals::default())).await?;
        transaction.commit().await.map_err(unavailable("commit"))?;
        link.give_back();
        Ok(written.outcome())
    }

    fn progress(&self) -> Progress {
        self.settings.pool.progress().clone()
    }
}

/// Most of what `jsonb` refuses; the rest (lone surrogates, huge numbers) the server finds.
fn is_json(value: &[u8]) -> bool {
    std::str::from_utf8(value).is_ok_and(|text| !text.contains("\\u0000"))
        && serde_json::from_slice::<IgnoredAny>(value).is_ok()
}

/// Records as rows; those that are no `jsonb` after all are written as bytes.
struct RawRows<'a> {
    position: &'a Position,
    rows: Vec<RawRow<'a>>,
    /// Those of which that is known.
    as_bytes: &'a mut BTreeSet<Offset>,
}

impl<'a> RawRows<'a> {
    /// Takes the records of a chunk, but for those that are known to be refused.
    fn read(&mut self, chunk: &'a Chunk, known: &mut BTreeMap<Offset, Refused>, written: &mut Written) {
        let records = match chunk.records() {
            Ok(records) => records,
            Err(e) => return written.skip(format!("batch at offset {}: {e}", chunk.base_offset)),
        };
        for record in records {
            let (offset, record) = match record {
                Ok(read) => read,
                Err(e) => {
                    written.skip(format!("batch at offset {}: {e}", chunk.base_offset));
                    continue;
                }
            };
            if let Some(Refused { offset, rule, message }) = known.remove(&offset) {
                written.refuse(offset, rule, message);
                continue;
            }
            self.rows.push(RawRow {
                at: offset,
                offset: bigint(offset.0),
                written_at: PgTime::clamped(chunk.base_timestamp_ms.saturating_add(record.timestamp_delta_ms)),
                value: record.value,
                is_json: is_json(record.value) && !self.as_bytes.contains(&offset),
            });
        }
    }
}

impl Rows for RawRows<'_> {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn offset(&self, row: usize) -> Offset {
        self.rows[row].at
    }

    async fn write(&self, transaction: &Transaction<'_>, rows: Range<usize>) -> Result<u64, tokio_postgres::Error> {
        let at = &self.position.at;
        let (run, topic, partition) = (PgRun(self.position.run), &*at.topic, integer(at.partition.0));
        let mut writer = pin!(BinaryCopyInWriter::new(transaction.copy_in(COPY).await?, &COPY_TYPES));
        for row in &self.rows[rows] {
            let json = row.is_json.then_some(PgJson(row.value));
            let payload = (!row.is_json).then_some(row.value);
            writer.as_mut().write(&[&run, &topic, &partition, &row.offset, &row.written_at, &json, &payload]).await?;
        }
        writer.finish().await
    }

    /// Not where a constraint or a trigger refuses it: that would go round it.
    fn change(&mut self, row: usize, rule: &str) -> bool {
        let row = &mut self.rows[row];
        let of_type = ["sqlstate_22", "sqlstate_54"].iter().any(|class| rule.starts_with(class));
        let changes = of_type && std::mem::take(&mut row.is_json);
        if changes {
            self.as_bytes.insert(row.at);
        }
        changes
    }
}

/// Text that is JSON, as `jsonb`.
#[derive(Debug)]
struct PgJson<'a>(&'a [u8]);

impl ToSql for PgJson<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        // The version of the binary form; the text follows.
        out.put_u8(1);
        out.put_slice(self.0);
        Ok(IsNull::No)
    }

    accepts!(JSONB);
    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_jsonb_refuses_is_not_taken_for_json() {
        assert!(is_json(br#"{"a": [1, "\u00e9"]}"#));
        for bad in [&b"{"[..], b"", b"{\"a\":\"\xff\"}", br#"{"a":"\u0000"}"#, b"{} x"] {
            assert!(!is_json(bad), "{bad:?}");
        }
    }
}
