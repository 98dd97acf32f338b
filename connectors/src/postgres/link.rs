//! The connection: how it is made, and what its errors mean.

use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::{Client, Config, NoTls};

use crate::endpoint::ServerUrl;
use crate::sink::SinkError;

/// Held while tables are made or a run is claimed: one host at a time.
pub const LOCK: &str = "SELECT pg_advisory_xact_lock(7307480182513459571)";

/// `synchronous_commit` is off because the sink's offset lies in the transaction of its rows: what a crash of the
/// server takes from the end is written again from the log.
const SESSION: &str = "SET synchronous_commit = off; SET lock_timeout = '10s'; SET TimeZone = 'UTC'";

/// Wraps what the driver says.
pub fn unavailable(doing: &'static str) -> impl Fn(tokio_postgres::Error) -> SinkError {
    move |e| SinkError::unavailable(doing, e)
}

/// Connects; the connection ends with its client.
///
/// # Errors
/// [`SinkError::Config`] for an address that is none, else [`SinkError::Unavailable`].
pub async fn connect(url: &ServerUrl) -> Result<Client, SinkError> {
    let mut config = Config::from_str(&url.0)
        .map_err(|e| SinkError::Config(format!("{url} is no address of a PostgreSQL database: {e}")))?;
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(Duration::from_secs(10));
    }
    if config.get_application_name().is_none() {
        config.application_name("clickmill");
    }
    let (client, connection) = config.connect(NoTls).await.map_err(unavailable("connect to PostgreSQL"))?;
    // Its end shows in the next call of the client.
    tokio::spawn(connection);
    client.batch_execute(SESSION).await.map_err(unavailable("set up the session"))?;
    Ok(client)
}

/// Whether the server takes us in.
///
/// # Errors
/// As [`connect`].
pub async fn answers(url: &ServerUrl) -> Result<(), SinkError> {
    connect(url).await.map(drop)
}

/// The rows are at fault and not the server: data exception, cardinality, constraint, program limit.
#[must_use]
pub fn blames_data(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|c| ["21", "22", "23", "54"].contains(&c.code().get(..2).unwrap_or_default()))
}
