//! The sink of raw events: the input topic as it came, each record once, JSON where it is JSON.

use std::error::Error;
use std::ops::Range;
use std::pin::pin;

use bytes::{BufMut, BytesMut};
use clickmill_broker::Ends;
use clickmill_schemas::Offset;
use serde::de::IgnoredAny;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{IsNull, ToSql, Type, accepts, to_sql_checked};
use tokio_postgres::{Client, Transaction};

use super::PostgresSettings;
use super::claim::claim;
use super::link::{blames_data, connect, unavailable};
use super::migrate::migrate;
use super::position::Position;
use super::values::{PgRun, PgTime, bigint, integer};
use crate::reader::Chunk;
use crate::sink::{Opened, Sink, SinkError, Written};
use crate::windows::Epochs;

const COPY: &str = "COPY realtime.raw_events (run, topic, partition, \"offset\", written_at, value, payload) \
    FROM STDIN BINARY";
const COPY_TYPES: [Type; 7] =
    [Type::UUID, Type::TEXT, Type::INT4, Type::INT8, Type::TIMESTAMPTZ, Type::JSONB, Type::BYTEA];
const DOING: &str = "write raw events";

/// Writes raw events into PostgreSQL.
pub struct RawSink {
    settings: PostgresSettings,
    position: Position,
    session: Option<(Client, Offset)>,
}

impl RawSink {
    pub(super) const fn new(settings: PostgresSettings, position: Position) -> Self {
        Self { settings, position, session: None }
    }
}

struct RawRow<'a> {
    offset: i64,
    written_at: PgTime,
    value: &'a [u8],
    is_json: bool,
}

impl Sink for RawSink {
    const KIND: &'static str = "postgres";
    const RESET: &'static str = super::RESET;

    async fn open(&mut self, ends: Ends) -> Result<Opened, SinkError> {
        self.session = None;
        let url = self.settings.endpoint.postgres().await?;
        let server = url.masked();
        let mut client = connect(&url).await?;
        migrate(&mut client, &server).await?;
        claim(&mut client, &self.settings.run, self.settings.on_other_run, &server).await?;
        let (applied, _) = self.position.load(&client).await?;
        self.session = Some((client, applied));
        // Retention may have taken the oldest records: a copy begins with what is there.
        Ok(Opened { applied, read_from: applied.max(ends.start), server })
    }

    async fn write(&mut self, chunks: &[Chunk], _: bool) -> Result<Written, SinkError> {
        let position = self.position.clone();
        let Some((client, applied)) = self.session.as_mut() else {
            return Err(SinkError::unavailable(DOING, "not connected"));
        };
        let mut written = Written::default();
        let mut rows = Vec::new();
        for chunk in chunks {
            read(chunk, &mut rows, &mut written);
        }
        let end = chunks.last().map_or(*applied, |chunk| chunk.next_offset);
        let mut transaction = client.transaction().await.map_err(unavailable("begin"))?;
        position.advance(&transaction, *applied, end, &Epochs::new()).await?;
        copy_all(&mut transaction, &position, &mut rows, &mut written).await?;
        transaction.commit().await.map_err(unavailable("commit"))?;
        *applied = end;
        written.applied = Some(end);
        Ok(written)
    }

    async fn check(&mut self) -> Result<(), SinkError> {
        match &self.session {
            Some((client, applied)) => self.position.check(client, *applied).await,
            None => Err(SinkError::unavailable(DOING, "not connected")),
        }
    }
}

fn read<'a>(chunk: &'a Chunk, rows: &mut Vec<RawRow<'a>>, written: &mut Written) {
    let records = match chunk.records() {
        Ok(records) => records,
        Err(e) => return written.skip(format!("batch at offset {}: {e}", chunk.base_offset)),
    };
    for record in records {
        match record {
            Ok((offset, record)) => rows.push(RawRow {
                offset: bigint(offset.0),
                written_at: PgTime::clamped(chunk.base_timestamp_ms.saturating_add(record.timestamp_delta_ms)),
                value: record.value,
                is_json: is_json(record.value),
            }),
            Err(e) => written.skip(format!("batch at offset {}: {e}", chunk.base_offset)),
        }
    }
}

/// Most of what `jsonb` refuses; the rest (lone surrogates, huge numbers) the server finds.
fn is_json(value: &[u8]) -> bool {
    std::str::from_utf8(value).is_ok_and(|text| !text.contains("\\u0000"))
        && serde_json::from_slice::<IgnoredAny>(value).is_ok()
}

/// Writes all rows; those that are no `jsonb` after all are found by halving and written as bytes.
async fn copy_all(
    transaction: &mut Transaction<'_>,
    position: &Position,
    rows: &mut [RawRow<'_>],
    written: &mut Written,
) -> Result<(), SinkError> {
    let mut todo: Vec<Range<usize>> = Vec::new();
    if !rows.is_empty() {
        todo.push(0..rows.len());
    }
    while let Some(range) = todo.pop() {
        let savepoint = transaction.transaction().await.map_err(unavailable(DOING))?;
        match copy(&savepoint, position, &rows[range.clone()]).await {
            Ok(n) => {
                written.rows += n;
                savepoint.commit().await.map_err(unavailable(DOING))?;
            }
            Err(e) if blames_data(&e) => {
                savepoint.rollback().await.map_err(unavailable(DOING))?;
                if range.len() > 1 {
                    let middle = range.start + range.len() / 2;
                    todo.extend([range.start..middle, middle..range.end]);
                } else if std::mem::take(&mut rows[range.start].is_json) {
                    todo.push(range);
                } else {
                    let offset = rows[range.start].offset;
                    let e = SinkError::unavailable("refused", e).chain();
                    written.skip(format!("record at offset {offset} of {}: {e}", position.at));
                }
            }
            Err(e) => return Err(unavailable(DOING)(e)),
        }
    }
    Ok(())
}

async fn copy(
    savepoint: &Transaction<'_>,
    position: &Position,
    rows: &[RawRow<'_>],
) -> Result<u64, tokio_postgres::Error> {
    let (run, topic, partition) = (PgRun(position.run), &*position.at.topic, integer(position.at.partition.0));
    let mut writer = pin!(BinaryCopyInWriter::new(savepoint.copy_in(COPY).await?, &COPY_TYPES));
    for row in rows {
        let json = row.is_json.then_some(PgJson(row.value));
        let payload = (!row.is_json).then_some(row.value);
        writer.as_mut().write(&[&run, &topic, &partition, &row.offset, &row.written_at, &json, &payload]).await?;
    }
    writer.finish().await
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
