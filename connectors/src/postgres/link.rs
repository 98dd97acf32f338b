//! Connections: how they are made, what a transaction begins with, and what errors mean.
//!
//! Nothing is left in a session between two transactions (settings, temporary tables, named statements), so that a pooler
//! like PgBouncer may give every transaction another one. Statements outside of a transaction are unnamed for that reason
//! (`*_typed`); those within one may have a name, which the driver takes back before the transaction ends.

use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::{Client, Config, IsolationLevel, Transaction};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::Reach;
use crate::endpoint::ServerUrl;
use crate::sink::SinkError;
use crate::tls::{self, Trust};

/// Held while tables are made or a run is claimed: one host at a time.
pub const LOCK: &str = "SELECT pg_advisory_xact_lock(7307480182513459571)";

/// `synchronous_commit` is off because the sink's offset lies in the transaction of its rows: what a crash of the
/// server takes from the end is written again from the log.
const SETTINGS: &str = "SET LOCAL synchronous_commit = off; SET LOCAL lock_timeout = '10s'";

/// Wraps what the driver says.
pub fn unavailable(doing: &'static str) -> impl Fn(tokio_postgres::Error) -> SinkError {
    move |e| SinkError::unavailable(doing, e)
}

/// A connection; it ends with this value.
pub struct Link {
    pub client: Client,
    /// The server, without secrets.
    pub server: String,
    statement_timeout_ms: u64,
}

impl Link {
    /// # Errors
    /// [`SinkError::Config`] for an address that is none, else [`SinkError::Unavailable`].
    pub async fn open(url: &ServerUrl, reach: &Reach) -> Result<Self, SinkError> {
        let (address, verified) = verified(&url.0);
        let mut config = Config::from_str(&address)
            .map_err(|e| SinkError::Config(format!("{url} is no address of a PostgreSQL database: {e}")))?;
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(10));
        }
        if config.get_application_name().is_none() {
            config.application_name("clickmill");
        }
        let trust = match &reach.tls_ca_file {
            Some(file) => Trust::Authority(Some(file)),
            None if verified => Trust::Authority(None),
            None => Trust::Anybody,
        };
        let tls = MakeRustlsConnect::new(tls::client(trust)?);
        let (client, connection) = config.connect(tls).await.map_err(unavailable("connect to PostgreSQL"))?;
        // Its end shows in the next call of the client.
        tokio::spawn(connection);
        Ok(Self { client, server: url.masked(), statement_timeout_ms: reach.statement_timeout_ms })
    }

    /// A transaction for rows: no statement of it may take longer than the configured time.
    ///
    /// # Errors
    /// [`SinkError::Unavailable`]
    pub async fn begin(&mut self) -> Result<Transaction<'_>, SinkError> {
        let limit = self.statement_timeout_ms;
        self.begin_with(limit).await
    }

    /// A transaction that makes tables or removes another run's rows, which may take its time.
    ///
    /// # Errors
    /// [`SinkError::Unavailable`]
    pub async fn begin_setup(&mut self) -> Result<Transaction<'_>, SinkError> {
        self.begin_with(0).await
    }

    /// A transaction that sees one state of everything and changes nothing; its statements end as those of [`begin`](Self::begin).
    ///
    /// # Errors
    /// [`SinkError::Unavailable`]
    pub async fn begin_reading(&mut self) -> Result<Transaction<'_>, SinkError> {
        let settings = format!("SET LOCAL statement_timeout = {}; SET LOCAL jit = off", self.statement_timeout_ms);
        let snapshot = self.client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
        let transaction = snapshot.start().await.map_err(unavailable("begin"))?;
        transaction.batch_execute(&settings).await.map_err(unavailable("begin"))?;
        Ok(transaction)
    }

    async fn begin_with(&mut self, statement_timeout_ms: u64) -> Result<Transaction<'_>, SinkError> {
        let transaction = self.client.transaction().await.map_err(unavailable("begin"))?;
        let settings = format!("{SETTINGS}; SET LOCAL statement_timeout = {statement_timeout_ms}");
        transaction.batch_execute(&settings).await.map_err(unavailable("begin"))?;
        Ok(transaction)
    }
}

/// The address as the driver takes it, and whether the server has to prove who it is: the driver knows no `verify-full`.
fn verified(url: &str) -> (String, bool) {
    let address = url.replacen("sslmode=verify-full", "sslmode=require", 1);
    let verified = address != url;
    (address, verified)
}

/// Whether the server takes us in.
///
/// # Errors
/// As [`Link::open`].
pub async fn answers(url: &ServerUrl, reach: &Reach) -> Result<(), SinkError> {
    let link = Link::open(url, reach).await?;
    link.client.simple_query("SELECT 1").await.map(drop).map_err(unavailable("ask PostgreSQL"))
}

/// The rule of a row that the server refuses for its own sake: data exception, cardinality, constraint, program limit. None
/// where the row is not at fault: the server is away, full, read-only or slow, or a table is not as it was made.
#[must_use]
pub fn rule(error: &tokio_postgres::Error) -> Option<String> {
    let error = error.as_db_error()?;
    let code = error.code().code();
    let of_rows = ["21", "22", "23", "54"].contains(&code.get(..2).unwrap_or_default());
    // A column that must not be null and that we do not write, or no partition for the row: somebody has altered the table.
    let of_table = code == "23502" || code == "23514" && error.constraint().is_none();
    (of_rows && !of_table).then(|| format!("sqlstate_{}", code.to_ascii_lowercase()))
}
