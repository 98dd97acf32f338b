//! Empties what a connector has written of the windows, to be filled anew from the topic.

use clickmill_broker::TopicPartition;
use clickmill_schemas::RunId;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::PostgresOptions;
use super::hours::HOURS_LOCK;
use super::link::{LOCK, unavailable};
use super::values::{PgRun, integer};
use crate::endpoint::Endpoint;
use crate::sink::SinkError;

const DOING: &str = "empty the tables";

impl PostgresOptions {
    /// Removes the run's windows, their hours and watermarks, and this connector's offset, in one transaction. Another connector to the same
    /// database keeps its offset: what it has written comes back with ours.
    ///
    /// # Errors
    /// [`SinkError`], and everything is there still.
    pub(crate) async fn empty(&self, endpoint: Endpoint, run: RunId, at: &TopicPartition) -> Result<(), SinkError> {
        let pool = self.pool(endpoint);
        let mut link = pool.get().await?;
        let transaction = link.begin_setup().await?;
        transaction.execute_typed(LOCK, &[]).await.map_err(unavailable(DOING))?;
        let exists = "SELECT to_regclass('realtime.schema_migrations') IS NOT NULL";
        if !transaction.query_typed_one(exists, &[]).await.map_err(unavailable(DOING))?.get::<_, bool>(0) {
            // It is made when the sink connects.
            return Ok(());
        }
        let altered = |e: tokio_postgres::Error| match e.code() {
            Some(&(SqlState::UNDEFINED_TABLE | SqlState::UNDEFINED_COLUMN)) => SinkError::Config(format!(
                "the schema `realtime` is not as it was made ({}): `{}` lets the connector make all of it anew",
                unavailable(DOING)(e).chain(),
                super::RESET
            )),
            _ => unavailable(DOING)(e),
        };
        transaction.execute_typed(HOURS_LOCK, &[]).await.map_err(unavailable(DOING))?;
        let of = (PgRun(run), integer(at.partition.0));
        for table in ["window_partials", "watermarks", "stale_hours", "hourly_metrics"] {
            let delete = format!("DELETE FROM realtime.{table} WHERE run = $1");
            transaction.execute_typed(&delete, &[(&of.0, Type::UUID)]).await.map_err(altered)?;
        }
        let forget =
            "DELETE FROM realtime.sink_state WHERE connector = $1 AND run = $2 AND topic = $3 AND partition = $4";
        let key: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)] =
            &[(&self.name, Type::TEXT), (&of.0, Type::UUID), (&&*at.topic, Type::TEXT), (&of.1, Type::INT4)];
        transaction.execute_typed(forget, key).await.map_err(altered)?;
        transaction.commit().await.map_err(unavailable(DOING))
    }
}
