//! What a well-formed config may still get wrong: ranges and combinations. Pure: config in, problems out.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;

use super::stages::{BUILTIN, CTR_WINDOW};
use clickmill_pipeline::deployment::body::is_stage_name;

use super::sinks::Sinks;
use super::{Config, Secret};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const GIB: usize = 1024 * MIB;

/// What an append must always be able to take: a dead letter of the longest payload, or a window of five panes of ctr-window
/// with as many key bytes as they may have by default.
const LEAST_BATCH_BYTES: usize = 8 * MIB;
const PANES_OF_A_WINDOW: usize = 5;

/// One thing that is wrong.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, as in `stages[1].params`.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Problem {
    /// One line, with the place that the value comes from.
    pub fn shown(&self, place: Option<&str>) -> String {
        match place {
            Some(place) => format!("{place}: `{}` {}", self.key, self.message),
            None => format!("`{}` {}", self.key, self.message),
        }
    }
}

/// Everything that is wrong with the config; empty when it can be used.
pub fn problems(config: &Config) -> Vec<Problem> {
    let mut found = Found::default();
    found.ranges(config);
    found.server(config);
    found.stages(config);
    found.sinks(config);
    found.slack(config);
    if config.data_dir.as_os_str().is_empty() {
        found.add("data_dir", "must not be empty");
    }
    if config.log.filter.trim().is_empty() {
        found.add("log.filter", "must not be empty: write `off` to log nothing");
    }
    found.0
}

#[derive(Default)]
struct Found(Vec<Problem>);

