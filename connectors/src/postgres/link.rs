//! Connections: how they are made, what a transaction begins with, and what errors mean.
//!
//! Nothing is left in a session between two transactions (settings, temporary tables, named statements), so that a pooler
//! like PgBouncer may give every transaction another one. Statements outside of a transaction are unnamed for that reason
//! (`*_typed`); those within one may have a name, which the driver takes back before the transaction ends.

use std::error::Error as _;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, Transaction};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::Reach;
use crate::endpoint::ServerUrl;
use crate::progress::Progress;
use crate::sink::SinkError;
use crate::tls::{self, Trust};

/// `synchronous_commit` is off because the sink's offset lies in the transaction of its rows: what a crash of the
/// server takes from the end is written again from the log.
const SETTINGS: &str = "SET LOCAL synchronous_commit = off; SET LOCAL lock_timeout = '10s'";

/// Held while tables are made or a run is claimed: one sink of one host at a time. Waited for as long as those before take; what
/// waits for a table keeps everybody else from it, and does so for a short time only.
const ALONE: &str = "SET LOCAL lock_timeout = 0; SELECT pg_advisory_xact_lock(7307480182513459571); \
    SET LOCAL lock_timeout = '10s'";

/// Time to reach a server, where its address names none.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// A login takes some answers more than the one that the connect time is for: TLS, the password.
const LOGIN_ANSWERS: u32 = 4;
/// Of a server that is gone without a word, its connections are known to be dead after about so long.
const SILENCE: Duration = Duration::from_secs(30);

/// What is wrong with an address that [`goes_without_tls`] where authorities are named.
pub const WITHOUT_TLS: &str =
    "sslmode=disable goes without TLS, and tls_ca_file says whose certificate to ask for: name one of them";

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
    user: User,
}

/// Who uses a connection now, and is told when something moves on it.
#[derive(Clone, Default)]
struct User(Arc<Mutex<Progress>>);

impl User {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    /// # Errors
    /// [`SinkError::Config`] for an address that is none, else [`SinkError::Unavailable`].
    pub async fn open(url: &ServerUrl, reach: &Reach) -> Result<Self, SinkError> {
        let (address, verified) = verified(&url.0);
        let mut config = Config::from_str(&address)
            .map_err(|e| SinkError::Config(format!("{url} is no address of a PostgreSQL database: {e}")))?;
        match (&reach.tls_ca_file, config.get_ssl_mode()) {
            (Some(_), SslMode::Disable) => return Err(SinkError::Config(format!("{url}: {WITHOUT_TLS}"))),
            // Whoever stands in between could have it without TLS, and would be asked for no certificate.
            (Some(_), SslMode::Prefer) => _ = config.ssl_mode(SslMode::Require),
            _ => {}
        }
        let connect_time = config.get_connect_timeout().copied().unwrap_or(CONNECT_TIME);
        config.connect_timeout(connect_time);
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(SILENCE);
        }
        if config.get_keepalives_idle() > SILENCE {
            config.keepalives_idle(SILENCE / 3).keepalives_interval(SILENCE / 6).keepalives_retries(4);
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
        // The driver's own limit ends where the connection is made: a server may be mute from there on.
        let limit = connect_time * LOGIN_ANSWERS;
        let login = tokio::time::timeout(limit, config.connect(tls)).await;
        let mute = |_| SinkError::unavailable("connect to PostgreSQL", format!("no login within {limit:?}"));
        let (client, mut connection) = login.map_err(mute)?.map_err(unavailable("connect to PostgreSQL"))?;
        let user = User::default();
        let told = user.clone();
        // Its end shows in the next call of the client.
        tokio::spawn(poll_fn(move |context| {
            told.progress().made();
            Pin::new(&mut connection).poll(context)
        }));
        Ok(Self { client, server: url.masked(), statement_timeout_ms: reach.statement_timeout_ms, user })
    }

    /// Whom to tell from now on when something moves.
    pub fn used_by(&mut self, progress: &Progress) {
        progress.clone_into(&mut self.user.progress());
    }

