//! Every limit of the config as the server shows it: name, value, unit, and what it bounds. Pure.

use clickmill_server::Limit;

use super::Config;

/// A limit whose use nobody has looked at.
fn limit(name: &str, limit: impl Into<Option<u64>>, unit: &'static str, what: &'static str) -> Limit {
    Limit { name: name.to_owned(), limit: limit.into(), used: None, unit, what }
}

impl Config {
    /// The limits in force, section by section.
    pub fn all_limits(&self) -> Vec<Limit> {
        let Self { server, broker, pipeline, dlq, slack, engine, sinks, .. } = self;
        let (raw, error) = (&broker.topics.ad_events_raw, &broker.topics.ad_events_error);
        let count = |n: usize| n as u64;
        let mut limits = vec![
            limit("server.max_body_bytes", count(server.max_body_bytes), "bytes", "one request's body"),
            limit("server.max_record_bytes", count(server.max_record_bytes), "bytes", "one line of a body of records"),
            limit(
                "server.max_body_bytes_in_flight",
                count(server.max_body_bytes_in_flight),
                "bytes",
                "bodies in memory at once",
            ),
            limit("server.request_timeout_ms", server.request_timeout_ms, "ms", "one request"),
            limit("server.header_timeout_ms", server.header_timeout_ms, "ms", "a request's head coming in"),
            limit(
                "server.max_in_flight_requests",
                count(server.max_in_flight_requests),
                "requests",
                "requests at work at once",
            ),
            limit("server.max_connections", count(server.max_connections), "connections", "open connections"),
            limit("server.max_live_clients", count(server.max_live_clients), "listeners", "live streams at once"),
            limit(
                "broker.max_in_flight_bytes",
                count(broker.max_in_flight_bytes),
                "bytes",
                "appends before their fsync",
            ),
            limit("broker.max_batch_bytes", count(broker.max_batch_bytes), "bytes", "one append"),
            limit("broker.segment_bytes", broker.segment_bytes, "bytes", "one file of a log"),
            limit("broker.compaction_keys", count(broker.compaction_keys), "keys", "one pass of compaction"),
        ];
        for (topic, hours, bytes) in [
            ("ad_events_raw", raw.retention_max_age_hours, raw.retention_max_bytes),
            ("ad_events_error", error.retention_max_age_hours, error.retention_max_bytes),
        ] {
            let name = |key: &str| format!("broker.topics.{topic}.{key}");
            limits.push(limit(&name("retention_max_age_hours"), hours, "hours", "age of a record"));
            limits.push(limit(&name("retention_max_bytes"), bytes, "bytes", "one partition's log"));
        }
        limits.extend([
            limit("pipeline.commit_interval_ms", pipeline.commit_interval_ms, "ms", "time between two commits"),
            limit(
                "pipeline.commit_pending_bytes",
                count(pipeline.commit_pending_bytes),
                "bytes",
                "results that wait for a commit",
            ),
            limit(
                "pipeline.checkpoints_kept",
                count(pipeline.checkpoints_kept),
                "checkpoints",
                "checkpoints of one partition",
            ),
            limit(
                "pipeline.idle_partition_after_ms",
                pipeline.idle_partition_after_ms,
                "ms",
                "rest of a partition that holds the others up",
            ),
            limit("pipeline.fetch_max_bytes", count(pipeline.fetch_max_bytes), "bytes", "one read of a worker"),
            limit(
                "pipeline.breaker_records",
                count(pipeline.breaker_records),
                "records",
                "records in a row that a module fails on",
            ),
            limit("dlq.max_retries", u64::from(dlq.max_retries), "attempts", "attempts to send a dead letter again"),
            limit("dlq.backoff_ms", dlq.backoff_ms, "ms", "wait before the first attempt"),
            limit("dlq.max_backoff_ms", dlq.max_backoff_ms, "ms", "wait before an attempt"),
            limit("slack.min_interval_ms", slack.min_interval_ms, "ms", "time between two messages"),
            limit("engine.memory_limit_bytes", count(engine.memory_limit_bytes), "bytes", "memory of one instance"),
            limit("engine.output_limit_bytes", count(engine.output_limit_bytes), "bytes", "output of one call"),
            limit("engine.call_time_limit_ms", engine.call_time_limit_ms, "ms", "CPU time of one call"),
            limit("engine.call_fuel_limit", engine.call_fuel_limit, "fuel", "instructions of one call"),
        ]);
        if let Some(max_keys) = sinks.redis.max_keys {
            limits.push(limit("sinks.redis.max_keys", count(max_keys), "keys", "keys of windows that are not final"));
        }
        limits
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    /// Paths of the config's numbers and of what is a number or null.
    fn numbers(value: &Value, path: &str, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(name, field)| {
                numbers(field, &if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, found);
            }),
            Value::Number(_) => drop(found.insert(path.to_owned())),
            _ => {}
        }
    }

    #[test]
    fn every_number_of_the_config_that_bounds_something_is_among_them() {
        let mut config = Config::default();
        config.broker.topics.ad_events_raw.retention_max_age_hours = Some(1);
        config.broker.topics.ad_events_raw.retention_max_bytes = Some(1);
        config.broker.topics.ad_events_error =
            super::super::options::Retention { retention_max_age_hours: Some(1), retention_max_bytes: Some(1) };
        config.engine.call_fuel_limit = Some(1);
        config.sinks.redis.max_keys = Some(1);
        let mut keys = BTreeSet::new();
        numbers(&serde_json::to_value(&config).unwrap(), "", &mut keys);
        for no_limit in [
            "broker.sync_interval_ms",
            "broker.zstd_level",
            "broker.maintenance_interval_ms",
            "broker.topics.ad_events_raw.partitions",
        ] {
            assert!(keys.remove(no_limit), "{no_limit}");
        }
        assert_eq!(config.all_limits().into_iter().map(|limit| limit.name).collect::<BTreeSet<_>>(), keys);
    }
}
