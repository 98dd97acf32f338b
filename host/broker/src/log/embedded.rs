//! [`EmbeddedLog`]: the folder as a whole, its lock, its threads, and the [`Broker`] trait on top.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clickmill_schemas::Offset;
use clickmill_schemas::record::RecordSetBuilder;

use super::budget::Budget;
use super::encode::{RecordSet, with_frame};
use super::lock::{self, Lock, LockHolder};
use super::options::{LogOptions, MAX_SYNC_INTERVAL};
use super::partition::Partition;
use super::threads::{SYNCERS, Stop, SyncQueue};
use super::topics::{self, Topic};
use super::{guard, now_ms};
use crate::api::{Appended, Broker};
use crate::batch::StoredBatch;
use crate::error::BrokerError;
use crate::topic::{Ends, TopicInfo, TopicPartition, TopicSpec};

/// Longest record set that the format can take, whatever the options say.
const MAX_BATCH_BYTES: usize = 1 << 30;

/// A log in a folder. Dropping it closes it: what was appended is made durable, then the lock is let go.
#[derive(Debug)]
pub struct EmbeddedLog {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    lock: Mutex<Option<Lock>>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    options: LogOptions,
    writable: bool,
    topics: RwLock<BTreeMap<String, Arc<Topic>>>,
    /// Held while a topic is made, grows or goes, so that one name is made once.
    creating: Mutex<()>,
    budget: Budget,
    queue: SyncQueue,
    stop: Stop,
    /// Held by the one who does upkeep.
    upkeep: Mutex<()>,
}

impl EmbeddedLog {
    /// Opens the log in `dir`, which is made if need be, and takes its lock.
    ///
    /// # Errors
    /// [`BrokerError::Locked`] where another process has it, [`BrokerError::Corrupt`] where something that was
    /// durable is gone, [`BrokerError::NewerFormat`] where a newer version wrote it.
    pub fn open(dir: &Path, options: LogOptions) -> Result<Self, BrokerError> {
        fs::create_dir_all(dir).map_err(|e| BrokerError::io("create", dir, e))?;
        let lock = Lock::take(dir)?;
        let shared = Arc::new(Shared::open(dir, options, true)?);
        let mut threads = Vec::new();
        for _ in 0..SYNCERS {
            let shared = Arc::clone(&shared);
            threads.push(spawn(dir, "log-sync", move || shared.queue.run(&shared.budget))?);
        }
        let keeper = Arc::clone(&shared);
        threads.push(spawn(dir, "log-upkeep", move || keeper.keep_up())?);
        Ok(Self { shared, threads: Mutex::new(threads), lock: Mutex::new(Some(lock)) })
    }

    /// Opens the log of a stopped host for reading: nothing is changed, no lock is held, appends are refused.
    ///
    /// # Errors
    /// [`BrokerError::Locked`] where a process has it (ask that one), and as [`open`](Self::open).
    pub fn open_read_only(dir: &Path) -> Result<Self, BrokerError> {
        if let Some(holder) = lock::holder(dir)? {
            return Err(BrokerError::Locked { dir: dir.to_path_buf(), holder });
        }
        let shared = Arc::new(Shared::open(dir, LogOptions::default(), false)?);
        Ok(Self { shared, threads: Mutex::default(), lock: Mutex::new(None) })
    }

    /// Who has the log in `dir` open now, if anybody.
    ///
    /// # Errors
    /// When the lock file cannot be looked at.
    pub fn holder(dir: &Path) -> Result<Option<LockHolder>, BrokerError> {
        lock::holder(dir)
    }

    /// Writes into the lock what this process says of itself (up to 1,000 bytes), for example where it listens.
    ///
    /// # Errors
    /// [`BrokerError::ReadOnly`] without the lock; I/O.
    pub fn set_holder(&self, text: &str) -> Result<(), BrokerError> {
        guard(&self.lock).as_ref().map_or(Err(BrokerError::ReadOnly), |lock| lock.say(text))
    }

    /// Does now what upkeep does from time to time: retention, then compaction.
    ///
    /// # Errors
    /// The first failure; the other partitions are looked after all the same.
    pub fn maintain(&self) -> Result<(), BrokerError> {
        self.shared.maintain(now_ms())
    }

    /// Bytes of appends that are not durable yet.
    #[must_use]
    pub fn in_flight_bytes(&self) -> usize {
        self.shared.budget.used()
    }

    /// Makes everything durable, ends the threads and lets go of the lock. Appends are refused from now on.
    pub fn close(&self) {
        self.shared.stop.stop();
        let _creating = guard(&self.shared.creating);
        for topic in self.shared.all() {
            for partition in &topic.partitions {
                self.shared.budget.give_back(partition.close());
            }
        }
        self.shared.queue.stop();
        for thread in guard(&self.threads).drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the log panicked");
            }
        }
        guard(&self.lock).take();
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        self.close();
    }
}

