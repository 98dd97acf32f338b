//! A sink's offset in `realtime.sink_state`, and the fence that goes with it.

use clickmill_broker::TopicPartition;
use clickmill_schemas::{Offset, RunId};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Transaction};

use super::link::unavailable;
use super::values::{PgRun, bigint, integer};
use crate::sink::SinkError;
use crate::windows::Epochs;

/// Which row is ours.
#[derive(Clone, Debug)]
pub struct Position {
    pub connector: String,
    pub run: RunId,
    pub at: TopicPartition,
}

impl Position {
    /// Reads the row, made where it is missing.
    ///
    /// # Errors
    /// [`SinkError::Unavailable`]
    pub async fn load(&self, client: &Client) -> Result<(Offset, Epochs), SinkError> {
        const DOING: &str = "read the sink's offset";
        let (run, topic, partition) = (PgRun(self.run), &*self.at.topic, integer(self.at.partition.0));
        client
            .execute_typed(
                "INSERT INTO realtime.sink_state (connector, run, topic, partition, next_offset) \
                 VALUES ($1, $2, $3, $4, 0) ON CONFLICT DO NOTHING",
                &[(&self.connector, Type::TEXT), (&run, Type::UUID), (&topic, Type::TEXT), (&partition, Type::INT4)],
            )
            .await
            .map_err(unavailable(DOING))?;
        let row = client
            .query_typed_one(
                "SELECT next_offset, epochs::text FROM realtime.sink_state \
                 WHERE connector = $1 AND run = $2 AND topic = $3 AND partition = $4",
                &[(&self.connector, Type::TEXT), (&run, Type::UUID), (&topic, Type::TEXT), (&partition, Type::INT4)],
            )
            .await
            .map_err(unavailable(DOING))?;
        let offset = u64::try_from(row.get::<_, i64>(0)).unwrap_or(0);
        let epochs = serde_json::from_str(row.get(1)).map_err(|e| SinkError::unavailable(DOING, e))?;
        Ok((Offset(offset), epochs))
    }

    /// Looks whether it is where we left it, and which of our tables are not there: somebody may have dropped the schema or a part
    /// of it, or emptied it.
    ///
    /// # Errors
    /// [`SinkError::Unavailable`], which opens the sink anew.
    pub async fn check(&self, client: &Client, applied: Offset, tables: &[String]) -> Result<Vec<String>, SinkError> {
        const DOING: &str = "check the sink's offset";
        let (run, topic, partition) = (PgRun(self.run), &*self.at.topic, integer(self.at.partition.0));
        let row = client
            .query_typed_opt(
                "SELECT next_offset, ARRAY(SELECT name FROM unnest($5) AS name WHERE to_regclass(name) IS NULL) \
                 FROM realtime.sink_state WHERE connector = $1 AND run = $2 AND topic = $3 AND partition = $4",
                &[
                    (&self.connector, Type::TEXT),
                    (&run, Type::UUID),
                    (&topic, Type::TEXT),
                    (&partition, Type::INT4),
                    (&tables, Type::TEXT_ARRAY),
                ],
            )
            .await
            .map_err(unavailable(DOING))?;
        if let Some(row) = row.filter(|row| row.get::<_, i64>(0) == bigint(applied.0)) {
            return Ok(row.get(1));
        }
        let what = format!("it is not {applied} any more: another process writes here, or the rows were removed");
        Err(SinkError::unavailable(DOING, what))
    }

    /// Moves it within a transaction; fails where it is not where we left it.
    ///
    /// # Errors
    /// [`SinkError::Unavailable`], which opens the sink anew.
    pub async fn advance(
        &self,
        transaction: &Transaction<'_>,
        from: Offset,
        to: Offset,
        epochs: &Epochs,
    ) -> Result<(), SinkError> {
        const DOING: &str = "move the sink's offset";
        let (run, topic, partition) = (PgRun(self.run), &*self.at.topic, integer(self.at.partition.0));
        let epochs = serde_json::to_string(epochs).map_err(|e| SinkError::unavailable(DOING, e))?;
        let moved = transaction
            .execute_typed(
                "UPDATE realtime.sink_state SET next_offset = $5, epochs = $6::jsonb, updated_at = now() \
                 WHERE connector = $1 AND run = $2 AND topic = $3 AND partition = $4 AND next_offset = $7",
                &[
                    (&self.connector, Type::TEXT),
                    (&run, Type::UUID),
                    (&topic, Type::TEXT),
                    (&partition, Type::INT4),
                    (&bigint(to.0), Type::INT8),
                    (&epochs, Type::TEXT),
                    (&bigint(from.0), Type::INT8),
                ],
            )
            .await
            .map_err(unavailable(DOING))?;
        if moved == 1 {
            return Ok(());
        }
        Err(SinkError::unavailable(
            DOING,
            format!("it is not {from} any more: another process writes here, or the rows were removed"),
        ))
    }
}

/// What to say of tables that [`Position::check`] does not find.
pub fn not_there(gone: &[String]) -> String {
    format!("not there any more: {}", gone.join(", "))
}
