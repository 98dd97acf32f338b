//! What PostgreSQL and Redis hold, read with their own clients.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::Value;

/// The private servers of a data directory, started again after the host has stopped them.
pub struct Sinks {
    servers: clickmill_connectors::Servers,
    runtime: tokio::runtime::Runtime,
    pub postgres: String,
    pub redis: String,
}

impl Sinks {
    pub fn of(data_dir: &Path) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let servers = clickmill_connectors::Servers::new(data_dir);
        let postgres = runtime.block_on(servers.postgres()).unwrap();
        let redis = runtime.block_on(servers.redis()).unwrap();
        Self { servers, runtime, postgres, redis }
    }

    /// Rows of a query, as psql prints them.
    pub fn sql(&self, query: &str) -> String {
        let output = Command::new("psql").args([&self.postgres, "-XAtc", query]).output().unwrap();
        assert!(output.status.success(), "{query}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// All hashes under `metrics:*`.
    pub fn hashes(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        self.runtime.block_on(async {
            let client = redis::Client::open(self.redis.as_str()).unwrap();
            let mut connection = client.get_multiplexed_async_connection().await.unwrap();
            let keys: Vec<String> = redis::cmd("KEYS").arg("metrics:*").query_async(&mut connection).await.unwrap();
            let mut all = BTreeMap::new();
            for key in keys {
                let hash = redis::cmd("HGETALL").arg(&key).query_async(&mut connection).await.unwrap();
                all.insert(key, hash);
            }
            all
        })
    }

    /// Everything that must be equal after the same input, whatever happened on the way.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            one_minute: self.sql("SELECT * FROM realtime.metrics_1min ORDER BY window_start"),
            five_minutes: self.sql("SELECT * FROM realtime.metrics_5min ORDER BY window_start"),
            all: self.sql("SELECT * FROM realtime.ctr_metrics ORDER BY window_end - window_start, window_start, dimension, key COLLATE \"C\""),
            hours: self.sql("SELECT * FROM realtime.metrics_hourly ORDER BY hour_start, dimension, key COLLATE \"C\""),
            hashes: self.hashes(),
        }
    }
}

impl Drop for Sinks {
    fn drop(&mut self) {
        let _ = self.runtime.block_on(self.servers.stop(std::time::Duration::from_secs(10)));
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub one_minute: String,
    pub five_minutes: String,
    pub all: String,
    pub hours: String,
    pub hashes: BTreeMap<String, BTreeMap<String, String>>,
}

/// The ledger of a status, and that it balances.
pub fn balanced_ledger(status: &Value) -> [u64; 5] {
    let ledger = &status["ledger"];
    let n = |name: &str| ledger[name].as_u64().unwrap();
    let all = [n("produced"), n("counted"), n("rejected"), n("late"), n("dropped")];
    assert_eq!(all[0], all[1..].iter().sum::<u64>(), "the ledger does not balance: {ledger}");
    all
}

/// The JSON value of a record, as `topic read --output json` shows it.
pub fn text_value(record: &Value) -> Value {
    record["value"]["data"].as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}
