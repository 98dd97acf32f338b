//! [`Followed`]: the topics of a data directory for a connector, whoever has it: over HTTP from the host that runs on it, or out of
//! the files of a stopped one until a host is there.
//!
//! A host may go and come back, elsewhere too: a call fails meanwhile, and the one after the next knows where it is.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use clickmill_broker::{
    Appended, Broker, BrokerError, Ends, Retention, StoredBatch, TopicInfo, TopicPartition, TopicSpec,
};
use clickmill_connectors::{RunInfo, Runs};
use clickmill_pipeline::views::records::{RecordPage, RecordView};
use clickmill_pipeline::views::status::TopicView;
use clickmill_schemas::Offset;
use clickmill_schemas::record::RecordSetBuilder;

use crate::config::Config;
use crate::context::Place;
use crate::stack;

/// Most records of a page.
const PAGE_RECORDS: usize = 1_000;
/// How old the answer may be that tells which run is current: it is asked for before every transaction.
const RUN_AGE: Duration = Duration::from_secs(1);

/// Topics of another process, or of none.
pub struct Followed {
    config: Config,
    place: Mutex<Arc<Place>>,
}

impl Followed {
    pub fn new(place: Place, config: &Config) -> Self {
        Self { config: config.clone(), place: Mutex::new(Arc::new(place)) }
    }

    fn place(&self) -> Arc<Place> {
        Arc::clone(&self.place.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Goes where a host answers now, if one has come or gone elsewhere.
    fn look(&self) {
        if let Ok(Some(host)) = Place::running(&self.config) {
            *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(Place::Host(host));
        }
    }

    fn ask<T>(&self, ask: impl FnOnce(&Place) -> Result<T, BrokerError>) -> Result<T, BrokerError> {
        let answer = ask(&self.place());
        if answer.is_err() {
            self.look();
        }
        answer
    }
}

fn unreachable(error: &anyhow::Error) -> BrokerError {
    BrokerError::Unreachable { what: format!("{error:#}") }
}

impl Broker for Followed {
    fn topic(&self, name: &str) -> Result<Option<TopicInfo>, BrokerError> {
        Ok(self.topics()?.into_iter().find(|topic| topic.spec.name == name))
    }

    fn topics(&self) -> Result<Vec<TopicInfo>, BrokerError> {
        self.ask(|place| Ok(place.topics().map_err(|e| unreachable(&e))?.into_iter().map(info).collect()))
    }

    fn ends(&self, at: &TopicPartition) -> Result<Ends, BrokerError> {
        self.ask(|place| {
            let host = match place {
                Place::Folder(log) => return log.ends(at),
                Place::Host(host) => host,
            };
            let topic: TopicView = host.get(&format!("/api/topics/{}", at.topic)).map_err(|e| unreachable(&e))?;
            let found = topic.partitions.iter().find(|partition| partition.partition == at.partition);
            let unknown = || BrokerError::UnknownPartition {
                topic: topic.topic.clone(),
                partition: at.partition,
                partitions: u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX),
            };
            found.map(|p| Ends { start: p.log_start_offset, end: p.log_end_offset }).ok_or_else(unknown)
        })
    }

    fn fetch(
        &self,
        at: &TopicPartition,
        from: Offset,
        max_bytes: usize,
        max_wait: Duration,
    ) -> Result<Vec<StoredBatch>, BrokerError> {
        let batches = self.ask(|place| match place {
            Place::Folder(log) => log.fetch(at, from, max_bytes, Duration::ZERO),
            Place::Host(_) => {
                batches(at, from, &place.page(at, from, PAGE_RECORDS, max_wait, true).map_err(|e| unreachable(&e))?)
            }
        })?;
        if batches.is_empty() && matches!(*self.place(), Place::Folder(_)) {
            // Nothing more comes into files: unless a host comes, this is all.
            std::thread::sleep(max_wait);
            self.look();
        }
        Ok(batches)
    }

    fn create_topic(&self, _: &TopicSpec) -> Result<TopicInfo, BrokerError> {
        Err(BrokerError::ReadOnly)
    }

    fn add_partitions(&self, _: &str, _: u32) -> Result<TopicInfo, BrokerError> {
        Err(BrokerError::ReadOnly)
    }

    fn delete_topic(&self, _: &str) -> Result<(), BrokerError> {
        Err(BrokerError::ReadOnly)
    }

    /// Durable when it returns.
    fn append(&self, at: &TopicPartition, set: &RecordSetBuilder) -> Result<Appended, BrokerError> {
        let base = self.ask(|place| match place {
            Place::Folder(_) => Err(BrokerError::Unreachable {
                what: format!("a dead letter is for {at}, and no host runs that could write it: start one"),
            }),
            Place::Host(host) => host.append(at, set).map_err(|e| unreachable(&e)),
        })?;
        Ok(Appended::new(move || Ok(base)))
    }

    fn try_append(&self, at: &TopicPartition, set: &RecordSetBuilder) -> Result<Appended, BrokerError> {
        self.append(at, set)
    }

    fn last_batch_with(
        &self,
        at: &TopicPartition,
        matches: &mut dyn FnMut(&StoredBatch) -> bool,
    ) -> Result<Option<StoredBatch>, BrokerError> {
        let Ends { start, end } = self.ends(at)?;
        let (mut next, mut last) = (start, None);
        while next < end {
            for batch in self.fetch(at, next, usize::MAX, Duration::ZERO)? {
                next = batch.next_offset();
                last = if matches(&batch) { Some(batch) } else { last };
            }
        }
        Ok(last)
    }

    fn keep_from(&self, _: &TopicPartition, _: Offset) {}
}

fn info(topic: TopicView) -> TopicInfo {
    let spec = TopicSpec {
        partitions: u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX),
        retention: Retention {
            max_age: topic.retention_max_age_hours.map(|hours| Duration::from_secs(hours.saturating_mul(3_600))),
            max_bytes: topic.retention_max_bytes,
        },
        compact: topic.compacted,
        name: topic.topic,
    };
    TopicInfo { spec, id: topic.id }
}

