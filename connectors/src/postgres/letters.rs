//! The sink of dead letters: those that were given up into `errors.dlq_messages`, attempts into `errors.retry_history`.
//!
//! Reads `ad_events_dlq`, where the newest record of a letter says all that is known of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use clickmill_broker::Ends;
use clickmill_schemas::dead_letter::{Origin, RawPayload};
use clickmill_schemas::dlq::{Attempt, DlqRecord, Letter, LetterId, LetterState};
use clickmill_schemas::{Offset, PartitionId, RunId};
use serde_json::{Value, json};
use tokio_postgres::Transaction;
use tokio_postgres::types::{ToSql, Type};

use super::claim::claim;
use super::days::{Day, Days, LETTERS, RETRIES};
use super::halves::{Refusals, Rows, write_all};
use super::link::{Link, unavailable};
use super::migrate::migrate;
use super::position::{Position, not_there};
use super::values::{PgRun, bigint, integer};
use super::{MOST_DAYS, PostgresSettings};
use crate::progress::Progress;
use crate::reader::Chunk;
use crate::sink::{Opened, RetryOutcome, Sink, SinkError, Written};
use crate::windows::Epochs;

const DOING: &str = "write dead letters";
const TABLES: [&str; 2] = ["errors.dlq_messages", "errors.retry_history"];
/// Run of the letters that no run judged.
const NO_RUN: RunId = RunId([0; 16]);
/// Letters of one statement.
const ROWS: usize = 1_000;

/// `$1`: an array of letters. Those that were given up come in, of the others what is there is kept up to date.
const UPSERT: &str = "INSERT INTO errors.dlq_messages AS stored SELECT run, id, to_timestamp(error_ms / 1000.0), state, reason, \
    error_type, rule, message, stacktrace, raw_payload, raw_encoding, raw_payload_bytes, edited_payload, edited_encoding, \
    retry_count, origin_topic, origin_partition, origin_offset, origin_file, origin_line, connector, stage, module_digest, \
    deployment, to_timestamp(changed_ms / 1000.0) FROM jsonb_to_recordset($1::text::jsonb) AS letter (run uuid, id text, \
    error_ms bigint, state text, reason text, error_type text, rule text, message text, stacktrace text, raw_payload text, \
    raw_encoding text, raw_payload_bytes bigint, edited_payload text, edited_encoding text, retry_count bigint, \
    origin_topic text, origin_partition integer, origin_offset bigint, origin_file text, origin_line bigint, connector text, \
    stage text, module_digest text, deployment bigint, changed_ms bigint, given_up boolean) \
    WHERE given_up OR EXISTS (SELECT FROM errors.dlq_messages m WHERE m.run = letter.run AND m.id = letter.id \
    AND m.error_timestamp = to_timestamp(letter.error_ms / 1000.0)) \
    ON CONFLICT (run, id, error_timestamp) DO UPDATE SET state = excluded.state, reason = excluded.reason, \
    error_type = excluded.error_type, rule = excluded.rule, message = excluded.message, stacktrace = excluded.stacktrace, \
    edited_payload = excluded.edited_payload, edited_encoding = excluded.edited_encoding, \
    retry_count = excluded.retry_count, stage = excluded.stage, module_digest = excluded.module_digest, \
    deployment = excluded.deployment, changed_at = excluded.changed_at";

/// `$1`: an array of attempts.
const ATTEMPTS: &str = "INSERT INTO errors.retry_history AS stored SELECT run, id, attempt, to_timestamp(at_ms / 1000.0), \
    outcome, deployment, rule, message FROM jsonb_to_recordset($1::text::jsonb) AS made (run uuid, id text, attempt bigint, \
    at_ms bigint, outcome text, deployment bigint, rule text, message text) \
    ON CONFLICT (run, id, attempt, attempted_at) DO UPDATE SET outcome = excluded.outcome, \
    deployment = excluded.deployment, rule = excluded.rule, message = excluded.message";

/// Writes dead letters into PostgreSQL.
pub struct LetterSink {
    settings: PostgresSettings,
    position: Position,
    /// Days of letters that are kept; older partitions are dropped.
    retention_days: u32,
    session: Option<Session>,
    refusals: Refusals,
}

struct Session {
    applied: Offset,
    letters: Days,
    retries: Days,
    /// The day that old partitions were dropped for.
    oldest: Day,
}