impl Found {
    fn add(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem { key: key.into(), message: message.into() });
    }

    fn range<T: PartialOrd + Display>(&mut self, key: &str, value: T, allowed: RangeInclusive<T>) {
        if !allowed.contains(&value) {
            self.add(key, format!("is {value}, but must be from {} to {}", allowed.start(), allowed.end()));
        }
    }

    fn slack(&mut self, config: &Config) {
        let at = config.slack.daily_summary_at.as_deref();
        if let Some(at) = at.filter(|at| at.parse::<jiff::civil::Time>().is_err()) {
            self.add("slack.daily_summary_at", format!("is {at:?}, but must be a time, as in 07:00, or null"));
        }
        let url = config.slack.webhook_url.as_ref().map(Secret::expose);
        if url.is_some_and(|url| !url.starts_with("https://") && !url.starts_with("http://")) {
            self.add("slack.webhook_url", "must begin with https:// or http://");
        }
    }

    fn ranges(&mut self, config: &Config) {
        let Config { server, broker, pipeline, dlq, slack, engine, sinks, .. } = config;
        self.range("server.max_body_bytes", server.max_body_bytes, KIB..=GIB);
        self.range("server.max_record_bytes", server.max_record_bytes, KIB..=GIB);
        self.range("server.max_body_bytes_in_flight", server.max_body_bytes_in_flight, server.max_body_bytes..=4 * GIB);
        self.range("server.request_timeout_ms", server.request_timeout_ms, 100..=3_600_000);
        self.range("server.header_timeout_ms", server.header_timeout_ms, 100..=3_600_000);
        self.range("server.max_in_flight_requests", server.max_in_flight_requests, 1..=100_000);
        self.range("server.max_connections", server.max_connections, 1..=100_000);
        self.range("server.max_live_clients", server.max_live_clients, 1..=100_000);

        self.range("broker.sync_interval_ms", broker.sync_interval_ms, 0..=10);
        self.range("broker.segment_bytes", broker.segment_bytes, 1 << 20..=1 << 32);
        self.range("broker.max_in_flight_bytes", broker.max_in_flight_bytes, MIB..=GIB);
        self.range("broker.max_batch_bytes", broker.max_batch_bytes, LEAST_BATCH_BYTES..=GIB);
        self.range("broker.zstd_level", broker.zstd_level, 1..=19);
        self.range("broker.maintenance_interval_ms", broker.maintenance_interval_ms, 100..=3_600_000);
        self.range("broker.compaction_keys", broker.compaction_keys, 1_024..=1 << 26);
        let (raw, error) = (&broker.topics.ad_events_raw, &broker.topics.ad_events_error);
        self.range("broker.topics.ad_events_raw.partitions", raw.partitions, 1..=1024);
        self.retention("ad_events_raw", raw.retention_max_age_hours, raw.retention_max_bytes);
        self.retention("ad_events_error", error.retention_max_age_hours, error.retention_max_bytes);

        self.range("pipeline.commit_interval_ms", pipeline.commit_interval_ms, 10..=60_000);
        self.range("pipeline.commit_pending_bytes", pipeline.commit_pending_bytes, MIB / 16..=GIB);
        self.range("pipeline.checkpoints_kept", pipeline.checkpoints_kept, 1..=1_000);
        self.range("pipeline.idle_partition_after_ms", pipeline.idle_partition_after_ms, 100..=86_400_000);
        self.range("pipeline.fetch_max_bytes", pipeline.fetch_max_bytes, 64 * KIB..=256 * MIB);

        self.range("pipeline.breaker_records", pipeline.breaker_records, 1..=100_000);

        self.range("dlq.max_retries", dlq.max_retries, 0..=100);
        self.range("dlq.backoff_ms", dlq.backoff_ms, 10..=86_400_000);
        self.range("dlq.max_backoff_ms", dlq.max_backoff_ms, dlq.backoff_ms..=86_400_000);

        self.range("slack.min_interval_ms", slack.min_interval_ms, 100..=86_400_000);

        // WebAssembly's 32-bit memories end at 4 GiB.
        self.range("engine.memory_limit_bytes", engine.memory_limit_bytes, 16 * MIB..=4 * GIB);
        self.range("engine.output_limit_bytes", engine.output_limit_bytes, MIB..=GIB);
        self.range("engine.call_time_limit_ms", engine.call_time_limit_ms, 10..=600_000);
        if let Some(fuel) = engine.call_fuel_limit {
            self.range("engine.call_fuel_limit", fuel, 1_000..=u64::MAX);
        }

        if let Some(max_keys) = sinks.redis.max_keys {
            self.range("sinks.redis.max_keys", max_keys, 1_000..=1 << 26);
        }
        for (sink, batch) in [("postgres", &sinks.postgres.batch), ("redis", &sinks.redis.batch)] {
            if let Some(max_bytes) = batch.max_bytes {
                self.range(&format!("sinks.{sink}.batch.max_bytes"), max_bytes, 64 * KIB..=256 * MIB);
            }
            if let Some(linger_ms) = batch.linger_ms {
                self.range(&format!("sinks.{sink}.batch.linger_ms"), linger_ms, 0..=10_000);
            }
            if let Some(timeout_ms) = batch.timeout_ms {
                self.range(&format!("sinks.{sink}.batch.timeout_ms"), timeout_ms, 1_000..=3_600_000);
            }
        }
    }

    fn retention(&mut self, topic: &str, hours: Option<u64>, bytes: Option<u64>) {
        if let Some(hours) = hours {
            self.range(&format!("broker.topics.{topic}.retention_max_age_hours"), hours, 1..=1_000_000);
        }
        if let Some(bytes) = bytes {
            self.range(&format!("broker.topics.{topic}.retention_max_bytes"), bytes, 1 << 20..=u64::MAX);
        }
    }

    fn server(&mut self, config: &Config) {
        let server = &config.server;
        match &server.token {
            Some(token) if clickmill_server::Token::new(token.expose()).is_err() => {
                self.add(
                    "server.token",
                    "must have at least 16 visible ASCII characters: `openssl rand -hex 32` makes one",
                );
            }
            Some(_) => {}
            None if server.enabled && !server.listen.ip().is_loopback() => {
                self.add(
                    "server.listen",
                    format!(
                        "is {}, which others can reach: set a token too (server.token or CLICKMILL_TOKEN), \
                         or listen on 127.0.0.1",
                        server.listen
                    ),
                );
            }
            None => {}
        }
    }

    fn stages(&mut self, config: &Config) {
        let mut seen = BTreeSet::new();
        if config.stages.is_empty() {
            self.add("stages", "must name at least one module: leave the key out for the whole chain");
        }
        for (index, stage) in config.stages.iter().enumerate() {
            if !seen.insert(stage.name.as_str()) {
                self.add(format!("stages[{index}].name"), format!("`{}` is in the chain already", stage.name));
            }
            let message = match stage.name.as_str() {
                _ if stage.module.is_some() && !is_stage_name(&stage.name) => Some(
                    "must have letters, digits, `-`, `_` or `.`, 64 at most: metrics and dead letters name the stage by it"
                        .to_owned(),
                ),
                name if stage.module.is_none() && !BUILTIN.contains(&name) => Some(format!(
                    "is `{name}`, and the program carries {}: give the file of your own module in `module`",
                    BUILTIN.join(", ")
                )),
                _ => None,
            };
            if let Some(message) = message {
                self.add(format!("stages[{index}].name"), message);
            }
            if stage.is_builtin(CTR_WINDOW) && index + 1 != config.stages.len() {
                self.add(format!("stages[{index}].name"), "`ctr-window` must be the last: it hands no events on");
            }
            for name in stage.params.keys().chain(stage.param_files.keys()) {
                if name.starts_with("clickmill.") {
                    let message =
                        format!("must not set `{name}`: parameters that begin with `clickmill.` are the host's");
                    self.add(format!("stages[{index}]"), message);
                }
            }
            if let Some(bytes) =
                stage.params.get("max_pane_key_bytes").and_then(|text| text.trim().parse::<usize>().ok())
                && stage.is_builtin(CTR_WINDOW)
                && bytes.saturating_mul(PANES_OF_A_WINDOW).saturating_add(MIB) > config.broker.max_batch_bytes
            {
                let message = format!(
                    "sets max_pane_key_bytes to {bytes}: a window of {PANES_OF_A_WINDOW} panes may then not fit into \
                     broker.max_batch_bytes, {}; raise that, or lower this",
                    config.broker.max_batch_bytes
                );
                self.add(format!("stages[{index}].params"), message);
            }
            if let Some(name) = stage.params.keys().find(|name| stage.param_files.contains_key(*name)) {
                self.add(format!("stages[{index}].param_files"), format!("sets `{name}`, which `params` sets too"));
            }
        }
    }

    fn sinks(&mut self, config: &Config) {
        let Sinks { postgres, redis, parquet, http } = &config.sinks;
        self.url("sinks.parquet.url", parquet.url.as_ref(), &["file://", "s3://", "gs://"]);
        self.url("sinks.http.url", http.url.as_ref(), &["https://", "http://"]);
        self.url("sinks.postgres.url", postgres.url.as_ref(), &["postgres://", "postgresql://"]);
        self.url("sinks.redis.url", redis.url.as_ref(), &["redis://", "rediss://", "unix://", "redis+unix://"]);
    }

    /// Says nothing of the value itself, which may hold a password.
    fn url(&mut self, key: &str, value: Option<&Secret>, schemes: &[&str]) {
        let Some(value) = value else { return };
        if !schemes.iter().any(|scheme| value.expose().starts_with(scheme)) {
            self.add(key, format!("must begin with {}", schemes.join(" or ")));
        }
    }
}
