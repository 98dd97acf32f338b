//! The topics of the pipeline: names, partitions, what they keep; and what users may do with topics, these and their own.

use std::str::FromStr;
use std::time::Duration;

use clickmill_broker::{Broker, BrokerError, Retention, TopicInfo, TopicPartition, TopicSpec};
use clickmill_schemas::{Offset, PartitionId};
use serde::{Deserialize, Serialize};

/// Events as they were produced.
pub const AD_EVENTS_RAW: &str = "ad_events_raw";
/// Dead letters.
pub const AD_EVENTS_ERROR: &str = "ad_events_error";
/// Window partials, late events, decisions, commits.
pub const CTR_WINDOWS: &str = "ctr_windows";
/// Which modules are in force.
pub const DEPLOYMENTS: &str = "deployments";

/// What has become of the dead letters.
pub const AD_EVENTS_DLQ: &str = "ad_events_dlq";
/// Which run readers take; only where the topic has been judged again.
pub const RUNS: &str = "runs";

/// What the configuration says about the topics.
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

/// The five topics. `ctr_windows` and `ad_events_dlq` keep the newest version of each key, `deployments` keeps everything.
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
        spec(AD_EVENTS_DLQ, 1, None, None, true),
    ]
}

/// Creates what is missing and returns `ad_events_raw`, which keeps the partitions that it has. A limit that `options` do
/// not name is the topic's own. What the workers read stays whole, with retention or without, until they have started and
/// said what they still need: they may need all of it.
///
/// # Errors
/// Where the broker fails.
pub fn create_all(broker: &dyn Broker, options: &TopicsOptions) -> Result<TopicInfo, BrokerError> {
    let partitions = broker.topic(AD_EVENTS_RAW)?.map_or(options.partitions, |info| info.spec.partitions);
    let mut raw = None;
    for mut spec in specs(&TopicsOptions { partitions, ..options.clone() }) {
        if let Some(Retention { max_age, max_bytes }) = broker.topic(&spec.name)?.map(|info| info.spec.retention) {
            spec.retention.max_age = spec.retention.max_age.or(max_age);
            spec.retention.max_bytes = spec.retention.max_bytes.or(max_bytes);
        }
        let info = broker.create_topic(&spec)?;
        // Nobody ever moves the floor of these two, nor need they one: deployments are kept for good, and of the letters
        // what compaction leaves.
        let read_by_workers = ![DEPLOYMENTS, AD_EVENTS_DLQ].contains(&spec.name.as_str());
        for partition in (0..spec.partitions).filter(|_| read_by_workers) {
            broker.keep_from(&TopicPartition::new(spec.name.as_str(), PartitionId(partition)), Offset(0));
        }
        raw.get_or_insert(info);
    }
    // `specs` is never empty, and its first is ad_events_raw.
    raw.ok_or(BrokerError::UnknownTopic { topic: AD_EVENTS_RAW.to_owned() })
}

/// Whether the pipeline itself writes and reads this topic.
#[must_use]
pub fn is_own(name: &str) -> bool {
    [AD_EVENTS_RAW, AD_EVENTS_ERROR, CTR_WINDOWS, DEPLOYMENTS, RUNS, AD_EVENTS_DLQ].contains(&name)
}

/// What is to change of a topic; what is not named stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alter {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_max_age_hours: Option<Limit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_max_bytes: Option<Limit>,
}

/// A limit on what is kept, or that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a limit is a number from 0 on, or `none`")]
pub enum Limit {
    At(u64),
    None(NoLimit),
}

/// The word `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoLimit {
    None,
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None(NoLimit::None)),
            number => number.parse().map(Self::At).map_err(|_| "a limit is a number, or `none`".to_owned()),
        }
    }
}

impl Limit {
    const fn given(self) -> Option<u64> {
        match self {
            Self::At(limit) => Some(limit),
            Self::None(_) => None,
        }
    }
}

/// A topic that is to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Create {
    pub name: String,
    pub partitions: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_max_age_hours: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_max_bytes: Option<u64>,
    /// Keep the newest record of each key.
    #[serde(default)]
    pub compact: bool,
}

/// Why a topic stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("topic {0:?} exists already; `clickmill topic alter` changes it")]
    Exists(String),
    #[error("topic {topic:?} is one of clickmill's own, and {why}")]
    Own { topic: String, why: &'static str },
}

/// Makes a topic of a user's own.
///
/// # Errors
/// [`TopicError`], and there is no such topic, or the one that there was.
pub fn create(broker: &dyn Broker, topic: &Create) -> Result<TopicInfo, TopicError> {
    if is_own(&topic.name) {
        let why = "`clickmill run` makes it; its partitions and retention are in clickmill.yaml, or are altered later";
        return Err(TopicError::Own { topic: topic.name.clone(), why });
    }
    if broker.topic(&topic.name)?.is_some() {
        return Err(TopicError::Exists(topic.name.clone()));
    }
    Ok(broker.create_topic(&TopicSpec {
        name: topic.name.clone(),
        partitions: topic.partitions,
        retention: Retention {
            max_age: topic.retention_max_age_hours.map(hours),
            max_bytes: topic.retention_max_bytes,
        },
        compact: topic.compact,
    })?)
}

