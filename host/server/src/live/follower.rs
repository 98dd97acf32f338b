//! [`Follower`]: one thread that follows `ctr_windows` and tells all listeners of the live stream the same bytes.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clickmill_broker::{Broker, BrokerError, TopicPartition};
use clickmill_pipeline::runs;
use clickmill_pipeline::topics::{AD_EVENTS_RAW, CTR_WINDOWS};
use clickmill_pipeline::views::scan::visit_batch;
use clickmill_pipeline::views::status::{self, RunState};
use clickmill_pipeline::views::{BadRecord, ViewError};
use clickmill_schemas::{Offset, PartitionId};

use super::event::Name;
use super::store::{LIMIT_BYTES, Now, Store};
use super::{Hub, Shared};
use crate::clock::now_ms;
use crate::host::Host;

/// Commits that are read within this are told together.
const COALESCE: Duration = Duration::from_millis(100);
/// Something is told at least this often.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// Longest wait for a record: how soon a stop is noticed.
const MAX_WAIT: Duration = Duration::from_millis(100);
/// Bytes of batches asked for at once.
const FETCH_BYTES: usize = 1 << 20;
/// After a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// The thread; it ends when this is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Follower {
    stop: Arc<AtomicBool>,
    hub: Arc<Hub>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Starts to follow; what is read goes into `store`, and what changes to `hub`.
    pub(crate) fn start(
        broker: Arc<dyn Broker>,
        host: Arc<dyn Host>,
        store: Arc<Shared>,
        hub: Arc<Hub>,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let work = Work {
            broker,
            host,
            store,
            hub: Arc::clone(&hub),
            stop: Arc::clone(&stop),
            position: Offset(0),
            told: Instant::now(),
            checked: None,
            snapshot_next: true,
        };
        let thread = std::thread::Builder::new().name("live".to_owned()).spawn(move || work.run())?;
        Ok(Self { stop, hub, thread: Some(thread) })
    }

    /// Asks the thread to end, without waiting for it, and ends the listeners' streams.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.hub.close();
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // Its panic would have been reported by the thread itself.
            let _ = thread.join();
        }
    }
}

struct Work {
    broker: Arc<dyn Broker>,
    host: Arc<dyn Host>,
    store: Arc<Shared>,
    hub: Arc<Hub>,
    stop: Arc<AtomicBool>,
    /// Next offset of `ctr_windows`.
    position: Offset,
    /// When something was told last.
    told: Instant,
    /// When the topics and the run were looked at last; none: they must be.
    checked: Option<Instant>,
    /// What is told next is not an update of what was told before.
    snapshot_next: bool,
}

/// The lock of a store: every change under it is whole, so that a panic leaves nothing half done.
pub(super) fn locked(store: &Shared) -> MutexGuard<'_, Option<Store>> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Work {
    fn run(mut self) {
        while !self.stopped() {
            if let Err(e) = self.step() {
                tracing::warn!("what is live cannot be followed: {e}; starting over");
                *locked(&self.store) = None;
                self.checked = None;
                self.pause(PAUSE);
            }
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

    /// Reads what there is, and tells of it when that is due.
    fn step(&mut self) -> Result<(), ViewError> {
        if self.checked.is_none_or(|at| at.elapsed() >= HEARTBEAT) {
            self.look_at_topics()?;
            self.checked = Some(Instant::now());
        }
        if locked(&self.store).is_none() {
            self.pause(HEARTBEAT);
            return Ok(());
        }
        let at = TopicPartition::new(CTR_WINDOWS, PartitionId(0));
        let end = self.broker.ends(&at)?.end;
        let wait = self.due().saturating_duration_since(Instant::now()).min(MAX_WAIT);
        let batches = match self.broker.fetch(&at, self.position, FETCH_BYTES, wait) {
            // Retention was faster than we are.
            Err(BrokerError::OffsetOutOfRange { start, .. }) if start > self.position => {
                self.position = start;
                return Ok(());
            }
            other => other?,
        };
        for batch in &batches {
            if self.stopped() {
                return Ok(());
            }
            let mut store = locked(&self.store);
            let Some(store) = store.as_mut() else { return Ok(()) };
            // What activates a deployment is written after the deployment is.
            store.deployments.follow(&*self.broker)?;
            visit_batch(&at, batch, self.position, &mut |_, record| {
                let wall_ms = batch.base_timestamp_ms.saturating_add(record.timestamp_delta_ms);
                store.take(wall_ms, record).map_err(BadRecord::from)
            })?;
            self.position = batch.next_offset();
        }
        let caught_up = self.position >= end;
        if Instant::now() >= self.due() {
            self.tell(caught_up)?;
        }
        Ok(())
    }

    /// When something is to be told next.
    fn due(&self) -> Instant {
        let news = locked(&self.store).as_ref().is_some_and(|store| store.caught_up && store.has_news);
        self.told + if news { COALESCE } else { HEARTBEAT }
    }

    /// Begins anew where readers take another run.
    fn look_at_topics(&mut self) -> Result<(), ViewError> {
        let mut store = locked(&self.store);
        let (Some(input), Some(_)) = (self.broker.topic(AD_EVENTS_RAW)?, self.broker.topic(CTR_WINDOWS)?) else {
            *store = None;
            return Ok(());
        };
        let run = runs::current(&*self.broker)?.unwrap_or(input.id);
        match store.as_mut().filter(|store| store.is_of(run)) {
            Some(store) => store.partitions = input.spec.partitions,
            None => {
                let mut new = Store::new(run, input.spec.partitions, LIMIT_BYTES);
                // With the newest watermark known beforehand, old windows are passed over by their keys.
                let status = status::status(&*self.broker, RunState::Running, Vec::new())?;
                new.expect_watermark(status.partitions.iter().filter_map(|p| p.watermark_ms).max());
                new.deployments.follow(&*self.broker)?;
                *store = Some(new);
                self.position = Offset(0);
                self.snapshot_next = true;
            }
        }
        Ok(())
    }

    fn tell(&mut self, caught_up: bool) -> Result<(), ViewError> {
        let paused = self.host.deployer().and_then(|deployer| deployer.paused().ok().flatten());
        let mut store = locked(&self.store);
        let Some(store) = store.as_mut() else { return Ok(()) };
        let end = |p| self.broker.ends(&TopicPartition::new(AD_EVENTS_RAW, PartitionId(p))).map(|e| e.end.0);
        let ends = (0..store.partitions).map(end).collect::<Result<Vec<_>, _>>()?;
        let now = Now { wall_ms: now_ms(), ends: &ends, caught_up };
        store.set_paused(paused, now.wall_ms);
        store.caught_up |= caught_up;
        // What is read while catching up is old, and too much to be told piece by piece.
        let begins = std::mem::replace(&mut self.snapshot_next, !store.caught_up);
        let snapshot = store.snapshot(now).encode(Name::Snapshot);
        let update = store.update(now).filter(|_| !begins).map(|event| event.encode(Name::Update));
        store.told();
        self.hub.publish(snapshot.clone(), update.unwrap_or(snapshot));
        self.told = Instant::now();
        Ok(())
    }
}
