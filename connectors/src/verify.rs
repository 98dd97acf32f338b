//! Whether a server holds what the topic says, value by value.
//!
//! Both sides come in the order of window starts, so that neither is held whole. What a server cannot hold or does not
//! keep any more is its own module's to say.

use std::collections::BTreeMap;
use std::iter::Peekable;

use clickmill_schemas::RunId;
use clickmill_schemas::partial::Metrics;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use crate::endpoint::Endpoint;
use crate::set::Connector;
use crate::sink::SinkError;
use crate::{parquet, postgres, redis};

/// Hours, as a size of windows.
pub const HOUR_MS: i64 = 3_600_000;
/// Differences that are told one by one.
const TOLD: usize = 20;

/// A key of a dimension of a window, summed over partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    pub start_ms: i64,
    pub dimension: String,
    /// Empty for the dimension `total`.
    pub key: String,
    pub metrics: Metrics,
    pub lower_bound: bool,
}

/// The windows of a size in order of start and dimension.
pub type Values<'a> = Box<dyn Iterator<Item = Result<Value, SinkError>> + 'a>;

/// Windows of 5 minutes, summed by hour as `realtime.hours` has them.
pub fn hours<'a>(windows: impl Iterator<Item = Result<Value, SinkError>> + 'a) -> Values<'a> {
    let mut windows = windows.peekable();
    let hours = std::iter::from_fn(move || next_hour(&mut windows).transpose());
    Box::new(hours.flat_map(|hour| match hour {
        Ok((start_ms, dimensions)) => {
            let values = dimensions.into_iter().flat_map(move |(dimension, group)| {
                let lower_bound = group.values().any(|(_, lower_bound)| *lower_bound);
                let value = move |(key, (metrics, _))| {
                    let dimension = dimension.clone();
                    Ok(Value { start_ms, dimension, key, metrics, lower_bound })
                };
                group.into_iter().map(value)
            });
            values.collect::<Vec<_>>()
        }
        Err(e) => vec![Err(e)],
    }))
}

/// What a comparison came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Values that were compared.
    pub compared: u64,
    pub different: u64,
    /// The first of those.
    pub differences: Vec<Difference>,
}

/// A value that is not the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    pub size_ms: i64,
    pub start_ms: i64,
    pub dimension: String,
    pub key: String,
    /// None where there is no such value.
    pub topic: Option<Figures>,
    pub server: Option<Figures>,
}

/// What one side has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    pub impressions: i64,
    pub clicks: i64,
    pub conversions: i64,
    pub cost_micros: i64,
    pub revenue_micros: i64,
    pub lower_bound: bool,
}

impl Verified {
    fn differ(&mut self, difference: impl FnOnce() -> Difference) {
        self.different += 1;
        if self.differences.len() < TOLD {
            self.differences.push(difference());
        }
    }
}

/// What is compared of a key: its metrics, and whether they are a lower bound.
pub(crate) type Held = (Metrics, bool);
/// Keys of a dimension of a window.
pub(crate) type Group = BTreeMap<String, Held>;
/// Start and dimensions of a window.
pub(crate) type Window = (i64, BTreeMap<String, Group>);
/// Start and dimension.
pub(crate) type Place = (i64, String);

pub(crate) const fn figures((metrics, lower_bound): &Held) -> Figures {
    let Metrics { impressions, clicks, conversions, cost_micros, revenue_micros } = *metrics;
    Figures { impressions, clicks, conversions, cost_micros, revenue_micros, lower_bound: *lower_bound }
}