/// A page as batches, exact as it is. Compaction leaves gaps, and a batch that is made here has none: each run of offsets is one.
pub fn batches(at: &TopicPartition, from: Offset, page: &RecordPage) -> Result<Vec<StoredBatch>, BrokerError> {
    let (start, end) = (page.log_start_offset, page.log_end_offset);
    if from < start || from > end {
        return Err(BrokerError::OffsetOutOfRange { at: at.clone(), asked: from, start, end });
    }
    if page.records.is_empty() && page.next_offset > from {
        // What was there is compacted away.
        return Ok(vec![StoredBatch::of(at.clone(), from, page.next_offset, &RecordSetBuilder::default())]);
    }
    let mut runs = page.records.chunk_by(|a, b| a.offset.plus(1) == b.offset).peekable();
    let mut batches = Vec::new();
    while let Some(run) = runs.next() {
        let mut set = RecordSetBuilder::default();
        for record in run {
            let (key, value) = bytes(record).ok_or_else(|| BrokerError::Undecodable {
                at: at.clone(),
                offset: record.offset,
                what: "it came without its bytes".to_owned(),
            })?;
            set.push(key.as_deref(), &value, record.timestamp_ms);
        }
        let next = runs.peek().and_then(|run| run.first()).map_or(page.next_offset, |first| first.offset);
        batches.extend(run.first().map(|first| StoredBatch::of(at.clone(), first.offset, next, &set)));
    }
    Ok(batches)
}

fn bytes(record: &RecordView) -> Option<(Option<Vec<u8>>, Vec<u8>)> {
    let key = match &record.key {
        Some(key) => Some(key.bytes()?),
        None => None,
    };
    Some((key, record.value.bytes()?))
}

/// Which run is current, asked again when the answer has got old.
pub fn runs(broker: Arc<Followed>, first: RunInfo) -> Runs {
    let known = Mutex::new((Instant::now(), first));
    let ask = move || -> Result<RunInfo, BrokerError> {
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0.elapsed() > RUN_AGE {
            let run = stack::run_info(&*broker, known.1.partitions)?;
            *known = (Instant::now(), run);
        }
        Ok(known.1.clone())
    };
    // Sinks ask from within their tasks, and may wait for each other's request.
    Arc::new(move || tokio::task::block_in_place(&ask))
}

#[cfg(test)]
mod tests {
    use clickmill_pipeline::views::records::Content;
    use clickmill_schemas::PartitionId;
    use clickmill_schemas::record::Records;

    use super::*;

    fn record(offset: u64, key: &[u8]) -> RecordView {
        RecordView {
            partition: PartitionId(0),
            offset: Offset(offset),
            timestamp_ms: 1_000 + i64::try_from(offset).unwrap(),
            key: Some(Content::of(key)),
            value: Content::of(b"v\xff"),
        }
    }

    fn page(records: Vec<RecordView>, next: u64) -> RecordPage {
        RecordPage { records, next_offset: Offset(next), log_start_offset: Offset(2), log_end_offset: Offset(20) }
    }

    #[test]
    fn offsets_and_bytes_are_those_of_the_log_where_compaction_left_gaps() {
        let at = TopicPartition::new("t", PartitionId(0));
        let page = page(vec![record(5, b"a"), record(6, b"\xfe"), record(9, b"c"), record(12, b"d")], 15);
        let batches = batches(&at, Offset(4), &page).unwrap();
        let ends: Vec<_> = batches.iter().map(|b| (b.base_offset.0, b.count, b.next_offset().0)).collect();
        assert_eq!(ends, [(5, 2, 9), (9, 1, 12), (12, 1, 15)]);
        let set = batches[0].records().unwrap();
        let second = Records::new(&set).unwrap().nth(1).unwrap().unwrap();
        assert_eq!((second.offset_delta, second.key, second.value), (1, Some(&b"\xfe"[..]), &b"v\xff"[..]));
        assert_eq!(batches[0].base_timestamp_ms + second.timestamp_delta_ms, 1_006);
    }

    #[test]
    fn what_was_compacted_away_is_passed_over_and_what_retention_took_is_an_error() {
        let at = TopicPartition::new("t", PartitionId(0));
        let gone = batches(&at, Offset(4), &page(vec![], 15)).unwrap();
        assert_eq!((gone.len(), gone[0].count, gone[0].next_offset()), (1, 0, Offset(15)));
        assert_eq!(gone[0].records().unwrap().len(), gone[0].records_len());
        assert!(batches(&at, Offset(20), &page(vec![], 20)).unwrap().is_empty());
        for from in [1, 21] {
            let refused = batches(&at, Offset(from), &page(vec![], 20));
            assert!(matches!(refused, Err(BrokerError::OffsetOutOfRange { .. })));
        }
    }
}