fn spawn(dir: &Path, name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, BrokerError> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    thread.map_err(|e| BrokerError::io("start a thread for", dir, e))
}

impl Shared {
    fn open(dir: &Path, options: LogOptions, writable: bool) -> Result<Self, BrokerError> {
        let mut topics = BTreeMap::new();
        for name in topics::list(dir, writable)? {
            let topic = Topic::open(dir, &name, options.segment_bytes, writable)?;
            topics.insert(name, Arc::new(topic));
        }
        Ok(Self {
            dir: dir.to_path_buf(),
            budget: Budget::new(options.max_in_flight_bytes),
            writable,
            topics: RwLock::new(topics),
            creating: Mutex::new(()),
            queue: SyncQueue::new(options.sync_interval.min(MAX_SYNC_INTERVAL)),
            stop: Stop::default(),
            upkeep: Mutex::new(()),
            options,
        })
    }

    fn all(&self) -> Vec<Arc<Topic>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).values().map(Arc::clone).collect()
    }

    fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).get(name).map(Arc::clone)
    }

    fn partition(&self, at: &TopicPartition) -> Result<Arc<Partition>, BrokerError> {
        let unknown = || BrokerError::UnknownTopic { topic: at.topic.to_string() };
        let topic = self.topic(&at.topic).ok_or_else(unknown)?;
        topic.partitions.get(at.partition.0 as usize).map(Arc::clone).ok_or_else(|| BrokerError::UnknownPartition {
            topic: at.topic.to_string(),
            partition: at.partition,
            partitions: topic.partitions.len() as u32,
        })
    }

    fn append(&self, at: &TopicPartition, set: &RecordSetBuilder, may_block: bool) -> Result<Appended, BrokerError> {
        let partition = self.partition(at)?;
        let bytes = set.bytes().len();
        let limit = self.options.max_batch_bytes.min(MAX_BATCH_BYTES);
        if set.is_empty() || bytes > limit {
            let what = if set.is_empty() {
                "it has no records".to_owned()
            } else {
                format!("it has {bytes} bytes, the limit is {limit}; send fewer records at once")
            };
            return Err(BrokerError::BadBatch { at: at.clone(), what });
        }
        if may_block {
            self.budget.take(bytes);
        } else {
            self.budget.try_take(bytes).map_err(|in_flight_bytes| BrokerError::Busy {
                at: at.clone(),
                in_flight_bytes,
                limit_bytes: self.budget.limit(),
            })?;
        }
        let set = RecordSet { bytes: set.bytes(), count: set.count(), base_timestamp_ms: set.base_timestamp_ms() };
        let written =
            with_frame(set, self.options.zstd_level, partition.place.seed, |draft| partition.write(draft, bytes));
        match written {
            Ok((base, next, queue)) => {
                if queue {
                    self.queue.push(&partition);
                }
                Ok(Appended::new(move || partition.wait_durable(next).map(|()| base)))
            }
            Err(e) => {
                self.budget.give_back(bytes);
                Err(e)
            }
        }
    }

    fn create_topic(&self, spec: &TopicSpec) -> Result<TopicInfo, BrokerError> {
        if let Some(why) = spec.fault() {
            return Err(BrokerError::BadTopic { name: spec.name.clone(), partitions: spec.partitions, why });
        }
        let _creating = self.may_change_topics()?;
        if let Some(topic) = self.topic(&spec.name) {
            let existing = topic.partitions.len() as u32;
            if existing != spec.partitions {
                let (topic, asked) = (spec.name.clone(), spec.partitions);
                return Err(BrokerError::PartitionsDiffer { topic, existing, asked });
            }
            return topic.update(spec);
        }
        let topic = Topic::create(&self.dir, spec, self.options.segment_bytes)?;
        let info = topic.info();
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        topics.insert(spec.name.clone(), Arc::new(topic));
        Ok(info)
    }

    fn add_partitions(&self, name: &str, partitions: u32) -> Result<TopicInfo, BrokerError> {
        let _creating = self.may_change_topics()?;
        let topic = self.topic(name).ok_or_else(|| BrokerError::UnknownTopic { topic: name.to_owned() })?;
        let info = topic.info();
        let existing = info.spec.partitions;
        if partitions == existing {
            return Ok(info);
        }
        if partitions < existing {
            return Err(BrokerError::PartitionsDiffer { topic: name.to_owned(), existing, asked: partitions });
        }
        if let Some(why) = (TopicSpec { partitions, ..info.spec }).fault() {
            return Err(BrokerError::BadTopic { name: name.to_owned(), partitions, why });
        }
        let grown = topic.with_partitions(partitions, self.options.segment_bytes)?;
        let info = grown.info();
        self.topics.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), Arc::new(grown));
        Ok(info)
    }

    fn delete_topic(&self, name: &str) -> Result<(), BrokerError> {
        let _creating = self.may_change_topics()?;
        // Nothing is trimmed or compacted in what goes.
        let _upkeep = guard(&self.upkeep);
        let topic = self.topic(name).ok_or_else(|| BrokerError::UnknownTopic { topic: name.to_owned() })?;
        let gone = topic.unname(&self.dir)?;
        self.topics.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        for partition in &topic.partitions {
            self.budget.give_back(partition.close());
        }
        Topic::remove_rest(&gone);
        Ok(())
    }

    /// The right to make, change and delete topics: nobody else does meanwhile.
    fn may_change_topics(&self) -> Result<MutexGuard<'_, ()>, BrokerError> {
        if !self.writable {
            return Err(BrokerError::ReadOnly);
        }
        let creating = guard(&self.creating);
        match self.stop.is_stopped() {
            true => Err(BrokerError::Closed),
            false => Ok(creating),
        }
    }

    /// The upkeep thread.
    fn keep_up(&self) {
        while !self.stop.sleep(self.options.maintenance_interval) {
            match self.maintain(now_ms()) {
                Ok(()) | Err(BrokerError::Closed) => {}
                Err(error) => tracing::error!(%error, "upkeep of the log"),
            }
        }
    }

    pub(super) fn maintain(&self, now_ms: i64) -> Result<(), BrokerError> {
        if !self.writable {
            return Err(BrokerError::ReadOnly);
        }
        let _one = guard(&self.upkeep);
        let mut result = Ok(());
        for topic in self.all() {
            let spec = topic.info().spec;
            for partition in &topic.partitions {
                let trimmed = partition.trim(&spec.retention, now_ms).map(drop);
                let compacted = if spec.compact {
                    let (keys, options) = (self.options.compaction_keys, &self.options);
                    partition.compact(keys, options.segment_bytes, options.zstd_level, &self.stop).map(drop)
                } else {
                    Ok(())
                };
                result = result.and(trimmed).and(compacted);
            }
        }
        result
    }
}

