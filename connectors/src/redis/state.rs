//! What the sink keeps in Redis about itself: whose windows these are, and how far it is.

use clickmill_schemas::{Offset, RunId};
use redis::aio::MultiplexedConnection;

use super::link::unavailable;
use super::live::Memory;
use crate::sink::{Refusal, SinkError};

/// Version of what is in the fields.
pub(super) const FORMAT: i64 = 1;

/// What the sink keeps in Redis about itself.
pub(super) struct State {
    pub run: RunId,
    pub offset: Offset,
    pub rebuild_from: Offset,
    pub memory: Memory,
}

impl State {
    /// The state under `key`; none where there is none.
    ///
    /// # Errors
    /// [`Refusal::NewerSchema`], and what Redis says.
    pub async fn load(
        connection: &mut MultiplexedConnection,
        key: &str,
        server: &str,
    ) -> Result<Option<Self>, SinkError> {
        const DOING: &str = "read the sink's state";
        let fields: [Option<String>; 5] = redis::cmd("HMGET")
            .arg(key)
            .arg(&["format", "run", "offset", "rebuild_from", "memory"])
            .query_async(connection)
            .await
            .map_err(unavailable(DOING))?;
        let [Some(format), Some(run), Some(offset), Some(rebuild_from), Some(memory)] = fields else {
            return Ok(None);
        };
        let found = format.parse().map_err(|e| SinkError::unavailable(DOING, e))?;
        if found > FORMAT {
            return Err(Refusal::NewerSchema { server: server.to_owned(), found, known: FORMAT }.into());
        }
        Ok(Some(Self {
            run: run.parse().map_err(|e| SinkError::unavailable(DOING, e))?,
            offset: offset.parse().map_err(|e| SinkError::unavailable(DOING, e))?,
            rebuild_from: rebuild_from.parse().map_err(|e| SinkError::unavailable(DOING, e))?,
            memory: serde_json::from_str(&memory).map_err(|e| SinkError::unavailable(DOING, e))?,
        }))
    }
}
