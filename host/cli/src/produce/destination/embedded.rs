//! The log in the data directory, opened by this process: no host runs.

use std::collections::VecDeque;
use std::sync::Arc;

use anyhow::Context as _;
use clickmill_broker::{Appended, Broker, StoredBatch, TopicPartition};
use clickmill_pipeline::topics::{self, AD_EVENTS_ERROR, AD_EVENTS_RAW, TopicsOptions};
use clickmill_schemas::PartitionId;
use clickmill_schemas::envelope::SourcePosition;
use clickmill_schemas::record::{RecordSetBuilder, Records};

use super::super::rounds::{Batch, Positions, Round};
use super::Destination;

/// Batches whose durability has not been looked at yet. The broker bounds their bytes.
const MAX_UNCHECKED: usize = 256;

/// Appends to a broker of this process.
pub struct Embedded {
    broker: Arc<dyn Broker>,
    events: Vec<TopicPartition>,
    dead_letters: Vec<TopicPartition>,
    unchecked: VecDeque<Appended>,
}

impl Embedded {
    /// Makes the topics where they are missing.
    ///
    /// # Errors
    /// Where they cannot be made.
    pub fn new(broker: Arc<dyn Broker>, options: &TopicsOptions) -> anyhow::Result<Self> {
        topics::create_all(broker.as_ref(), options)?;
        let partitions_of = |topic: &str| -> anyhow::Result<Vec<TopicPartition>> {
            let info = broker.topic(topic)?.with_context(|| format!("topic {topic} does not exist"))?;
            let topic: Arc<str> = topic.into();
            Ok((0..info.spec.partitions).map(|p| TopicPartition::new(Arc::clone(&topic), PartitionId(p))).collect())
        };
        let (events, dead_letters) = (partitions_of(AD_EVENTS_RAW)?, partitions_of(AD_EVENTS_ERROR)?);
        Ok(Self { broker, events, dead_letters, unchecked: VecDeque::new() })
    }

    fn append(&mut self, to_events: bool, batch: Batch, spare: &mut Vec<RecordSetBuilder>) -> anyhow::Result<()> {
        let topic = if to_events { &self.events } else { &self.dead_letters };
        let at = topic.get(batch.partition.0 as usize).context("a batch for a partition that does not exist")?;
        let appended = self.broker.append(at, &batch.set)?;
        self.unchecked.push_back(appended);
        spare.push(batch.set);
        if self.unchecked.len() > MAX_UNCHECKED
            && let Some(oldest) = self.unchecked.pop_front()
        {
            oldest.wait()?;
        }
        Ok(())
    }
}

impl Destination for Embedded {
    fn partitions(&self) -> u32 {
        self.events.len() as u32
    }

    fn positions(&mut self, source: u64) -> anyhow::Result<Positions> {
        let last = |topic: &[TopicPartition]| -> anyhow::Result<Vec<Option<u64>>> {
            topic.iter().map(|at| last_row(self.broker.as_ref(), at, source)).collect()
        };
        Ok(Positions { events: last(&self.events)?, dead_letters: last(&self.dead_letters)? })
    }

    fn send(&mut self, _source: u64, rounds: Vec<Round>, spare: &mut Vec<RecordSetBuilder>) -> anyhow::Result<()> {
        for round in rounds {
            for batch in round.dead_letters {
                self.append(false, batch, spare)?;
            }
            for batch in round.events {
                self.append(true, batch, spare)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        for appended in self.unchecked.drain(..) {
            appended.wait()?;
        }
        Ok(())
    }
}

/// The newest row of `source` in a partition.
fn last_row(broker: &dyn Broker, at: &TopicPartition, source: u64) -> anyhow::Result<Option<u64>> {
    let mut row = Ok(None);
    broker.last_batch_with(at, &mut |batch| match position(batch) {
        Ok(Some(found)) if found.source == source => {
            row = Ok(Some(found.row));
            true
        }
        Ok(_) => false,
        Err(e) => {
            row = Err(e.context(format!("{at}: the batch at offset {}", batch.base_offset)));
            true
        }
    })?;
    row
}

/// The source position that the last record of a batch carries.
fn position(batch: &StoredBatch) -> anyhow::Result<Option<SourcePosition>> {
    let mut key = None;
    let set = batch.records()?;
    for record in Records::new(&set)? {
        key = record?.key;
    }
    Ok(key.and_then(SourcePosition::decode))
}
