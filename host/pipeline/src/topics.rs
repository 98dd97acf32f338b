//! The topics of the pipeline: names, partitions, what they keep.

use std::time::Duration;

use clickmill_broker::{Broker, BrokerError, Retention, TopicInfo, TopicPartition, TopicSpec};
use clickmill_schemas::{Offset, PartitionId};

/// Events as they were produced.
pub const AD_EVENTS_RAW: &str = "ad_events_raw";
/// Dead letters.
pub const AD_EVENTS_ERROR: &str = "ad_events_error";
/// Window partials, late events, decisions, commits.
pub const CTR_WINDOWS: &str = "ctr_windows";
/// Which modules are in force.
pub const DEPLOYMENTS: &str = "deployments";

/// What a user may choose about the topics.
#[derive(Clone, Debug)]
pub struct TopicsOptions {
    /// Partitions of `ad_events_raw`.
    pub partitions: u32,
    pub raw_max_age: Option<Duration>,
    pub raw_max_bytes: Option<u64>,
    pub error_max_age: Option<Duration>,
    pub error_max_bytes: Option<u64>,
}

impl Default for TopicsOptions {
    fn default() -> Self {
        Self { partitions: 3, raw_max_age: None, raw_max_bytes: None, error_max_age: None, error_max_bytes: None }
    }
}

/// The four topics. `ctr_windows` keeps the newest version of each key, `deployments` keeps everything.
#[must_use]
pub fn specs(options: &TopicsOptions) -> Vec<TopicSpec> {
    let spec = |name: &str, partitions, max_age, max_bytes, compact| TopicSpec {
        name: name.to_owned(),
        partitions,
        retention: Retention { max_age, max_bytes },
        compact,
    };
    vec![
        spec(AD_EVENTS_RAW, options.partitions, options.raw_max_age, options.raw_max_bytes, false),
        spec(AD_EVENTS_ERROR, 1, options.error_max_age, options.error_max_bytes, false),
        spec(CTR_WINDOWS, 1, None, None, true),
        spec(DEPLOYMENTS, 1, None, None, false),
    ]
}

/// Creates what is missing and returns `ad_events_raw`, which keeps the partitions that it was made with. What the workers
/// read stays whole, with retention or without, until they have started and said what they still need: they may need all
/// of it.
///
/// # Errors
/// Where the broker fails.
pub fn create_all(broker: &dyn Broker, options: &TopicsOptions) -> Result<TopicInfo, BrokerError> {
    let partitions = broker.topic(AD_EVENTS_RAW)?.map_or(options.partitions, |info| info.spec.partitions);
    let mut raw = None;
    for spec in specs(&TopicsOptions { partitions, ..options.clone() }) {
        let info = broker.create_topic(&spec)?;
        // Nobody ever moves the floor of the deployments, nor need they one: they are kept for good.
        let read_by_workers = spec.name != DEPLOYMENTS;
        for partition in (0..spec.partitions).filter(|_| read_by_workers) {
            broker.keep_from(&TopicPartition::new(spec.name.as_str(), PartitionId(partition)), Offset(0));
        }
        raw.get_or_insert(info);
    }
    // `specs` is never empty, and its first is ad_events_raw.
    raw.ok_or(BrokerError::UnknownTopic { topic: AD_EVENTS_RAW.to_owned() })
}

#[cfg(test)]
mod tests {
    use clickmill_broker::{EmbeddedLog, LogOptions};
    use clickmill_schemas::record::RecordSetBuilder;

    use super::*;

    fn fill(log: &EmbeddedLog, topic: &str) {
        for n in 0..100_u32 {
            let mut set = RecordSetBuilder::default();
            set.push(None, &n.to_be_bytes(), 0);
            log.append(&TopicPartition::new(topic, PartitionId(0)), &set).unwrap().wait().unwrap();
        }
    }

    #[test]
    fn a_topic_that_exists_keeps_its_partitions() {
        let dir = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(dir.path(), LogOptions::default()).unwrap();
        let partitions = |partitions| TopicsOptions { partitions, ..TopicsOptions::default() };
        let made = create_all(&log, &partitions(7)).unwrap();
        assert_eq!(made.spec.partitions, 7);
        assert_eq!(create_all(&log, &partitions(3)).unwrap(), made);
    }

    #[test]
    fn nothing_that_no_worker_has_seen_goes_in_new_topics_and_in_those_made_without_a_floor() {
        let limits = TopicsOptions { raw_max_bytes: Some(1_000), error_max_bytes: Some(1_000), ..Default::default() };
        for made_without_a_floor in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let options = || LogOptions { segment_bytes: 1_000, ..LogOptions::default() };
            let log = EmbeddedLog::open(dir.path(), options()).unwrap();
            if made_without_a_floor {
                specs(&limits).iter().for_each(|spec| drop(log.create_topic(spec).unwrap()));
            } else {
                create_all(&log, &limits).unwrap();
            }
            fill(&log, AD_EVENTS_RAW);
            fill(&log, AD_EVENTS_ERROR);
            drop(log);
            let log = EmbeddedLog::open(dir.path(), options()).unwrap();
            if made_without_a_floor {
                create_all(&log, &limits).unwrap();
            }
            log.maintain().unwrap();
            for topic in [AD_EVENTS_RAW, AD_EVENTS_ERROR] {
                let at = TopicPartition::new(topic, PartitionId(0));
                assert_eq!(log.ends(&at).unwrap().start, Offset(0), "{at}");
                log.keep_from(&at, Offset(100));
            }
            log.maintain().unwrap();
            let start = log.ends(&TopicPartition::new(AD_EVENTS_RAW, PartitionId(0))).unwrap().start;
            assert!(start > Offset(0), "the limits take nothing at all");
        }
    }
}
