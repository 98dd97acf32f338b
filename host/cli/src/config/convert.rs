//! Hands each crate its own part of the config, in that crate's types.

use std::time::Duration;

use clickmill_broker::LogOptions as BrokerLogOptions;
use clickmill_connectors as connectors;
use clickmill_connectors::Connector;
use clickmill_connectors::file::ConnectorFile;
use clickmill_engine::Limits;
use clickmill_pipeline::dlq::RetryPolicy;
use clickmill_pipeline::{TopicsOptions, WorkerOptions};
use clickmill_server as server;

use super::sinks::{self, BatchSettings, OnOtherRun};
use super::{Config, Secret};

const HOUR: Duration = Duration::from_secs(3600);

impl Config {
    /// For the HTTP server. A token that it would not take was refused when the config was read.
    pub fn server_options(&self) -> server::Options {
        let own = &self.server;
        server::Options {
            listen: own.listen,
            token: own.token.as_ref().and_then(|token| server::Token::new(token.expose()).ok()),
            max_body_bytes: own.max_body_bytes,
            max_record_bytes: own.max_record_bytes,
            max_body_bytes_in_flight: own.max_body_bytes_in_flight,
            request_timeout: Duration::from_millis(own.request_timeout_ms),
            header_timeout: Duration::from_millis(own.header_timeout_ms),
            max_in_flight_requests: own.max_in_flight_requests,
            max_connections: own.max_connections,
            max_live_clients: own.max_live_clients,
        }
    }

    /// For the embedded broker.
    pub fn broker_options(&self) -> BrokerLogOptions {
        let own = &self.broker;
        BrokerLogOptions {
            sync_interval: Duration::from_millis(own.sync_interval_ms),
            segment_bytes: own.segment_bytes,
            max_in_flight_bytes: own.max_in_flight_bytes,
            max_batch_bytes: own.max_batch_bytes,
            zstd_level: own.zstd_level,
            maintenance_interval: Duration::from_millis(own.maintenance_interval_ms),
            compaction_keys: own.compaction_keys,
        }
    }

    /// For the topics that are made at start.
    pub fn topics_options(&self) -> TopicsOptions {
        let (raw, error) = (&self.broker.topics.ad_events_raw, &self.broker.topics.ad_events_error);
        TopicsOptions {
            partitions: raw.partitions,
            raw_max_age: raw.retention_max_age_hours.map(hours),
            raw_max_bytes: raw.retention_max_bytes,
            error_max_age: error.retention_max_age_hours.map(hours),
            error_max_bytes: error.retention_max_bytes,
        }
    }

    /// For the workers.
    pub fn worker_options(&self) -> WorkerOptions {
        let own = &self.pipeline;
        WorkerOptions {
            commit_interval: Duration::from_millis(own.commit_interval_ms),
            commit_pending_bytes: own.commit_pending_bytes,
            checkpoints_kept: own.checkpoints_kept,
            idle_partition_after: Duration::from_millis(own.idle_partition_after_ms),
            fetch_max_bytes: own.fetch_max_bytes,
            on_module_failure: own.on_module_failure,
            breaker_records: own.breaker_records,
        }
    }

    /// How rejected records are tried again by themselves.
    pub fn retry_policy(&self) -> RetryPolicy {
        let own = &self.dlq;
        RetryPolicy {
            attempts: own.max_retries,
            first_wait: Duration::from_millis(own.backoff_ms),
            longest_wait: Duration::from_millis(own.max_backoff_ms),
        }
    }

    /// For each SmartModule instance.
    pub fn limits(&self) -> Limits {
        Limits {
            memory_bytes: self.engine.memory_limit_bytes,
            output_bytes: self.engine.output_limit_bytes,
            call_time: Duration::from_millis(self.engine.call_time_limit_ms),
            call_fuel: self.engine.call_fuel_limit,
        }
    }

    /// The connectors that are wanted: those of the files, with what is set over them here.
    pub fn connectors(&self, files: Vec<ConnectorFile>) -> Vec<Connector> {
        files.into_iter().filter_map(|file| self.with_settings(file)).map(Connector::hiding_its_own).collect()
    }

    /// None where it is switched off.
    fn with_settings(&self, file: ConnectorFile) -> Option<Connector> {
        let sinks::Sinks { postgres, redis, parquet, http } = &self.sinks;
        match file.connector {
            Connector::Postgres(mut own) if own.name == "postgres" => {
                own.url = postgres.url.as_ref().map(server_url).or(own.url);
                own.on_other_run = postgres.on_other_run.map_or(own.on_other_run, Into::into);
                own.raw_events = postgres.raw_events.unwrap_or(own.raw_events);
                own.batch = postgres.batch.over(own.batch);
                postgres.enabled.then_some(Connector::Postgres(own))
            }
            Connector::Redis(mut own) if own.name == "redis" => {
                own.url = redis.url.as_ref().map(server_url).or(own.url);
                own.on_other_run = redis.on_other_run.map_or(own.on_other_run, Into::into);
                own.max_keys = redis.max_keys.unwrap_or(own.max_keys);
                own.batch = redis.batch.over(own.batch);
                redis.enabled.then_some(Connector::Redis(own))
            }
            Connector::Parquet(mut own) if own.name == "parquet" => {
                own.url = parquet.url.as_ref().map(server_url).or(own.url);
                let has_place = !file.is_builtin || parquet.url.is_some();
                parquet.enabled.unwrap_or(has_place).then_some(Connector::Parquet(own))
            }
            Connector::Http(mut own) if own.name == "http" => {
                own.endpoint = http.url.as_ref().map(server_url).or(own.endpoint);
                http.enabled.unwrap_or(true).then_some(Connector::Http(own))
            }
            other => Some(other),
        }
    }
}

