//! Brings the schemas `realtime`, `analytics` and `errors` up to what this program needs.
//!
//! The statements are in `schemas/postgres/`, one file a version, each applied once, all in one transaction.

use tokio_postgres::error::SqlState;

use super::link::{Link, unavailable};
use crate::sink::{Refusal, SinkError};

/// Versions from 1 on.
const MIGRATIONS: [(&str, &str); 3] = [
    ("0001_realtime", include_str!("../../../schemas/postgres/0001_realtime.sql")),
    ("0002_whole_rows", include_str!("../../../schemas/postgres/0002_whole_rows.sql")),
    ("0003_errors", include_str!("../../../schemas/postgres/0003_errors.sql")),
];

const DOING: &str = "make the schema";

/// Applies what is missing; where nothing is, it waits for nobody.
///
/// # Errors
/// [`Refusal::NewerSchema`] where a newer program was here; [`SinkError::Unavailable`].
pub async fn migrate(link: &mut Link) -> Result<(), SinkError> {
    let server = link.server.clone();
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if newest(link).await? == Some(known) {
        return Ok(());
    }
    let transaction = link.begin_alone().await?;
    let exists = "SELECT to_regclass('realtime.schema_migrations') IS NOT NULL";
    let exists: bool = transaction.query_typed_one(exists, &[]).await.map_err(unavailable(DOING))?.get(0);
    let found: i64 = if exists {
        let newest = "SELECT coalesce(max(version), 0) FROM realtime.schema_migrations";
        transaction.query_typed_one(newest, &[]).await.map_err(unavailable(DOING))?.get(0)
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
    let missing = MIGRATIONS.iter().zip(1i64..).filter(|(_, version)| *version > found);
    let statements: String = missing
        .map(|((name, statements), version)| {
            format!(
                "{statements};\nINSERT INTO realtime.schema_migrations (version, name) VALUES ({version}, '{name}');\n"
            )
        })
        .collect();
    transaction.batch_execute(&statements).await.map_err(unavailable(DOING))?;
    transaction.commit().await.map_err(unavailable(DOING))
}

/// The newest version that was applied.
async fn newest(link: &Link) -> Result<Option<i64>, SinkError> {
    match link.client.query_typed_one("SELECT max(version) FROM realtime.schema_migrations", &[]).await {
        Ok(row) => Ok(row.get(0)),
        Err(e) if e.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(None),
        Err(e) => Err(unavailable(DOING)(e)),
    }
}