/// Compares what a connector's server holds of a window size with what the topic says of it, of the run that readers take.
/// Must not be called within the runtime.
///
/// # Errors
/// [`SinkError`] where the server or the topic cannot be read.
pub fn verify(
    connector: &Connector,
    endpoint: &Endpoint,
    runtime: &Handle,
    (run, size_ms): (RunId, i64),
    topic: Values<'_>,
) -> Result<Verified, SinkError> {
    let mut topic = topic.peekable();
    match connector {
        Connector::Postgres(options) => {
            let held = async { postgres::held(&endpoint.postgres().await?, &options.reach(), size_ms).await };
            let held = runtime.block_on(held)?;
            let mut held = Box::pin(held);
            let next = || runtime.block_on(futures_util::StreamExt::next(&mut held));
            compare(size_ms, topic, std::iter::from_fn(next).peekable())
        }
        Connector::Redis(options) => {
            let mut held =
                runtime.block_on(async { redis::Held::open(&endpoint.redis().await?, options, run).await })?;
            let mut verified = Verified::default();
            while let Some(window) = next_window(&mut topic)? {
                runtime.block_on(held.compare(size_ms, &window, &mut verified))?;
            }
            runtime.block_on(held.compare_rest(size_ms, &mut verified))?;
            Ok(verified)
        }
        Connector::Parquet(options) => {
            let held = runtime.block_on(parquet::held(options, &endpoint.windows_folder(), (run, size_ms)))?;
            compare(size_ms, topic, held.into_iter().map(Ok).peekable())
        }
        Connector::Http(_) => Err(SinkError::Config("an HTTP endpoint cannot be asked what it holds".to_owned())),
    }
}

/// The next dimension of a window. PostgreSQL holds no U+0000: for every server keys are compared without.
pub(crate) fn next_group<I>(values: &mut Peekable<I>) -> Result<Option<(Place, Group)>, SinkError>
where
    I: Iterator<Item = Result<Value, SinkError>>,
{
    let mut group: Option<(Place, Group)> = None;
    while let Some(next) = values.peek() {
        if let (Ok(next), Some(((start_ms, dimension), _))) = (next, &group)
            && (next.start_ms, &next.dimension) != (*start_ms, dimension)
        {
            break;
        }
        let Some(value) = values.next().transpose()? else { break };
        let (_, keys) = group.get_or_insert_with(|| ((value.start_ms, value.dimension.clone()), Group::new()));
        let held = keys.entry(value.key.replace('\0', "\u{FFFD}")).or_default();
        held.0.add(&value.metrics);
        held.1 |= value.lower_bound;
    }
    Ok(group)
}

/// All dimensions of the next hour.
fn next_hour<I>(windows: &mut Peekable<I>) -> Result<Option<Window>, SinkError>
where
    I: Iterator<Item = Result<Value, SinkError>>,
{
    let of = |value: &Value| value.start_ms.div_euclid(HOUR_MS).saturating_mul(HOUR_MS);
    let mut hour: Option<Window> = None;
    while let Some(next) = windows.peek() {
        if let (Ok(next), Some((start_ms, _))) = (next, &hour)
            && of(next) != *start_ms
        {
            break;
        }
        let Some(value) = windows.next().transpose()? else { break };
        let (_, dimensions) = hour.get_or_insert_with(|| (of(&value), BTreeMap::new()));
        let held = dimensions.entry(value.dimension).or_default().entry(value.key).or_default();
        held.0.add(&value.metrics);
        held.1 |= value.lower_bound;
    }
    Ok(hour)
}

/// All dimensions of the next window.
fn next_window<I>(values: &mut Peekable<I>) -> Result<Option<Window>, SinkError>
where
    I: Iterator<Item = Result<Value, SinkError>>,
{
    let mut window: Option<Window> = None;
    loop {
        let start_ms = match values.peek() {
            Some(Ok(next)) => next.start_ms,
            Some(Err(_)) | None if window.is_some() => return Ok(window),
            Some(Err(_)) => i64::MIN,
            None => return Ok(None),
        };
        if window.as_ref().is_some_and(|(of, _)| *of != start_ms) {
            return Ok(window);
        }
        if let Some(((start_ms, dimension), group)) = next_group(values)? {
            window.get_or_insert_with(|| (start_ms, BTreeMap::new())).1.insert(dimension, group);
        }
    }
}

