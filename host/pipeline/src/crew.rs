//! The workers' threads: one a partition, also for partitions that are added while the others run.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clickmill_schemas::{PartitionId, RunId};

use crate::host::StartError;
use crate::peers::{Peer, WorkerState};
use crate::runs;
use crate::savepoint::{self, Manifest, SavepointError};
use crate::supervise::Supervisor;
use crate::topics::AD_EVENTS_RAW;
use crate::worker::{Shared, Worker};

/// How long workers may take to commit what they have processed.
const COMMIT_PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at what they have done.
const LOOK: Duration = Duration::from_millis(5);

/// Starts workers and waits for their end.
pub struct Crew {
    pub(crate) shared: Arc<Shared>,
    data_dir: PathBuf,
    /// The input topic's id, and that of its first run.
    pub(crate) topic: RunId,
    run: Mutex<RunId>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    closing: AtomicBool,
}

impl Crew {
    pub(crate) fn new(shared: Arc<Shared>, data_dir: PathBuf, topic: RunId, run: RunId) -> Self {
        let (run, threads, closing) = (Mutex::new(run), Mutex::default(), AtomicBool::new(false));
        Self { shared, data_dir, topic, run, threads, closing }
    }

    pub(crate) fn run(&self) -> RunId {
        *self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The workers that are started next are this run's.
    pub(crate) fn take_over(&self, run: RunId) {
        *self.run.lock().unwrap_or_else(PoisonError::into_inner) = run;
    }

    /// Whether it has been told to stop for good.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Ends the workers with a last commit, to start others in their place.
    pub(crate) fn halt(&self, threads: &mut Vec<JoinHandle<()>>) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in threads.drain(..) {
            // The supervisor has reported a panic already.
            let _ = thread.join();
        }
        self.shared.stop.store(false, Ordering::Relaxed);
    }

    /// Starts workers for the partitions that the input topic has got since the last call; how many there are now.
    ///
    /// # Errors
    /// [`StartError`] where the topic cannot be asked, or a worker does not start; the partition then waits for the next
    /// start, as its worker's state says.
    pub fn follow_topic(&self) -> Result<u32, StartError> {
        let mut threads = self.threads();
        let known = u32::try_from(threads.len()).unwrap_or(u32::MAX);
        let info = self.shared.broker.topic(AD_EVENTS_RAW)?;
        let partitions = info.map_or(known, |info| info.spec.partitions);
        if partitions <= known || self.shared.stop.load(Ordering::Relaxed) {
            return Ok(known);
        }
        self.shared.peers.grow(partitions);
        self.shared.registry.grow(partitions);
        let started = self.start(&mut threads, known..partitions);
        if let Err(error) = &started {
            // Nobody else would say so: there is no worker.
            for partition in (u32::try_from(threads.len()).unwrap_or(known)..partitions).map(PartitionId) {
                self.shared.peers.update(partition, |peer| peer.state = WorkerState::Failed(error.to_string()));
            }
        }
        started.map(|()| partitions)
    }

    /// Recovers all of these partitions at once, and only then lets the workers run.
    pub(crate) fn start(
        &self,
        threads: &mut Vec<JoinHandle<()>>,
        partitions: std::ops::Range<u32>,
    ) -> Result<(), StartError> {
        let run = self.run();
        let checkpoints = runs::folder(&self.data_dir, self.topic, run);
        self.shared.peers.floors.hold(&*self.shared.broker, run, partitions.clone());
        let supervisor = |p| Supervisor {
            shared: self.shared.clone(),
            run,
            checkpoints: checkpoints.clone(),
            partition: PartitionId(p),
        };
        for (supervisor, worker) in open_all(partitions.map(supervisor).collect())? {
            let name = format!("worker-{}", supervisor.partition);
            let thread = std::thread::Builder::new().name(name).spawn(move || supervisor.supervise(worker));
            threads.push(thread.map_err(StartError::Thread)?);
        }
        Ok(())
    }

    /// Makes a savepoint of everything that has been processed by now.
    ///
    /// # Errors
    /// [`SavepointError`], and there is none of that name, or the one that there was.
    pub fn save(&self, name: &str) -> Result<Manifest, SavepointError> {
        let begun = Instant::now();
        let asked = self.shared.peers.snapshot();
        while let Some(behind) = self.behind(&asked) {
            let failed = matches!(behind.state, WorkerState::Failed(_));
            if failed || begun.elapsed() > COMMIT_PATIENCE {
                let (partition, why) = (behind.partition, format!("its worker is {:?}", behind.state));
                return Err(SavepointError::NoCommit { partition, why });
            }
            std::thread::sleep(LOOK);
        }
        let (broker, partitions) = (&*self.shared.broker, asked.len() as u32);
        loop {
            match savepoint::save(broker, &self.data_dir, (self.run(), partitions), name, self.shared.clock.now_ms()) {
                // A partition that was added a moment ago.
                Err(SavepointError::Nothing { .. }) if begun.elapsed() < COMMIT_PATIENCE => std::thread::sleep(LOOK),
                made => return made,
            }
        }
    }

    /// A partition that has not committed what it had processed when it was asked.
    fn behind(&self, asked: &[Peer]) -> Option<Peer> {
        let now = self.shared.peers.snapshot();
        now.into_iter().zip(asked).find(|(now, asked)| now.committed < asked.position).map(|(now, _)| now)
    }

    pub(crate) fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the workers to end, and waits for them.
    pub(crate) fn stop(&self) {
        self.closing.store(true, Ordering::Relaxed);
        let mut threads = self.threads();
        self.halt(&mut threads);
        // Nobody is to begin anew.
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

/// Recovers all partitions at once.
fn open_all(supervisors: Vec<Supervisor>) -> Result<Vec<(Supervisor, Worker)>, StartError> {
    let threads: Vec<_> = supervisors
        .into_iter()
        .map(|supervisor| {
            let opening = supervisor.clone();
            (supervisor, std::thread::spawn(move || opening.open()))
        })
        .collect();
    let mut workers = Vec::new();
    for (supervisor, thread) in threads {
        let opened = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let partition = supervisor.partition;
        workers.push((supervisor, opened.map_err(|source| StartError::Worker { partition, source })?));
    }
    Ok(workers)
}