    /// A transaction for rows: no statement of it may take longer than the configured time.
    ///
    /// # Errors
    /// [`SinkError::Unavailable`]
    pub async fn begin(&mut self) -> Result<Transaction<'_>, SinkError> {
        let settings = format!("{SETTINGS}; SET LOCAL statement_timeout = {}", self.statement_timeout_ms);
        self.begin_with(&settings).await
    }

    /// A transaction that makes tables or removes another run's rows, which may take its time.
    ///
    /// # Errors
    /// [`SinkError::Unavailable`]
    pub async fn begin_setup(&mut self) -> Result<Transaction<'_>, SinkError> {
        self.begin_with(&format!("{SETTINGS}; SET LOCAL statement_timeout = 0")).await
    }

    /// The same, and no other host or sink is in one of these meanwhile.
    ///
    /// # Errors
    /// [`SinkError::Unavailable`]
    pub async fn begin_alone(&mut self) -> Result<Transaction<'_>, SinkError> {
        self.begin_with(&format!("{SETTINGS}; SET LOCAL statement_timeout = 0; {ALONE}")).await
    }

    async fn begin_with(&mut self, settings: &str) -> Result<Transaction<'_>, SinkError> {
        let transaction = self.client.transaction().await.map_err(unavailable("begin"))?;
        transaction.batch_execute(settings).await.map_err(unavailable("begin"))?;
        Ok(transaction)
    }
}

/// The address as the driver takes it, and whether the server has to prove who it is: the driver knows no `verify-full`.
fn verified(url: &str) -> (String, bool) {
    let address = url.replacen("sslmode=verify-full", "sslmode=require", 1);
    let verified = address != url;
    (address, verified)
}

/// Whether an address asks for no TLS at all.
pub fn goes_without_tls(url: &str) -> bool {
    Config::from_str(&verified(url).0).is_ok_and(|config| config.get_ssl_mode() == SslMode::Disable)
}

/// Whether the driver can read an address.
///
/// # Errors
/// Why it cannot.
pub fn check_address(url: &str) -> Result<(), String> {
    let why = |e: tokio_postgres::Error| e.source().map_or_else(|| e.to_string(), ToString::to_string);
    Config::from_str(&verified(url).0).map(drop).map_err(why)
}

/// Whether the server takes us in.
///
/// # Errors
/// As [`Link::open`].
pub async fn answers(url: &ServerUrl, reach: &Reach) -> Result<(), SinkError> {
    let link = Link::open(url, reach).await?;
    link.client.simple_query("SELECT 1").await.map(drop).map_err(unavailable("ask PostgreSQL"))
}

/// The rule of a row that the server refuses for its own sake: data exception, cardinality, constraint, program limit, the check
/// of a view, or what somebody's trigger says. None where the row is not at fault: the server is away, full, read-only or slow,
/// or a table is not as it was made.
#[must_use]
pub fn rule(error: &tokio_postgres::Error) -> Option<String> {
    let error = error.as_db_error()?;
    let code = error.code().code();
    let class = code.get(..2).unwrap_or_default();
    let of_rows = ["21", "22", "23", "44", "54"].contains(&class) || is_of_trigger(class);
    // A column that must not be null and that we do not write, or no partition for the row: somebody has altered the table.
    let of_table = code == "23502" || code == "23514" && error.constraint().is_none();
    (of_rows && !of_table).then(|| format!("sqlstate_{}", code.to_ascii_lowercase()))
}

/// Whether a class of errors comes from code that somebody has put before a table: PL/pgSQL and other routines, and the classes
/// that the standard leaves to them.
fn is_of_trigger(class: &str) -> bool {
    let of_their_own = class.starts_with(|first: char| ('I'..='Z').contains(&first)) && class != "XX";
    of_their_own || ["09", "27", "38"].contains(&class)
}

/// Whether a [`rule`] is a trigger's: of those nobody knows whether they look at the row at all.
#[must_use]
pub fn is_triggers_rule(rule: &str) -> bool {
    let code = rule.strip_prefix("sqlstate_").unwrap_or_default().to_ascii_uppercase();
    code.get(..2).is_some_and(is_of_trigger)
}