fn compare<A, B>(size_ms: i64, mut topic: Peekable<A>, mut server: Peekable<B>) -> Result<Verified, SinkError>
where
    A: Iterator<Item = Result<Value, SinkError>>,
    B: Iterator<Item = Result<Value, SinkError>>,
{
    let mut verified = Verified::default();
    let (mut ours, mut theirs) = (next_group(&mut topic)?, next_group(&mut server)?);
    loop {
        // The earlier place first; on both sides where it is the same.
        let place = match (&ours, &theirs) {
            (None, None) => return Ok(verified),
            (Some((place, _)), None) | (None, Some((place, _))) => place.clone(),
            (Some((ours, _)), Some((theirs, _))) => ours.min(theirs).clone(),
        };
        let (mut left, mut right) = (Group::new(), Group::new());
        if let Some((_, group)) = ours.take_if(|(at, _)| *at == place) {
            left = group;
            ours = next_group(&mut topic)?;
        }
        if let Some((_, group)) = theirs.take_if(|(at, _)| *at == place) {
            right = group;
            theirs = next_group(&mut server)?;
        }
        compare_groups(size_ms, &place, &left, &right, &mut verified);
    }
}

pub(crate) fn compare_groups(
    size_ms: i64,
    (start_ms, dimension): &Place,
    topic: &Group,
    server: &Group,
    verified: &mut Verified,
) {
    let keys = topic.keys().chain(server.keys().filter(|key| !topic.contains_key(*key)));
    for key in keys {
        verified.compared += 1;
        let (ours, theirs) = (topic.get(key), server.get(key));
        if ours != theirs {
            verified.differ(|| Difference {
                size_ms,
                start_ms: *start_ms,
                dimension: dimension.clone(),
                key: key.clone(),
                topic: ours.map(figures),
                server: theirs.map(figures),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(start_ms: i64, dimension: &str, key: &str, impressions: i64) -> Value {
        let metrics = Metrics { impressions, ..Metrics::default() };
        Value { start_ms, dimension: dimension.into(), key: key.into(), metrics, lower_bound: false }
    }

    /// Start, key, impressions in the topic and in the server.
    type Told = (i64, String, Option<i64>, Option<i64>);

    fn compared(topic: &[Value], server: &[Value]) -> (u64, Vec<Told>) {
        let of = |values: &[Value]| values.iter().cloned().map(Ok).collect::<Vec<_>>().into_iter().peekable();
        let verified = compare(60_000, of(topic), of(server)).unwrap();
        assert_eq!(verified.different, verified.differences.len() as u64);
        let first = |figures: Option<Figures>| figures.map(|f| f.impressions);
        let told = verified.differences.into_iter().map(|d| (d.start_ms, d.key, first(d.topic), first(d.server)));
        (verified.compared, told.collect())
    }

    #[test]
    fn every_value_that_differs_is_found_on_either_side() {
        let topic = [value(0, "a", "x", 1), value(0, "a", "y", 2), value(0, "b", "", 3), value(9, "a", "x", 4)];
        assert_eq!(compared(&topic, &topic), (4, vec![]));
        assert_eq!(compared(&topic, &topic[..3]), (4, vec![(9, "x".into(), Some(4), None)]));
        assert_eq!(compared(&topic[1..], &topic), (4, vec![(0, "x".into(), None, Some(1))]));
        let mut other = topic.to_vec();
        other[1].metrics.impressions = 7;
        other.insert(2, value(0, "a", "z", 1));
        other[4].dimension = "c".into();
        let told = [(0, "y".into(), Some(2), Some(7)), (0, "z".into(), None, Some(1)), (9, "x".into(), Some(4), None)];
        assert_eq!(compared(&topic, &other[..4]), (5, told.to_vec()));
    }

    #[test]
    fn keys_that_are_one_to_a_server_are_summed() {
        let server = [value(0, "a", "\u{FFFD}", 3)];
        assert_eq!(compared(&[value(0, "a", "\0", 1), value(0, "a", "\u{FFFD}", 2)], &server), (1, vec![]));
    }
}
