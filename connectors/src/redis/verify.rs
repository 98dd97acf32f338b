//! What Redis holds of the windows, to be compared with the topic. A hash that has expired is no difference.

use std::collections::{BTreeMap, BTreeSet};

use clickmill_schemas::partial::Metrics;
use redis::aio::MultiplexedConnection;

use super::hash::{Span, TOTAL};
use super::sink::{connect, unavailable};
use crate::endpoint::ServerUrl;
use crate::sink::SinkError;
use crate::verify::{Difference, Group, Verified, Window, compare_groups};

/// Keys asked for at once.
const PAGE: usize = 500;
const DOING: &str = "read the windows";

/// A connection, and what was looked at.
pub struct Held {
    connection: MultiplexedConnection,
    seen: BTreeSet<String>,
}

impl Held {
    /// # Errors
    /// [`SinkError`] where the server cannot be asked.
    pub async fn open(url: &ServerUrl) -> Result<Self, SinkError> {
        Ok(Self { connection: connect(url).await?, seen: BTreeSet::new() })
    }

    /// Compares a window's hash, where it is there.
    pub async fn compare(
        &mut self,
        size_ms: i64,
        (start_ms, topic): &Window,
        verified: &mut Verified,
    ) -> Result<(), SinkError> {
        let Some(key) = (Span { start_ms: *start_ms, size_ms }).key() else { return Ok(()) };
        let fields: BTreeMap<String, String> =
            redis::cmd("HGETALL").arg(&key).query_async(&mut self.connection).await.map_err(unavailable(DOING))?;
        self.seen.insert(key);
        if fields.is_empty() {
            return Ok(());
        }
        let mut server = groups(&fields);
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
        let pattern = format!("metrics:{}min:*", size_ms / 60_000);
        let mut cursor = 0_u64;
        loop {
            let (next, keys): (u64, Vec<String>) = redis::cmd("SCAN")
                .arg(cursor)
                .arg(&["MATCH", &pattern])
                .arg("COUNT")
                .arg(PAGE)
                .query_async(&mut self.connection)
                .await
                .map_err(unavailable(DOING))?;
            for key in keys.into_iter().filter(|key| !self.seen.contains(key)) {
                verified.compared += 1;
                let (start_ms, dimension) = (0, TOTAL.to_owned());
                verified.differ(|| Difference { size_ms, start_ms, dimension, key, topic: None, server: Some([0; 5]) });
            }
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }
}

/// The values of a hash, by dimension and key.
fn groups(fields: &BTreeMap<String, String>) -> BTreeMap<String, Group> {
    let bounds: BTreeSet<&str> = fields.get("lower_bound").map(|all| all.split(',').collect()).unwrap_or_default();
    let mut groups = BTreeMap::<String, Group>::new();
    for (field, value) in fields {
        let (dimension, rest) = field.split_once('|').unwrap_or((TOTAL, field));
        let (key, name) = rest.rsplit_once('|').unwrap_or(("", rest));
        let (metrics, bound) = groups.entry(dimension.to_owned()).or_default().entry(key.to_owned()).or_default();
        *bound = bounds.contains(dimension);
        if let (Some(counter), Ok(value)) = (counter(metrics, name), value.parse()) {
            *counter = value;
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
