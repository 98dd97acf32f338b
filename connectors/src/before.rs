//! Modules before a sink: new ones in each session, and letters for the records that they fail on.
//!
//! Knows neither what a module is nor what the sink does with what comes through.

use std::sync::Arc;

use clickmill_broker::BrokerError;
use clickmill_schemas::Offset;

use crate::letters::Letters;
use crate::reader::{Chunk, transformed};
use crate::sink::{Refused, SinkError};
use crate::transform::Transform;

/// Makes modules anew. May take its time.
pub type NewTransform = Arc<dyn Fn() -> Result<Box<dyn Transform>, String> + Send + Sync>;

/// See the module.
pub struct Before {
    make: NewTransform,
    /// None where the letters are what is read: one about a letter would come back here.
    letters: Option<Letters>,
    /// Below, letters were written: a batch that is tried again for its server's sake gets no new ones.
    told: Offset,
}

impl Before {
    #[must_use]
    pub(crate) const fn new(make: NewTransform, letters: Option<Letters>) -> Self {
        Self { make, letters, told: Offset(0) }
    }

    /// New modules.
    ///
    /// # Errors
    /// [`SinkError::Config`] where they cannot be made.
    pub(crate) async fn transform(&self) -> Result<Box<dyn Transform>, SinkError> {
        let make = self.make.clone();
        let made = tokio::task::spawn_blocking(move || make()).await;
        made.map_err(|_| BrokerError::Closed)?.map_err(SinkError::Config)
    }

    /// The record of a chunk that is tried again, behind the modules as they are now.
    ///
    /// # Errors
    /// [`SinkError::Unavailable`]: the modules that records go through in order are not touched.
    pub(crate) async fn again(&self, chunk: Chunk) -> Result<Chunk, SinkError> {
        let failed = |e: SinkError| SinkError::unavailable("make the connector's transforms anew", e);
        let mut transform = self.transform().await.map_err(failed)?;
        let made = tokio::task::spawn_blocking(move || transformed(&mut *transform, &chunk)).await;
        made.unwrap_or(Err(BrokerError::Closed.into()))
    }

    /// Writes letters for what the modules failed on; durable when it returns.
    ///
    /// # Errors
    /// [`SinkError::Broker`]
    pub(crate) async fn tell(&mut self, chunks: &[Chunk]) -> Result<(), SinkError> {
        let Some(letters) = &self.letters else { return Ok(()) };
        let failed = chunks.iter().flat_map(|chunk| &chunk.failed);
        let new: Vec<Refused> = failed.filter(|one| one.offset >= self.told).cloned().collect();
        letters.write(&new).await?;
        self.told = new.last().map_or(self.told, |last| last.offset.plus(1));
        Ok(())
    }
}
