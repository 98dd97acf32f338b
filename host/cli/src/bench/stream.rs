//! Events that flow as long as they are asked for: the rows of one hour again and again, each round an hour later.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clickmill_broker::{Appended, Broker, TopicPartition};
use clickmill_pipeline::topics::AD_EVENTS_RAW;
use clickmill_schemas::PartitionId;
use clickmill_schemas::record::RecordSetBuilder;

use super::{Bench, events};

/// Events a second, over all partitions, and how often some are sent.
pub const RATE: usize = 100_000;
const EVERY: Duration = Duration::from_millis(3);
/// Events that are sent, again and again, each round an hour later: about as many as Avazu has in an hour.
const EVENTS: u64 = 200_000;
const HOUR_MS: i64 = 3_600_000;

/// The events, and where in them the next ones are.
pub struct Stream {
    lines: Vec<Line>,
    next: usize,
    hours: Hours,
}

impl Stream {
    pub fn new(bench: &Bench) -> Result<Self> {
        let lines = events::produced(bench, EVENTS, 1)?.iter().map(|line| Line::of(line)).collect::<Result<_>>()?;
        Ok(Self { lines, next: 0, hours: Hours::default() })
    }

    /// Appends the next events to a partition. Not waited for: the broker bounds what is in flight.
    pub fn append(&mut self, broker: &dyn Broker, partition: PartitionId, count: usize) -> Result<Appended> {
        let mut set = RecordSetBuilder::default();
        for _ in 0..count {
            let line = &mut self.lines[self.next];
            set.push(None, &line.text, 0);
            line.an_hour_later(&mut self.hours)?;
            self.next = (self.next + 1) % self.lines.len();
        }
        Ok(broker.append(&TopicPartition::new(AD_EVENTS_RAW, partition), &set)?)
    }

    /// Sends at [`RATE`] until told to stop; events a second that were sent.
    pub fn flow(mut self, broker: &dyn Broker, partitions: u32, stop: &AtomicBool) -> Result<f64> {
        let per_batch = (RATE as f64 * EVERY.as_secs_f64()) as usize / partitions as usize;
        let (begun, mut sent) = (Instant::now(), 0);
        for round in 0_u32.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            std::thread::sleep((EVERY * round).saturating_sub(begun.elapsed()));
            for partition in (0..partitions).map(PartitionId) {
                drop(self.append(broker, partition, per_batch)?);
                sent += per_batch;
            }
        }
        Ok(sent as f64 / begun.elapsed().as_secs_f64())
    }
}

/// An event in JSON, and where its time stands in it.
struct Line {
    text: Vec<u8>,
    ts_ms: i64,
    /// Place of its 13 digits.
    ts_at: usize,
    /// Place of the eight digits of `hour`.
    hour_at: usize,
}

impl Line {
    fn of(text: &[u8]) -> Result<Self> {
        let after = |key: &str| {
            let found = text.windows(key.len()).position(|w| w == key.as_bytes());
            found.map(|at| at + key.len()).with_context(|| format!("an event without {key}"))
        };
        let (ts_at, hour_at) = (after("\"ts\":")?, after("\"hour\":\"")?);
        let digits = text.get(ts_at..ts_at + 13).context("a ts of 13 digits")?;
        ensure!(text.get(hour_at + 8) == Some(&b'"'), "an hour of 8 digits");
        Ok(Self { text: text.to_vec(), ts_ms: std::str::from_utf8(digits)?.parse()?, ts_at, hour_at })
    }

    fn an_hour_later(&mut self, hours: &mut Hours) -> Result<()> {
        self.ts_ms += HOUR_MS;
        self.text[self.ts_at..self.ts_at + 13].copy_from_slice(format!("{:013}", self.ts_ms).as_bytes());
        self.text[self.hour_at..self.hour_at + 8].copy_from_slice(hours.text_of(self.ts_ms)?);
        Ok(())
    }
}

/// `YYMMDDHH` of the hour that was asked for last.
#[derive(Default)]
struct Hours {
    hour: i64,
    text: String,
}

impl Hours {
    fn text_of(&mut self, ts_ms: i64) -> Result<&[u8]> {
        let hour = ts_ms.div_euclid(HOUR_MS);
        if hour != self.hour {
            let start = jiff::Timestamp::from_millisecond(hour * HOUR_MS)?;
            (self.hour, self.text) = (hour, start.strftime("%y%m%d%H").to_string());
        }
        Ok(self.text.as_bytes())
    }
}