/// check.rs keeps the number far from where this would overflow.
fn hours(count: u64) -> Duration {
    HOUR.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
}

fn server_url(url: &Secret) -> connectors::ServerUrl {
    connectors::ServerUrl(url.expose().to_owned())
}

impl From<OnOtherRun> for connectors::OnOtherRun {
    fn from(own: OnOtherRun) -> Self {
        match own {
            OnOtherRun::Refuse => Self::Refuse,
            OnOtherRun::Replace => Self::Replace,
            OnOtherRun::Keep => Self::Keep,
        }
    }
}

impl BatchSettings {
    fn over(&self, below: connectors::BatchOptions) -> connectors::BatchOptions {
        connectors::BatchOptions {
            max_bytes: self.max_bytes.unwrap_or(below.max_bytes),
            linger_ms: self.linger_ms.unwrap_or(below.linger_ms),
            timeout_ms: self.timeout_ms.unwrap_or(below.timeout_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By what they print: not all of these can be compared.
    fn assert_same(own: &impl std::fmt::Debug, default: &impl std::fmt::Debug) {
        assert_eq!(format!("{own:?}"), format!("{default:?}"));
    }

    #[test]
    fn the_defaults_that_are_documented_are_those_of_the_crates() {
        let config = Config::default();
        assert_same(&config.server_options(), &server::Options::default());
        assert_same(&config.broker_options(), &BrokerLogOptions::default());
        assert_same(&config.topics_options(), &TopicsOptions::default());
        assert_same(&config.worker_options(), &WorkerOptions::default());
        assert_same(&config.limits(), &Limits::default());
        assert_same(&config.retry_policy(), &RetryPolicy::default());
    }

    /// The connectors that the program comes with.
    fn builtin() -> Vec<ConnectorFile> {
        struct Nothing;
        impl connectors::file::Names for Nothing {
            fn variable(&self, _: &str) -> Option<String> {
                None
            }
            fn secret(&self, _: &str) -> Option<String> {
                None
            }
            fn module(
                &self,
                _: &connectors::file::Wanted<'_>,
            ) -> Result<std::sync::Arc<[u8]>, connectors::file::BadModule> {
                unreachable!("they have no transforms")
            }
        }
        connectors::file::read_folder(std::path::Path::new(""), &Nothing).expect("the program's own files are right")
    }

    #[test]
    fn what_is_set_here_lies_over_the_files_and_what_is_switched_off_is_not_handed_on() {
        let mut config = Config::default();
        let all: Vec<_> = builtin().into_iter().map(|file| file.connector).collect();
        let is_files = |connector: &Connector| matches!(connector, Connector::Parquet(_));
        let by_default: Vec<_> = all.iter().filter(|connector| !is_files(connector)).cloned().collect();
        assert_eq!(config.connectors(builtin()), by_default);
        // One's own file is wanted, and so is one that is switched on.
        let own = builtin().into_iter().map(|file| ConnectorFile { is_builtin: false, ..file });
        assert_eq!(config.connectors(own.collect()), all);
        config.sinks.parquet.enabled = Some(true);
        assert_eq!(config.connectors(builtin()), all);
        config.sinks.postgres.enabled = false;
        config.sinks.parquet.enabled = Some(false);
        config.sinks.http.url = Some(Secret::from("https://elsewhere".to_owned()));
        config.sinks.redis.url = Some(Secret::from("redis://elsewhere".to_owned()));
        config.sinks.redis.batch.linger_ms = Some(7);
        let batch = connectors::BatchOptions { linger_ms: 7, ..Default::default() };
        let url = Some(connectors::ServerUrl("redis://elsewhere".to_owned()));
        let redis = connectors::RedisOptions { url, batch, ..Default::default() };
        let endpoint = Some(connectors::ServerUrl("https://elsewhere".to_owned()));
        let http = connectors::HttpOptions { endpoint, ..Default::default() };
        assert_eq!(config.connectors(builtin()), [Connector::Redis(redis), Connector::Http(http)]);
    }

    #[test]
    fn hours_become_time() {
        let mut config = Config::default();
        config.broker.topics.ad_events_raw.retention_max_age_hours = Some(48);
        assert_eq!(config.topics_options().raw_max_age, Some(Duration::from_secs(172_800)));
    }
}
