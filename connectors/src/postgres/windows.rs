//! The sink of `ctr_windows`: partials and commits, upserted by version.

use std::collections::BTreeSet;

use clickmill_broker::Ends;
use clickmill_schemas::{Offset, RunId};
use futures_util::future::try_join;
use tokio_postgres::Transaction;
use tokio_postgres::types::Type;

use super::claim::{change_over, claim};
use super::commits::Commits;
use super::days::{self, Day, Days};
use super::halves::{Refusals, write_all};
use super::link::{Link, unavailable};
use super::migrate::migrate;
use super::partials::{Partials, RowTypes};
use super::position::{Position, not_there};
use super::values::{PartialRow, PgRun, integer};
use super::{MOST_DAYS, PostgresSettings};
use crate::letters::UNREADABLE;
use crate::progress::Progress;
use crate::reader::Chunk;
use crate::sink::{Opened, RetryOutcome, Sink, SinkError, Written};
use crate::windows::{Terms, WindowBatch};

const TABLES: [&str; 3] = ["realtime.window_partials", "realtime.window_partials_default", "realtime.watermarks"];

/// Partitions that were added while it ran.
const GROW: &str = "UPDATE realtime.runs SET partitions = $2 WHERE run = $1 AND partitions < $2";

/// Writes windows into PostgreSQL.
pub struct WindowSink {
    settings: PostgresSettings,
    position: Position,
    session: Option<Session>,
    /// Of the batch that is being written, or that could not be.
    written: Written,
    refusals: Refusals,
    /// Partitions that were there once, of the rows that are in the server as far as its offset says.
    days: BTreeSet<String>,
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
}

impl WindowSink {
    pub(super) fn new(settings: PostgresSettings, position: Position) -> Self {
        let (written, refusals, days) = (Written::default(), Refusals::default(), BTreeSet::new());
        Self { settings, position, session: None, written, refusals, days }
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
    transaction: &Transaction<'_>,
    (mut partials, mut commits): (Partials, Commits),
    (written, refusals): (&mut Written, &mut Refusals),
) -> Result<(), SinkError> {
    write_all(transaction, &mut partials, "write windows", (&mut *written, &mut *refusals)).await?;
    write_all(transaction, &mut commits, "write watermarks", (written, refusals)).await
}

impl Sink for WindowSink {
    const KIND: &'static str = "postgres";
    const RESET: &'static str = super::RESET;

    async fn open(&mut self, _: Ends) -> Result<Opened, SinkError> {
        if let Some(before) = self.session.take() {
            self.days.extend(before.days.partitions());
        }
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
        if applied == Offset(0) {
            self.days.clear();
        }
        let terms = Terms::new(self.position.run, epochs);
        let partitions = self.settings.run.partitions;
        self.session = Some(Session { types, days, terms, applied, partitions, is_current });
        Ok(Opened { applied, read_from: applied, server })
    }

    async fn write(&mut self, chunks: &[Chunk], _: bool) -> Result<Written, SinkError> {
        self.settings.run.check(&self.settings.runs)?;
        let Self { settings, position, session, written, refusals, .. } = self;
        let session = session.as_mut().ok_or_else(not_connected)?;
        let known = written.begin_anew();
        refusals.begin();
        let mut batch = WindowBatch::read(chunks, &mut session.terms, written);
        batch.leave_out(known, written);
        let (end, partitions) = (batch.end.max(session.applied), batch.partitions.max(session.partitions));
        let complete = !session.is_current && end >= settings.run.complete_at;
        let mut link = settings.pool.get().await?;
        let rows = session.rows(&mut link, (batch, position.run), written).await?;
        let transaction = link.begin().await?;
        // Sent together: a server that is slow to answer makes us wait once.
        let advanced = position.advance(&transaction, session.applied, end, session.terms.as_of(end));
        try_join(advanced, write_rows(&transaction, rows, (&mut *written, &mut *refusals))).await?;
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
        refusals.keep();
        session.is_current |= complete;
        session.applied = end;
        session.partitions = partitions;
        Ok(Written { applied: Some(end), ..std::mem::take(written) })
    }

    async fn check(&mut self) -> Result<Option<String>, SinkError> {
        self.settings.run.check(&self.settings.runs)?;
        let session = self.session.as_ref().ok_or_else(not_connected)?;
        self.days.extend(session.days.partitions());
        let link = self.settings.pool.get().await?;
        let tables: Vec<String> = TABLES.map(str::to_owned).into_iter().chain(self.days.iter().cloned()).collect();
        let gone = self.position.check(&link.client, session.applied, &tables).await?;
        link.give_back();
        if gone.iter().any(|gone| TABLES.contains(&gone.as_str())) {
            return Err(SinkError::unavailable("check the tables", not_there(&gone)));
        }
        let (name, why) = (&self.position.connector, not_there(&gone));
        let what = || format!("{why}: windows are missing; `clickmill connector rebuild {name}` writes them anew");
        Ok((!gone.is_empty()).then(what))
    }

    async fn retry(&mut self, chunk: &Chunk) -> Result<RetryOutcome, SinkError> {
        let Self { settings, position, session, .. } = self;
        let session = session.as_mut().ok_or_else(not_connected)?;
        let mut written = Written::default();
        let batch = WindowBatch::single(chunk, position.run, &mut written);
        let mut link = settings.pool.get().await?;
        let rows = session.rows(&mut link, (batch, position.run), &mut written).await?;
        let transaction = link.begin().await?;
        write_rows(&transaction, rows, (&mut written, &mut Refusals::default())).await?;
        transaction.commit().await.map_err(unavailable("commit"))?;
        link.give_back();
        Ok(written.outcome())
    }

    fn progress(&self) -> Progress {
        self.settings.pool.progress().clone()
    }
}

fn not_connected() -> SinkError {
    SinkError::unavailable("write", "not connected")
}
