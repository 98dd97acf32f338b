//! The sink of `ctr_windows`: partials and commits, upserted by version.

use clickmill_broker::Ends;
use clickmill_schemas::{Offset, RunId};
use tokio_postgres::Transaction;
use tokio_postgres::types::Type;

use super::claim::{change_over, claim};
use super::commits::Commits;
use super::days::{self, Day, Days};
use super::halves::write_all;
use super::hours::Roller;
use super::link::{Link, unavailable};
use super::migrate::migrate;
use super::partials::{Partials, RowTypes};
use super::position::Position;
use super::values::{PartialRow, PgRun, integer};
use super::{MOST_DAYS, PostgresSettings};
use crate::letters::UNREADABLE;
use crate::reader::Chunk;
use crate::sink::{Opened, RetryOutcome, Sink, SinkError, Written};
use crate::windows::{Terms, WindowBatch};

/// Partitions that were added while it ran.
const GROW: &str = "UPDATE realtime.runs SET partitions = $2 WHERE run = $1 AND partitions < $2";

/// Writes windows into PostgreSQL.
pub struct WindowSink {
    settings: PostgresSettings,
    position: Position,
    session: Option<Session>,
}

struct Session {
    types: RowTypes,
    days: Days,
    terms: Terms,
    applied: Offset,
    /// As `realtime.runs` has it, or less.
    partitions: u32,
    /// Readers take our run.
    is_current: bool,
    /// At work beside the rows.
    _roller: Roller,
}

impl WindowSink {
    pub(super) const fn new(settings: PostgresSettings, position: Position) -> Self {
        Self { settings, position, session: None }
    }

    fn check_run(&self) -> Result<(), SinkError> {
        if (self.settings.runs)()?.id == self.position.run { Ok(()) } else { Err(SinkError::other_run()) }
    }
}

impl Session {
    /// The rows of what was read, and the days that they need.
    async fn rows(
        &mut self,
        link: &mut Link,
        (batch, run): (WindowBatch<'_>, RunId),
        written: &mut Written,
    ) -> Result<(Partials, Commits), SinkError> {
        let mut rows = Vec::with_capacity(batch.partials.len());
        for ((owner, window), newest) in &batch.partials {
            match PartialRow::new(owner, window, newest) {
                Ok(row) => rows.push((newest.offset, row)),
                Err(e) => written.refuse(newest.offset, UNREADABLE, e.to_string()),
            }
        }
        rows.sort_unstable_by(|(_, a), (_, b)| a.key().cmp(&b.key()));
        let missing = self.days.missing(rows.iter().map(|(_, row)| Day::of_ms(row.start_ms)));
        if !missing.is_empty() {
            self.days.make(link, &missing).await?;
        }
        let partials = Partials { run: PgRun(run), types: self.types.clone(), rows };
        Ok((partials, Commits(batch.commits.into_values().collect())))
    }
}

/// Writes rows, but for what is refused.
async fn write_rows(
    transaction: &mut Transaction<'_>,
    (mut partials, mut commits): (Partials, Commits),
    written: &mut Written,
) -> Result<(), SinkError> {
    write_all(transaction, &mut partials, "write windows", written).await?;
    write_all(transaction, &mut commits, "write watermarks", written).await
}

impl Sink for WindowSink {
    const KIND: &'static str = "postgres";
    const RESET: &'static str = super::RESET;

    async fn open(&mut self, _: Ends) -> Result<Opened, SinkError> {
        self.session = None;
        let mut link = self.settings.pool.get().await?;
        let server = link.server.clone();
        migrate(&mut link).await?;
        self.settings.run = (self.settings.runs)()?;
        self.position.run = self.settings.run.id;
        let mut is_current = claim(&mut link, &self.settings.run, self.settings.on_other_run).await?;
        let (applied, epochs) = self.position.load(&link.client).await?;
        if !is_current && applied >= self.settings.run.complete_at {
            let transaction = link.begin_setup().await?;
            change_over(&transaction, &self.settings.run).await?;
            transaction.commit().await.map_err(unavailable("commit"))?;
            is_current = true;
        }
        let days = Days::load(&link.client, &days::WINDOWS, MOST_DAYS).await?;
        let types = RowTypes::load(&link.client).await?;
        link.give_back();
        let terms = Terms::new(self.position.run, epochs);
        let partitions = self.settings.run.partitions;
        let roller = Roller::start(self.settings.pool.clone());
        self.session = Some(Session { types, days, terms, applied, partitions, is_current, _roller: roller });
        Ok(Opened { applied, read_from: applied, server })
    }

    async fn write(&mut self, chunks: &[Chunk], _: bool) -> Result<Written, SinkError> {
        self.check_run()?;
        let Self { settings, position, session } = self;
        let session = session.as_mut().ok_or_else(not_connected)?;
        let mut written = Written::default();
        let batch = WindowBatch::read(chunks, &mut session.terms, &mut written);
        let (end, partitions) = (batch.end.max(session.applied), batch.partitions.max(session.partitions));
        let complete = !session.is_current && end >= settings.run.complete_at;
        let mut link = settings.pool.get().await?;
        let rows = session.rows(&mut link, (batch, position.run), &mut written).await?;
        let mut transaction = link.begin().await?;
        position.advance(&transaction, session.applied, end, session.terms.as_of(end)).await?;
        write_rows(&mut transaction, rows, &mut written).await?;
        if partitions > session.partitions {
            let doing = unavailable("write the number of partitions");
            let of = (PgRun(position.run), integer(partitions));
            transaction.execute_typed(GROW, &[(&of.0, Type::UUID), (&of.1, Type::INT4)]).await.map_err(doing)?;
        }
        if complete {
            change_over(&transaction, &settings.run).await?;
        }
        settings.letters.write(&written.refused).await?;
        transaction.commit().await.map_err(unavailable("commit"))?;
        link.give_back();
        session.is_current |= complete;
        session.applied = end;
        session.partitions = partitions;
        written.applied = Some(end);
        Ok(written)
    }

    async fn check(&mut self) -> Result<(), SinkError> {
        self.check_run()?;
        let session = self.session.as_ref().ok_or_else(not_connected)?;
        let link = self.settings.pool.get().await?;
        self.position.check(&link.client, session.applied).await?;
        link.give_back();
        Ok(())
    }

    async fn retry(&mut self, chunk: &Chunk) -> Result<RetryOutcome, SinkError> {
        let Self { settings, position, session } = self;
        let session = session.as_mut().ok_or_else(not_connected)?;
        let mut written = Written::default();
        let batch = WindowBatch::single(chunk, position.run, &mut written);
        let mut link = settings.pool.get().await?;
        let rows = session.rows(&mut link, (batch, position.run), &mut written).await?;
        let mut transaction = link.begin().await?;
        write_rows(&mut transaction, rows, &mut written).await?;
        transaction.commit().await.map_err(unavailable("commit"))?;
        link.give_back();
        Ok(written.outcome())
    }
}

fn not_connected() -> SinkError {
    SinkError::unavailable("write", "not connected")
}
