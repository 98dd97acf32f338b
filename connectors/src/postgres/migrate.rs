//! Brings the schemas `realtime`, `analytics` and `errors` up to what this program needs.
//!
//! The statements are in `schemas/postgres/`, one file a version, each applied once, all in one transaction.

use super::link::{LOCK, Link, unavailable};
use crate::sink::{Refusal, SinkError};

/// Versions from 1 on.
const MIGRATIONS: [(&str, &str); 4] = [
    ("0001_realtime", include_str!("../../../schemas/postgres/0001_realtime.sql")),
    ("0002_whole_rows", include_str!("../../../schemas/postgres/0002_whole_rows.sql")),
    ("0003_errors", include_str!("../../../schemas/postgres/0003_errors.sql")),
    ("0004_hourly", include_str!("../../../schemas/postgres/0004_hourly.sql")),
];

const DOING: &str = "make the schema";

/// Applies what is missing.
///
/// # Errors
/// [`Refusal::NewerSchema`] where a newer program was here; [`SinkError::Unavailable`].
pub async fn migrate(link: &mut Link) -> Result<(), SinkError> {
    let server = link.server.clone();
    let transaction = link.begin_setup().await?;
    transaction.execute(LOCK, &[]).await.map_err(unavailable(DOING))?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let exists = "SELECT to_regclass('realtime.schema_migrations') IS NOT NULL";
    let exists: bool = transaction.query_one(exists, &[]).await.map_err(unavailable(DOING))?.get(0);
    let found: i64 = if exists {
        let newest = "SELECT coalesce(max(version), 0) FROM realtime.schema_migrations";
        transaction.query_one(newest, &[]).await.map_err(unavailable(DOING))?.get(0)
    } else {
        transaction
            .batch_execute(
                "CREATE SCHEMA IF NOT EXISTS realtime; \
                 CREATE TABLE realtime.schema_migrations (version bigint PRIMARY KEY, name text NOT NULL, \
                 applied_at timestamptz NOT NULL DEFAULT now())",
            )
            .await
            .map_err(unavailable(DOING))?;
        0
    };
    if found > known {
        return Err(Refusal::NewerSchema { server, found, known }.into());
    }
    for ((name, statements), version) in MIGRATIONS.iter().zip(1i64..).filter(|(_, v)| *v > found) {
        transaction.batch_execute(statements).await.map_err(unavailable(DOING))?;
        let note = "INSERT INTO realtime.schema_migrations (version, name) VALUES ($1, $2)";
        transaction.execute(note, &[&version, name]).await.map_err(unavailable(DOING))?;
    }
    transaction.commit().await.map_err(unavailable(DOING))
}
