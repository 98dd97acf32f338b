//! The topics of the pipeline: names, partitions, what they keep.

use std::time::Duration;

use clickmill_broker::{Broker, BrokerError, Retention, TopicInfo, TopicSpec};

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

/// Creates what is missing and returns `ad_events_raw`.
///
/// # Errors
/// Where a topic exists with other partitions, or the broker fails.
pub fn create_all(broker: &dyn Broker, options: &TopicsOptions) -> Result<TopicInfo, BrokerError> {
    let mut raw = None;
    for spec in specs(options) {
        let info = broker.create_topic(&spec)?;
        raw.get_or_insert(info);
    }
    // `specs` is never empty, and its first is ad_events_raw.
    raw.ok_or(BrokerError::UnknownTopic { topic: AD_EVENTS_RAW.to_owned() })
}