/// What records say, up to where something is taken back.
#[derive(Default)]
struct Batch {
    letters: BTreeMap<(RunId, LetterId), (Offset, Letter)>,
    given_up: BTreeSet<(RunId, LetterId)>,
}

impl LetterSink {
    pub(super) fn new(settings: PostgresSettings, position: Position, retention_days: u32) -> Self {
        Self { settings, position, retention_days, session: None, refusals: Refusals::default() }
    }

    /// Makes the partitions that records need, and drops those that are too old.
    async fn prepare(&mut self, link: &mut Link, records: &[(Offset, DlqRecord)]) -> Result<(), SinkError> {
        let not_connected = || SinkError::unavailable(DOING, "not connected");
        let Session { letters, retries, oldest, .. } = self.session.as_mut().ok_or_else(not_connected)?;
        let now_oldest = Day::today().before(self.retention_days);
        if now_oldest > *oldest {
            letters.drop_before(link, now_oldest).await?;
            retries.drop_before(link, now_oldest).await?;
            *oldest = now_oldest;
        }
        let (mut days, mut tries) = (Vec::new(), Vec::new());
        for (_, record) in records {
            if let DlqRecord::Letter(letter) = record {
                days.push(Day::of_ms(letter.first_error_ms));
                tries.extend(letter.attempts.iter().map(|attempt| Day::of_ms(attempt.at_ms)));
            }
        }
        for (known, wanted) in [(letters, days), (retries, tries)] {
            let missing = known.missing(wanted);
            if !missing.is_empty() {
                known.make(link, &missing).await?;
            }
        }
        Ok(())
    }

    /// Writes what records say within a transaction. What the server refuses of it gets no letter of its own: that would be
    /// refused as well.
    async fn apply(
        &mut self,
        transaction: &Transaction<'_>,
        records: Vec<(Offset, DlqRecord)>,
        written: &mut Written,
    ) -> Result<(), SinkError> {
        let (run, mut batch) = (self.position.run, Batch::default());
        let refusals = &mut self.refusals;
        refusals.begin();
        for (offset, record) in records {
            match record {
                DlqRecord::Letter(letter) => batch.take(offset, *letter, run),
                DlqRecord::Rewound { run: of, partition, as_of_offset } if of == run => {
                    std::mem::take(&mut batch).write(transaction, (&mut *written, &mut *refusals)).await?;
                    rewind(transaction, run, partition, as_of_offset).await?;
                }
                DlqRecord::Purged { run: of, id } if of == run => {
                    std::mem::take(&mut batch).write(transaction, (&mut *written, &mut *refusals)).await?;
                    purge(transaction, run, &id).await?;
                }
                DlqRecord::Rewound { .. } | DlqRecord::Purged { .. } | DlqRecord::Taken { .. } => {}
            }
        }
        batch.write(transaction, (&mut *written, refusals)).await?;
        for refused in std::mem::take(&mut written.refused) {
            let why = self.settings.hidden.redact(&refused.message);
            tracing::warn!(offset = %refused.offset, rule = refused.rule, "a dead letter is refused: {why}");
        }
        Ok(())
    }
}

impl Sink for LetterSink {
    const KIND: &'static str = "postgres";
    const RESET: &'static str = super::RESET;

    async fn open(&mut self, ends: Ends) -> Result<Opened, SinkError> {
        self.session = None;
        let mut link = self.settings.pool.get().await?;
        let server = link.server.clone();
        migrate(&mut link).await?;
        self.settings.run = (self.settings.runs)()?;
        self.position.run = self.settings.run.id;
        claim(&mut link, &self.settings.run, self.settings.on_other_run).await?;
        let (applied, _) = self.position.load(&link.client).await?;
        for replaced in &self.settings.run.replaced {
            for table in TABLES {
                let delete = format!("DELETE FROM {table} WHERE run = $1");
                let parameters: &[(&(dyn ToSql + Sync), Type)] = &[(&PgRun(*replaced), Type::UUID)];
                link.client.execute_typed(&delete, parameters).await.map_err(unavailable(DOING))?;
            }
        }
        let letters = Days::load(&link.client, &LETTERS, MOST_DAYS).await?;
        let retries = Days::load(&link.client, &RETRIES, MOST_DAYS).await?;
        self.session = Some(Session { applied, letters, retries, oldest: Day::of_ms(0) });
        self.prepare(&mut link, &[]).await?;
        link.give_back();
        Ok(Opened { applied, read_from: applied.max(ends.start), server })
    }

