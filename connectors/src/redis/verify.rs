//! What Redis holds of the windows, to be compared with the topic. A hash that has expired is no difference, nor is one of
//! another run, which is on its way out or was to be kept. One that is gone before its version is: both expire at once, so
//! somebody has taken it. Without the connector's own state nothing tells what was there.

use std::collections::{BTreeMap, BTreeSet};

use clickmill_schemas::RunId;
use clickmill_schemas::partial::Metrics;
use redis::aio::MultiplexedConnection;

use super::RedisOptions;
use super::hash::{Span, TOTAL, version_key};
use super::link::{connect, unavailable};
use super::state::State;
use crate::endpoint::ServerUrl;
use crate::sink::SinkError;
use crate::verify::{Group, Verified, Window, compare_groups};

/// Keys asked for at once.
const PAGE: usize = 500;
const DOING: &str = "read the windows";

/// A connection, and what was looked at.
pub struct Held {
    connection: MultiplexedConnection,
    run: RunId,
    seen: BTreeSet<String>,
    /// The connector has left its offset in our run.
    has_state: bool,
}

/// A window's hash.
enum Hash {
    There(BTreeMap<String, Group>),
    /// Expired, or another run's.
    Gone,
    /// Its version is there.
    Lost,
}

impl Held {
    /// # Errors
    /// [`SinkError`] where the server cannot be asked.
    pub async fn open(url: &ServerUrl, options: &RedisOptions, run: RunId) -> Result<Self, SinkError> {
        let mut connection = connect(url, options).await?;
        let state = State::load(&mut connection, &options.state_key(), &url.masked()).await?;
        let has_state = state.is_some_and(|state| state.run == run);
        Ok(Self { connection, run, seen: BTreeSet::new(), has_state })
    }

    /// Why what was compared does not say that all is there.
    pub fn problem(&self, name: &str) -> Option<String> {
        let why = "Redis holds no offset of this connector for this run: it was flushed, or is not filled yet";
        let what = "a connector that runs fills it again";
        let is_lost = !self.has_state && !self.seen.is_empty();
        is_lost.then(|| format!("{why}; {what}, and `clickmill connector rebuild {name}` does so at once"))
    }

    /// Compares a window's hash, unless it has expired.
    pub async fn compare(
        &mut self,
        size_ms: i64,
        (start_ms, topic): &Window,
        verified: &mut Verified,
    ) -> Result<(), SinkError> {
        let Some(key) = (Span { start_ms: *start_ms, size_ms }).key() else { return Ok(()) };
        let hash = self.hash(&key).await?;
        self.seen.insert(key);
        let mut server = match hash {
            Hash::There(server) => server,
            Hash::Lost => BTreeMap::new(),
            Hash::Gone => return Ok(()),
        };
        let none = Group::new();
        for (dimension, group) in topic {
            let held = server.remove(dimension).unwrap_or_default();
            compare_groups(size_ms, &(*start_ms, dimension.clone()), group, &held, verified);
        }
        for (dimension, group) in server {
            compare_groups(size_ms, &(*start_ms, dimension), &none, &group, verified);
        }
        Ok(())
    }

    /// Finds the windows that the topic does not have.
    pub async fn compare_rest(&mut self, size_ms: i64, verified: &mut Verified) -> Result<(), SinkError> {
        let prefix = format!("metrics:{}min:", size_ms / 60_000);
        let mut cursor = 0_u64;
        loop {
            let (next, keys): (u64, Vec<String>) = redis::cmd("SCAN")
                .arg(cursor)
                .arg(&["MATCH", &format!("{prefix}*")])
                .arg("COUNT")
                .arg(PAGE)
                .query_async(&mut self.connection)
                .await
                .map_err(unavailable(DOING))?;
            for key in keys {
                if self.seen.contains(&key) {
                    continue;
                }
                let start = key.strip_prefix(&prefix).and_then(|start| start.parse::<jiff::Timestamp>().ok());
                let Some(start_ms) = start.map(jiff::Timestamp::as_millisecond) else { continue };
                let Hash::There(server) = self.hash(&key).await? else { continue };
                for (dimension, group) in server {
                    compare_groups(size_ms, &(start_ms, dimension), &Group::new(), &group, verified);
                }
            }
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    async fn hash(&mut self, key: &str) -> Result<Hash, SinkError> {
        let (fields, version): (BTreeMap<String, String>, Option<String>) = redis::pipe()
            .cmd("HGETALL")
            .arg(key)
            .cmd("GET")
            .arg(version_key(key))
            .query_async(&mut self.connection)
            .await
            .map_err(unavailable(DOING))?;
        let ours = version.is_some_and(|version| version.split(' ').next() == Some(&self.run.to_string()));
        Ok(match (ours, fields.is_empty()) {
            (false, _) => Hash::Gone,
            (true, true) => Hash::Lost,
            (true, false) => Hash::There(groups(&fields)),
        })
    }
}

/// The values of a hash, by dimension and key.
fn groups(fields: &BTreeMap<String, String>) -> BTreeMap<String, Group> {
    let bounds: BTreeSet<&str> = fields.get("lower_bound").map(|all| all.split(',').collect()).unwrap_or_default();
    let mut groups = BTreeMap::<String, Group>::new();
    for (field, value) in fields.iter().filter(|(field, _)| *field != "lower_bound") {
        let (dimension, rest) = field.split_once('|').unwrap_or((TOTAL, field));
        let (key, name) = rest.rsplit_once('|').unwrap_or(("", rest));
        let keys = groups.entry(dimension.to_owned()).or_default();
        // As of the topic's: keys that are one without U+0000 are summed.
        let (metrics, bound) = keys.entry(key.replace('\0', "\u{FFFD}")).or_default();
        *bound = bounds.contains(dimension);
        if let (Some(counter), Ok(value)) = (counter(metrics, name), value.parse::<i64>()) {
            *counter = counter.wrapping_add(value);
        }
    }
    groups
}

fn counter<'a>(metrics: &'a mut Metrics, name: &str) -> Option<&'a mut i64> {
    Some(match name {
        "impressions" => &mut metrics.impressions,
        "clicks" => &mut metrics.clicks,
        "conversions" => &mut metrics.conversions,
        "cost_micros" => &mut metrics.cost_micros,
        "revenue_micros" => &mut metrics.revenue_micros,
        _ => return None,
    })
}
