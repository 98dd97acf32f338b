//! Offers rows that a connector's server has refused to that connector again, for the dead letters' retries.

use std::sync::{Arc, Weak};

use clickmill_broker::TopicPartition;
use clickmill_connectors::set::SetError;
use clickmill_connectors::sink::RetryOutcome;
use clickmill_connectors::{Connectors, RetryError};
use clickmill_pipeline::dlq::{Objection, Offered, SinkRows};
use clickmill_schemas::Offset;
use tokio::runtime::Handle;

/// Reaches the connectors of this process.
pub struct RefusedRows {
    /// The connectors know the topics, and the topics' keeper knows this.
    connectors: Weak<Connectors>,
    runtime: Handle,
}

impl RefusedRows {
    pub fn new(connectors: &Arc<Connectors>, runtime: Handle) -> Self {
        Self { connectors: Arc::downgrade(connectors), runtime }
    }
}

impl SinkRows for RefusedRows {
    fn offer(&self, connector: &str, at: &TopicPartition, offset: Offset) -> Offered {
        let Some(connectors) = self.connectors.upgrade() else {
            return Offered::Unavailable("the host is about to end".to_owned());
        };
        match self.runtime.block_on(connectors.retry(connector, at, offset)) {
            Ok(RetryOutcome::Accepted) => Offered::Accepted,
            Ok(RetryOutcome::Superseded) => Offered::Superseded,
            Ok(RetryOutcome::Refused { rule, message }) => Offered::Refused(Objection { rule, message }),
            Err(RetryError::Set(SetError::Unknown { .. })) => Offered::Unknown,
            Ok(RetryOutcome::NotNow(why)) => Offered::Unavailable(why),
            Err(error) => Offered::Unavailable(error.to_string()),
        }
    }
}