impl Broker for EmbeddedLog {
    fn create_topic(&self, spec: &TopicSpec) -> Result<TopicInfo, BrokerError> {
        self.shared.create_topic(spec)
    }

    fn add_partitions(&self, name: &str, partitions: u32) -> Result<TopicInfo, BrokerError> {
        self.shared.add_partitions(name, partitions)
    }

    fn delete_topic(&self, name: &str) -> Result<(), BrokerError> {
        self.shared.delete_topic(name)
    }

    fn topic(&self, name: &str) -> Result<Option<TopicInfo>, BrokerError> {
        Ok(self.shared.topic(name).map(|topic| topic.info()))
    }

    fn topics(&self) -> Result<Vec<TopicInfo>, BrokerError> {
        Ok(self.shared.all().iter().map(|topic| topic.info()).collect())
    }

    fn append(&self, at: &TopicPartition, set: &RecordSetBuilder) -> Result<Appended, BrokerError> {
        self.shared.append(at, set, true)
    }

    fn try_append(&self, at: &TopicPartition, set: &RecordSetBuilder) -> Result<Appended, BrokerError> {
        self.shared.append(at, set, false)
    }

    fn fetch(
        &self,
        at: &TopicPartition,
        from: Offset,
        max_bytes: usize,
        max_wait: Duration,
    ) -> Result<Vec<StoredBatch>, BrokerError> {
        self.shared.partition(at)?.fetch(from, max_bytes, Instant::now() + max_wait)
    }

    fn ends(&self, at: &TopicPartition) -> Result<Ends, BrokerError> {
        Ok(self.shared.partition(at)?.ends())
    }

    fn stored_bytes(&self, at: &TopicPartition) -> Result<Option<u64>, BrokerError> {
        Ok(Some(self.shared.partition(at)?.stored_bytes()))
    }

    fn last_batch_with(
        &self,
        at: &TopicPartition,
        matches: &mut dyn FnMut(&StoredBatch) -> bool,
    ) -> Result<Option<StoredBatch>, BrokerError> {
        self.shared.partition(at)?.last_batch_with(matches)
    }

    fn keep_from(&self, at: &TopicPartition, floor: Offset) {
        match self.shared.partition(at) {
            Ok(partition) => partition.keep_from(floor),
            Err(error) => tracing::warn!(%error, "no floor was set"),
        }
    }
}
