//! What the files hold of the windows, read by the rule that they are to be read by, to be compared with the topic.

use std::collections::{BTreeMap, HashMap};

use clickmill_broker::TopicPartition;
use clickmill_schemas::partial::{Metrics, Owner, Version};
use clickmill_schemas::{PartitionId, RunId};

use super::ParquetOptions;
use super::store::Store;
use super::table::{self, Row};
use crate::endpoint::ServerUrl;
use crate::sink::SinkError;
use crate::verify::{Place, Value};

/// Of one owner and dimension of a window, the rows of its greatest version.
#[derive(Default)]
struct Newest {
    version: Version,
    lower_bound: bool,
    keys: HashMap<String, Metrics>,
}

/// The windows of a size of a run, in order of start and dimension; all of them in memory.
///
/// # Errors
/// [`SinkError`] where the files cannot be read.
pub async fn held(
    options: &ParquetOptions,
    url: &ServerUrl,
    (run, size_ms): (RunId, i64),
) -> Result<Vec<Value>, SinkError> {
    let at = TopicPartition::new("ctr_windows", PartitionId(0));
    let folder = Store::open(options, url)?.of(run, &at);
    let mut newest: BTreeMap<Place, HashMap<Owner, Newest>> = BTreeMap::new();
    for span in folder.list().await? {
        let bytes = folder.get(span).await?;
        let decoded = table::decode(bytes, |row| take(&mut newest, row, size_ms));
        decoded.map_err(|e| SinkError::unavailable("decode a file", format!("{}: {e}", span.file_name(&at))))?;
    }
    Ok(newest.into_iter().flat_map(|(place, owners)| values(place, owners)).collect())
}

fn take(newest: &mut BTreeMap<Place, HashMap<Owner, Newest>>, row: Row, size_ms: i64) {
    if row.window.size_ms != size_ms {
        return;
    }
    let owners = newest.entry((row.window.start_ms, row.window.dimension)).or_default();
    let held = owners.entry(row.owner).or_default();
    if held.version < row.version {
        *held = Newest { version: row.version, ..Newest::default() };
    }
    if held.version == row.version {
        held.lower_bound |= row.lower_bound;
        // The same row of two files that overlap is one.
        held.keys.insert(row.key, row.metrics);
    }
}

/// The sums over owners; what nobody has seen is no value.
fn values((start_ms, dimension): Place, owners: HashMap<Owner, Newest>) -> impl Iterator<Item = Value> {
    let lower_bound = owners.values().any(|newest| newest.lower_bound);
    let mut sums = BTreeMap::<String, Metrics>::new();
    for (key, metrics) in owners.into_values().flat_map(|newest| newest.keys) {
        sums.entry(key).or_default().add(&metrics);
    }
    let seen = sums.into_iter().filter(|(_, metrics)| metrics.impressions > 0);
    seen.map(move |(key, metrics)| Value { start_ms, dimension: dimension.clone(), key, metrics, lower_bound })
}
