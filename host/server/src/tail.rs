//! [`Tail`]: one thread that follows `ctr_windows` and tells all listeners of the live page the same frame.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clickmill_broker::{Broker, BrokerError, TopicPartition};
use clickmill_pipeline::runs;
use clickmill_pipeline::topics::{AD_EVENTS_RAW, CTR_WINDOWS};
use clickmill_pipeline::views::scan::visit_batch;
use clickmill_pipeline::views::status::{self, ModuleView, RunState};
use clickmill_pipeline::views::{BadRecord, ViewError};
use clickmill_schemas::{Offset, PartitionId};
use tokio::sync::watch;

use crate::clock::now_ms;
use crate::feed::Feed;

/// Time between two frames.
const FRAME_INTERVAL: Duration = Duration::from_millis(500);
/// Longest wait for a record: how soon a stop is noticed.
const MAX_WAIT: Duration = Duration::from_millis(100);
/// Bytes of batches asked for at once.
const FETCH_BYTES: usize = 1 << 20;
/// Frames between two looks at the modules in force.
const FRAMES_PER_LOOK: u64 = 4;

/// The thread; it ends when this is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Tail {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Tail {
    /// Starts to follow; the receiver gets each frame as JSON, and ends with the thread.
    pub(crate) fn start(broker: Arc<dyn Broker>) -> io::Result<(Self, watch::Receiver<Arc<str>>)> {
        let stop = Arc::new(AtomicBool::new(false));
        let (frames, receiver) = watch::channel(Arc::from(""));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("live-tail".to_owned()).spawn(move || {
            Following { broker, stop: stopped, frames, position: Vec::new(), modules: Vec::new() }.run()
        })?;
        Ok((Self { stop, thread: Some(thread) }, receiver))
    }

    /// Asks the thread to end, without waiting for it.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // Its panic would have been reported by the thread itself.
            let _ = thread.join();
        }
    }
}

struct Following {
    broker: Arc<dyn Broker>,
    stop: Arc<AtomicBool>,
    frames: watch::Sender<Arc<str>>,
    /// Next offset of each partition of `ctr_windows`.
    position: Vec<Offset>,
    modules: Vec<ModuleView>,
}

impl Following {
    fn run(mut self) {
        let mut feed = None;
        let mut count = 0;
        while !self.stopped() {
            if let Err(e) = self.step(&mut feed, count) {
                tracing::warn!("the live page cannot be fed: {e}; starting over");
                feed = None;
                self.pause(Duration::from_secs(1));
            }
            count += 1;
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.stopped() && Instant::now() < until {
            std::thread::sleep(MAX_WAIT.min(time));
        }
    }

    /// Reads for one interval, then tells a frame.
    fn step(&mut self, feed: &mut Option<Feed>, count: u64) -> Result<(), ViewError> {
        let until = Instant::now() + FRAME_INTERVAL;
        let (input, output) = (self.broker.topic(AD_EVENTS_RAW)?, self.broker.topic(CTR_WINDOWS)?);
        let (Some(input), Some(output)) = (input, output) else {
            self.pause(FRAME_INTERVAL);
            return Ok(());
        };
        let run = runs::current(&*self.broker)?.unwrap_or(input.id);
        let feed = match feed {
            Some(feed) if feed.is_of(run, input.spec.partitions) => feed,
            _ => {
                self.position = vec![Offset(0); output.spec.partitions as usize];
                let mut new = Feed::new(run, input.spec.partitions);
                // With the newest watermark known beforehand, old windows are skipped by their keys.
                let status = status::status(&*self.broker, RunState::Running, Vec::new())?;
                new.expect_watermark(status.partitions.iter().filter_map(|p| p.watermark_ms).max());
                feed.insert(new)
            }
        };
        let mut caught_up = false;
        while Instant::now() < until && !self.stopped() {
            caught_up = self.read(feed, until)?;
        }
        if self.frames.receiver_count() > 0 {
            self.tell(feed, input.spec.partitions, count, caught_up)?;
        }
        Ok(())
    }

    /// Reads what there is of each partition; whether that was all.
    fn read(&mut self, feed: &mut Feed, until: Instant) -> Result<bool, ViewError> {
        let mut caught_up = true;
        for (partition, position) in (0..).map(PartitionId).zip(&mut self.position) {
            let at = TopicPartition::new(CTR_WINDOWS, partition);
            let wait = until.saturating_duration_since(Instant::now()).min(MAX_WAIT);
            let batches = match self.broker.fetch(&at, *position, FETCH_BYTES, wait) {
                Err(BrokerError::OffsetOutOfRange { start, .. }) if start > *position => {
                    *position = start;
                    caught_up = false;
                    continue;
                }
                other => other?,
            };
            caught_up &= batches.is_empty();
            for batch in &batches {
                visit_batch(&at, batch, *position, &mut |_, record| feed.take(record).map_err(BadRecord::from))?;
                *position = batch.next_offset();
                if self.stop.load(Ordering::Relaxed) {
                    return Ok(false);
                }
            }
        }
        Ok(caught_up)
    }

    fn tell(&mut self, feed: &Feed, partitions: u32, count: u64, caught_up: bool) -> Result<(), ViewError> {
        if count.is_multiple_of(FRAMES_PER_LOOK) {
            self.modules = status::modules(&*self.broker)?;
        }
        let end = |p| self.broker.ends(&TopicPartition::new(AD_EVENTS_RAW, PartitionId(p))).map(|e| e.end.0);
        let ends = (0..partitions).map(end).collect::<Result<Vec<_>, _>>()?;
        let frame = feed.frame(now_ms(), &ends, self.modules.clone(), caught_up);
        // Plain fields: serialization has no failing case.
        self.frames.send_replace(Arc::from(serde_json::to_string(&frame).unwrap_or_default()));
        Ok(())
    }
}