/// Changes a topic: what it keeps first, so that a refusal leaves its partitions alone.
///
/// # Errors
/// [`TopicError`].
pub fn alter(broker: &dyn Broker, name: &str, change: &Alter) -> Result<TopicInfo, TopicError> {
    let own = |why| TopicError::Own { topic: name.to_owned(), why };
    let info = broker.topic(name)?.ok_or_else(|| BrokerError::UnknownTopic { topic: name.to_owned() })?;
    let limits = change.retention_max_age_hours.is_some() || change.retention_max_bytes.is_some();
    if limits && [CTR_WINDOWS, DEPLOYMENTS, AD_EVENTS_DLQ].contains(&name) {
        return Err(own("recovery needs all that it keeps"));
    }
    let existing = info.spec.partitions;
    let partitions = change.partitions.unwrap_or(existing);
    if partitions != existing && is_own(name) && name != AD_EVENTS_RAW {
        return Err(own("it has one partition, whose order workers and readers rely on"));
    }
    if partitions < existing {
        return Err(BrokerError::PartitionsDiffer { topic: name.to_owned(), existing, asked: partitions }.into());
    }
    let mut spec = info.spec.clone();
    if let Some(limit) = change.retention_max_age_hours {
        spec.retention.max_age = limit.given().map(hours);
    }
    if let Some(limit) = change.retention_max_bytes {
        spec.retention.max_bytes = limit.given();
    }
    if spec != info.spec {
        broker.create_topic(&spec)?;
    }
    let info = broker.add_partitions(name, partitions)?;
    if name == AD_EVENTS_RAW {
        // As for those that it was made with: a worker says later what may go.
        for partition in (existing..partitions).map(PartitionId) {
            broker.keep_from(&TopicPartition::new(name, partition), Offset(0));
        }
    }
    Ok(info)
}

/// Deletes a topic of a user's own.
///
/// # Errors
/// [`TopicError`], and it is still there.
pub fn delete(broker: &dyn Broker, name: &str) -> Result<(), TopicError> {
    if is_own(name) {
        let why = "it cannot be deleted; to begin anew, remove the data directory";
        return Err(TopicError::Own { topic: name.to_owned(), why });
    }
    Ok(broker.delete_topic(name)?)
}

const fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours.saturating_mul(3_600))
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

    #[test]
    fn a_limit_that_was_altered_stays_where_the_configuration_names_none() {
        let dir = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(dir.path(), LogOptions::default()).unwrap();
        let bytes = |max: Option<u64>| TopicsOptions { raw_max_bytes: max, ..TopicsOptions::default() };
        let kept = |log: &EmbeddedLog| log.topic(AD_EVENTS_RAW).unwrap().unwrap().spec.retention;
        create_all(&log, &bytes(None)).unwrap();
        let change = |text: &str| serde_json::from_str::<Alter>(text).unwrap();
        alter(&log, AD_EVENTS_RAW, &change(r#"{"retention_max_bytes": 5000, "retention_max_age_hours": 2}"#)).unwrap();
        create_all(&log, &bytes(None)).unwrap();
        assert_eq!(kept(&log), Retention { max_age: Some(Duration::from_secs(7_200)), max_bytes: Some(5_000) });
        create_all(&log, &bytes(Some(9))).unwrap();
        assert_eq!(kept(&log).max_bytes, Some(9), "what the configuration names comes first");
        alter(&log, AD_EVENTS_RAW, &change(r#"{"retention_max_bytes": "none"}"#)).unwrap();
        create_all(&log, &bytes(None)).unwrap();
        assert_eq!(kept(&log), Retention { max_age: Some(Duration::from_secs(7_200)), max_bytes: None });
    }

    #[test]
    fn what_the_pipeline_relies_on_cannot_be_changed_or_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(dir.path(), LogOptions::default()).unwrap();
        create_all(&log, &TopicsOptions::default()).unwrap();
        let before = log.topics().unwrap();
        for name in [AD_EVENTS_RAW, AD_EVENTS_ERROR, CTR_WINDOWS, DEPLOYMENTS] {
            assert!(matches!(delete(&log, name), Err(TopicError::Own { .. })), "{name}");
            let made = Create {
                name: name.to_owned(),
                partitions: 3,
                retention_max_age_hours: None,
                retention_max_bytes: None,
                compact: true,
            };
            assert!(matches!(create(&log, &made), Err(TopicError::Own { .. })), "{name}");
        }
        let more = Alter { partitions: Some(4), ..Alter::default() };
        for name in [AD_EVENTS_ERROR, CTR_WINDOWS, DEPLOYMENTS] {
            assert!(matches!(alter(&log, name, &more), Err(TopicError::Own { .. })), "{name}");
        }
        let fewer = Alter { partitions: Some(2), retention_max_bytes: Some(Limit::At(1)), ..Alter::default() };
        let refused = alter(&log, AD_EVENTS_RAW, &fewer);
        assert!(matches!(refused, Err(TopicError::Broker(BrokerError::PartitionsDiffer { .. }))), "{refused:?}");
        assert_eq!(log.topics().unwrap(), before);
        alter(&log, AD_EVENTS_RAW, &more).unwrap();
        assert_eq!(create_all(&log, &TopicsOptions::default()).unwrap().spec.partitions, 4);
    }
}
