//! A worker's thread: runs it, and opens it again after a failure that may pass (a full disk).
//!
//! Opening again is recovery as after a crash, so a commit that failed half way harms nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clickmill_broker::{BrokerError, TopicPartition};
use clickmill_schemas::{PartitionId, RunId};

use crate::checkpoint::DirectoryStore;
use crate::input::InputError;
use crate::peers::WorkerState;
use crate::runs;
use crate::topics::AD_EVENTS_RAW;
use crate::worker::{Assignment, Shared, Worker, WorkerError};

/// Time between attempts to go on.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Opens and runs the worker of one partition.
#[derive(Clone)]
pub(crate) struct Supervisor {
    pub shared: Arc<Shared>,
    pub run: RunId,
    /// Folder of the run's checkpoints.
    pub checkpoints: PathBuf,
    pub partition: PartitionId,
}

impl Supervisor {
    pub(crate) fn open(&self) -> Result<Worker, WorkerError> {
        let store = DirectoryStore::open(&self.checkpoints.join(self.partition.to_string()))?;
        let input = TopicPartition::new(AD_EVENTS_RAW, self.partition);
        let inherited = runs::inherited(&self.checkpoints, self.partition)?;
        Worker::open(self.shared.clone(), Assignment { input, run: self.run, store, inherited })
    }

    /// Runs until the pipeline stops, or the worker fails for good.
    pub(crate) fn supervise(&self, worker: Worker) {
        let mut next = Ok(worker);
        loop {
            // A worker's panic is a bug of ours: it stops the partition and is reported, the others go on.
            let ended = match next {
                Ok(worker) => catch_unwind(AssertUnwindSafe(|| worker.run())),
                Err(error) => Ok(Err(error)),
            };
            let partition = self.partition;
            match ended {
                Ok(Ok(())) => return,
                Ok(Err(error)) if may_pass(&error) => {
                    tracing::warn!(%partition, %error, "partition waits and tries again");
                    self.publish(WorkerState::Retrying(error.to_string()));
                    if !self.pause() {
                        return self.publish(WorkerState::Failed(error.to_string()));
                    }
                }
                Ok(Err(error)) => {
                    tracing::error!(%partition, %error, "partition stopped");
                    return self.publish(WorkerState::Failed(error.to_string()));
                }
                Err(_) => {
                    let message = "its worker panicked: please report it, with the log";
                    return self.publish(WorkerState::Failed(message.to_owned()));
                }
            }
            next = self.open();
        }
    }

    fn publish(&self, state: WorkerState) {
        self.shared.peers.update(self.partition, |peer| peer.state = state);
    }

    /// `false`: the pipeline was told to stop meanwhile.
    fn pause(&self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < RETRY_AFTER {
            if self.shared.stop.load(Ordering::Relaxed) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }
}

/// Whether the same work may go through later without a change to the program or its data.
fn may_pass(error: &WorkerError) -> bool {
    match error {
        WorkerError::Broker(error) | WorkerError::Input(InputError::Broker(error)) => {
            error.is_retryable() || matches!(error, BrokerError::Busy { .. })
        }
        WorkerError::Store(error) => {
            matches!(error.source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
        }
        _ => false,
    }
}
