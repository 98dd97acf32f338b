//! What a connector's server refuses for its own sake, as dead letters.
//!
//! A letter is durable before the sink's offset moves past its record. Where a crash comes between the two, it is written
//! again, with the same origin and connector: to readers these two are its identity.

use std::sync::Arc;

use clickmill_broker::{Broker, BrokerError, TopicPartition};
use clickmill_schemas::dead_letter::{DeadLetter, Origin, RawPayload};
use clickmill_schemas::envelope::ErrorType;
use clickmill_schemas::record::RecordSetBuilder;

use crate::SinkSource;
use crate::hidden::Hidden;
use crate::reader::read_at;
use crate::sink::{Refused, SinkError};

/// Letters beyond this wait for the next append. One is less than 6 MiB.
const APPEND_BYTES: usize = 1 << 20;

/// The rule of a record that nobody can read, or that no row of the server can stand for.
pub const UNREADABLE: &str = "unreadable";

/// Writes the letters of one sink.
#[derive(Clone)]
pub struct Letters {
    broker: Arc<dyn Broker>,
    errors: TopicPartition,
    connector: String,
    /// What the sink reads.
    at: TopicPartition,
    hidden: Hidden,
}

impl Letters {
    #[must_use]
    pub fn new(source: &SinkSource, connector: &str, at: &TopicPartition, hidden: &Hidden) -> Self {
        Self {
            broker: source.broker.clone(),
            errors: source.errors.clone(),
            connector: connector.to_owned(),
            at: at.clone(),
            hidden: hidden.clone(),
        }
    }

    /// Those of a sink that may read any topic: none where that is the topic of letters, of which each would come back.
    #[must_use]
    pub fn of_any_topic(source: &SinkSource, connector: &str, at: &TopicPartition, hidden: &Hidden) -> Option<Self> {
        (at.topic != source.errors.topic).then(|| Self::new(source, connector, at, hidden))
    }

    /// Returns once all of them are durable. A record that compaction has taken meanwhile has a newer version, and gets none.
    ///
    /// # Errors
    /// [`SinkError::Broker`]
    pub async fn write(&self, refused: &[Refused]) -> Result<(), SinkError> {
        if refused.is_empty() {
            return Ok(());
        }
        let (letters, mut refused) = (self.clone(), refused.to_vec());
        let written = tokio::task::spawn_blocking(move || {
            refused.sort_by_key(|one| one.offset);
            letters.append(&refused)
        });
        Ok(written.await.unwrap_or(Err(BrokerError::Closed))?)
    }

    fn append(&self, refused: &[Refused]) -> Result<(), BrokerError> {
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let offsets: Vec<_> = refused.iter().map(|one| one.offset).collect();
        let (mut set, mut failed) = (RecordSetBuilder::default(), Ok(()));
        read_at(&*self.broker, &self.at, &offsets, |index, record, _| {
            if failed.is_err() {
                return;
            }
            let one = &refused[index];
            let (at, connector) = (&self.at, &self.connector);
            let key = format!("{connector}|{}|{}|{}", at.topic, at.partition, one.offset);
            // Plain structs: serialization has no failing case.
            let value = serde_json::to_vec(&self.letter(one, record.value, now_ms)).unwrap_or_default();
            set.push(Some(key.as_bytes()), &value, now_ms);
            if set.bytes().len() >= APPEND_BYTES {
                failed = self.broker.append(&self.errors, &set).and_then(|appended| appended.wait().map(drop));
                set.clear();
            }
        })?;
        failed?;
        if !set.is_empty() {
            self.broker.append(&self.errors, &set)?.wait()?;
        }
        Ok(())
    }

    fn letter(&self, refused: &Refused, value: &[u8], now_ms: i64) -> DeadLetter {
        let topic = self.at.topic.to_string();
        DeadLetter {
            payload: RawPayload::new(value),
            error_type: ErrorType::Sink,
            rule: refused.rule.clone(),
            message: self.hidden.redact(&refused.message),
            retry_count: 0,
            error_timestamp_ms: now_ms,
            origin: Origin::Record { topic, partition: self.at.partition, offset: refused.offset },
            judged: None,
            stacktrace: None,
            retried_at: None,
            connector: Some(self.connector.clone()),
        }
    }
}