    async fn write(&mut self, chunks: &[Chunk], _: bool) -> Result<Written, SinkError> {
        self.settings.run.check(&self.settings.runs)?;
        let not_connected = || SinkError::unavailable(DOING, "not connected");
        let applied = self.session.as_ref().ok_or_else(not_connected)?.applied;
        let mut written = Written::default();
        let records = read(chunks, &mut written);
        let mut link = self.settings.pool.get().await?;
        self.prepare(&mut link, &records).await?;
        let end = chunks.last().map_or(applied, |chunk| chunk.next_offset);
        let transaction = link.begin().await?;
        self.position.advance(&transaction, applied, end, &Epochs::new()).await?;
        self.apply(&transaction, records, &mut written).await?;
        transaction.commit().await.map_err(unavailable("commit"))?;
        self.refusals.keep();
        link.give_back();
        if let Some(session) = &mut self.session {
            session.applied = end;
        }
        written.applied = Some(end);
        Ok(written)
    }

    async fn check(&mut self) -> Result<Option<String>, SinkError> {
        self.settings.run.check(&self.settings.runs)?;
        let applied = self.session.as_ref().ok_or_else(|| SinkError::unavailable(DOING, "not connected"))?.applied;
        let link = self.settings.pool.get().await?;
        let gone = self.position.check(&link.client, applied, &TABLES.map(str::to_owned)).await?;
        link.give_back();
        if gone.is_empty() { Ok(None) } else { Err(SinkError::unavailable("check the tables", not_there(&gone))) }
    }

    /// What is refused here gets no letter, so nobody asks.
    async fn retry(&mut self, _: &Chunk) -> Result<RetryOutcome, SinkError> {
        Ok(RetryOutcome::Superseded)
    }

    fn progress(&self) -> Progress {
        self.settings.pool.progress().clone()
    }
}

fn read(chunks: &[Chunk], written: &mut Written) -> Vec<(Offset, DlqRecord)> {
    let mut records = Vec::new();
    for chunk in chunks {
        let read = match chunk.records() {
            Ok(read) => read,
            Err(e) => {
                written.skip(format!("batch at offset {}: {e}", chunk.base_offset));
                continue;
            }
        };
        for record in read {
            match record.map(|(offset, record)| (offset, DlqRecord::decode(record.value))) {
                Ok((offset, Ok(record))) => records.push((offset, record)),
                Ok((offset, Err(e))) => written.skip(format!("record at offset {offset} of ad_events_dlq: {e}")),
                Err(e) => written.skip(format!("batch at offset {}: {e}", chunk.base_offset)),
            }
        }
    }
    records
}

impl Batch {
    fn take(&mut self, offset: Offset, letter: Letter, run: RunId) {
        let of = letter.letter.judged.as_ref().map_or(NO_RUN, |judged| judged.run);
        if of != run && of != NO_RUN {
            return;
        }
        let key = (of, letter.id.clone());
        if letter.state == LetterState::Dead {
            self.given_up.insert(key.clone());
        }
        self.letters.insert(key, (offset, letter));
    }

    async fn write(
        self,
        transaction: &Transaction<'_>,
        (written, refusals): (&mut Written, &mut Refusals),
    ) -> Result<(), SinkError> {
        let Self { letters, given_up } = self;
        let (mut rows, mut attempts) = (Vec::with_capacity(letters.len()), Vec::new());
        for (key, (offset, letter)) in &letters {
            let made = |made: &Attempt| {
                json!({
                    "run": key.0, "id": text(&letter.id.0), "attempt": made.attempt, "at_ms": made.at_ms,
                    "outcome": made.outcome.name(), "deployment": made.deployment, "rule": text(&made.rule),
                    "message": text(&made.message),
                })
            };
            attempts.extend(letter.attempts.iter().map(|attempt| (*offset, made(attempt))));
            rows.push((*offset, row(key.0, letter, given_up.contains(key))));
        }
        for (statement, rows, doing) in [(UPSERT, rows, DOING), (ATTEMPTS, attempts, "write attempts")] {
            for rows in rows.chunks(ROWS) {
                let rows = &mut JsonRows { statement, rows };
                write_all(transaction, rows, doing, (&mut *written, &mut *refusals)).await?;
            }
        }
        Ok(())
    }
}

/// Rows that go as one array.
struct JsonRows<'a> {
    statement: &'static str,
    rows: &'a [(Offset, Value)],
}

