//! The status for who asks every few seconds: what the log says is read back once, and from then on the workers of this
//! process tell what they have committed since.
//!
//! Exact where there are such workers, since nobody else writes into the log that they have open. Reading the newest commits
//! back each time would mean to unpack windows of all keys.

use std::sync::Arc;

use clickmill_broker::{Broker, TopicPartition};
use clickmill_schemas::{Offset, PartitionId, RunId};

use super::ViewError;
use super::status::{ModuleView, RunState, Status, assemble, modules, newest_commits, place};
use crate::peers::NewestCommit;
use crate::runs;
use crate::topics::DEPLOYMENTS;

/// What has been read.
#[derive(Debug, Default)]
pub struct Standing {
    commits: Option<(RunId, super::status::Newest)>,
    /// With the end of the topic that says so.
    modules: Option<(Offset, Vec<ModuleView>)>,
}

impl Standing {
    /// The status now; `workers` is what those of this process have committed last.
    ///
    /// # Errors
    /// [`ViewError`] where a topic cannot be read.
    pub fn status(
        &mut self,
        broker: &dyn Broker,
        state: RunState,
        workers: &[Arc<NewestCommit>],
    ) -> Result<Status, ViewError> {
        let modules = self.modules(broker)?;
        let Some(run) = runs::current(broker)? else {
            return assemble(broker, state, Vec::new(), modules, None);
        };
        let (_, commits) = match &mut self.commits {
            Some(known) if known.0 == run => known,
            // The first time, and once another run has taken the place of the one that was read.
            outdated => outdated.insert((run, newest_commits(broker, run)?)),
        };
        for worker in workers.iter().filter(|worker| worker.run == run) {
            let found = (worker.epoch, worker.commit.clone());
            if commits.get(&worker.partition).is_none_or(|known| place(&found) >= place(known)) {
                commits.insert(worker.partition, found);
            }
        }
        assemble(broker, state, Vec::new(), modules, Some((run, &*commits)))
    }

    fn modules(&mut self, broker: &dyn Broker) -> Result<Vec<ModuleView>, ViewError> {
        if broker.topic(DEPLOYMENTS)?.is_none() {
            return Ok(Vec::new());
        }
        let end = broker.ends(&TopicPartition::new(DEPLOYMENTS, PartitionId(0)))?.end;
        match &self.modules {
            Some((read_to, known)) if *read_to == end => Ok(known.clone()),
            _ => {
                let read = modules(broker)?;
                self.modules = Some((end, read.clone()));
                Ok(read)
            }
        }
    }
}