impl Rows for JsonRows<'_> {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn offset(&self, row: usize) -> Offset {
        self.rows.get(row).map_or(Offset(0), |(offset, _)| *offset)
    }

    async fn write(&self, transaction: &Transaction<'_>, rows: Range<usize>) -> Result<u64, tokio_postgres::Error> {
        let rows: Vec<&Value> = self.rows[rows].iter().map(|(_, row)| row).collect();
        // An array of objects: serialization has no failing case.
        let array = serde_json::to_string(&rows).unwrap_or_default();
        transaction.execute_typed(self.statement, &[(&array, Type::TEXT)]).await
    }
}

fn row(run: RunId, letter: &Letter, given_up: bool) -> Value {
    let Letter { id, state, reason, first_error_ms, changed_at_ms, edited, letter, .. } = letter;
    let (mut topic, mut partition, mut offset, mut file, mut line) = (None, None, None, None, None);
    match &letter.origin {
        Origin::Record { topic: t, partition: p, offset: o } => {
            (topic, partition, offset) = (Some(text(t)), Some(p.0), Some(bigint(o.0)));
        }
        Origin::Line { file: f, line: l, .. } => (file, line) = (Some(text(f)), Some(bigint(*l))),
    }
    let (raw_payload, raw_encoding) = payload(&letter.payload);
    let (edited_payload, edited_encoding) = edited.as_ref().map(payload).unzip();
    let judged = letter.judged.as_ref();
    json!({
        "run": run, "id": text(&id.0), "error_ms": first_error_ms, "state": state.name(), "reason": text(reason),
        "error_type": letter.error_type.name(), "rule": text(&letter.rule), "message": text(&letter.message),
        "stacktrace": letter.stacktrace.as_deref().map(text), "raw_payload": raw_payload, "raw_encoding": raw_encoding,
        "raw_payload_bytes": letter.payload.raw_payload_bytes, "edited_payload": edited_payload,
        "edited_encoding": edited_encoding, "retry_count": letter.retry_count, "origin_topic": topic,
        "origin_partition": partition, "origin_offset": offset, "origin_file": file, "origin_line": line,
        "connector": letter.connector.as_deref().map(text), "stage": judged.map(|judged| text(&judged.stage)),
        "module_digest": judged.map(|judged| judged.sha256), "deployment": judged.map(|judged| judged.deployment),
        "changed_ms": changed_at_ms, "given_up": given_up,
    })
}

/// Text that PostgreSQL can hold.
fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// A payload as text that PostgreSQL can hold, and how it stands for the bytes.
fn payload(payload: &RawPayload) -> (String, &'static str) {
    use base64::Engine as _;
    use clickmill_schemas::dead_letter::RawEncoding;
    match payload.raw_encoding {
        RawEncoding::Utf8 if !payload.raw_payload.contains('\0') => (payload.raw_payload.clone(), "utf8"),
        RawEncoding::Utf8 => (base64::prelude::BASE64_STANDARD.encode(&payload.raw_payload), "base64"),
        RawEncoding::Base64 => (payload.raw_payload.clone(), "base64"),
    }
}

/// What a partition said of records behind a savepoint that it has gone back to is void.
async fn rewind(
    transaction: &Transaction<'_>,
    run: RunId,
    partition: PartitionId,
    as_of: Offset,
) -> Result<(), SinkError> {
    // Attempts are there of letters that are not, and do not say their origins: the id of a record's letter is its place.
    let statements = [
        "DELETE FROM errors.dlq_messages WHERE run = $1 AND origin_partition = $2 AND origin_offset >= $3",
        "DELETE FROM errors.retry_history WHERE run = $1 AND id ~ ('^' || $2::integer || '-[0-9]+$') \
         AND substring(id from '[0-9]+$')::numeric >= $3::bigint",
    ];
    for statement in statements {
        let parameters: &[&(dyn ToSql + Sync)] = &[&PgRun(run), &integer(partition.0), &bigint(as_of.0)];
        transaction.execute(statement, parameters).await.map_err(unavailable(DOING))?;
    }
    Ok(())
}

async fn purge(transaction: &Transaction<'_>, run: RunId, id: &LetterId) -> Result<(), SinkError> {
    for table in TABLES {
        let delete = format!("DELETE FROM {table} WHERE run IN ($1, $2) AND id = $3");
        let parameters: &[&(dyn ToSql + Sync)] = &[&PgRun(run), &PgRun(NO_RUN), &text(&id.0)];
        transaction.execute(&delete, parameters).await.map_err(unavailable(DOING))?;
    }
    Ok(())
}
