//! [`Deployments`]: the topic of that name as far as marks need it, followed record by record.

use std::collections::BTreeMap;

use clickmill_broker::{Broker, TopicPartition};
use clickmill_pipeline::deployment::{Cause, Deployment};
use clickmill_pipeline::topics::DEPLOYMENTS;
use clickmill_pipeline::views::scan::scan;
use clickmill_pipeline::views::status::ModuleView;
use clickmill_pipeline::views::{BadRecord, ViewError};
use clickmill_schemas::{DeploymentId, Offset, PartitionId};

use super::event::MarkKind;

/// What has been deployed, by id: what came of what, and what was said of it.
#[derive(Debug, Default)]
pub(super) struct Deployments {
    next: Offset,
    told: BTreeMap<DeploymentId, (Cause, String)>,
    /// Of the newest one that is for all partitions.
    modules: Vec<ModuleView>,
}

impl Deployments {
    /// Takes in what has been added.
    pub(super) fn follow(&mut self, broker: &dyn Broker) -> Result<(), ViewError> {
        if broker.topic(DEPLOYMENTS)?.is_none() {
            *self = Self::default();
            return Ok(());
        }
        let at = TopicPartition::new(DEPLOYMENTS, PartitionId(0));
        let from = self.next;
        self.next = scan(broker, &at, from, &mut |offset, record| {
            let deployment = serde_json::from_slice::<Deployment>(record.value).map_err(BadRecord::Deployment)?;
            self.add(DeploymentId(offset.0), deployment);
            Ok(())
        })?;
        Ok(())
    }

    pub(super) fn add(&mut self, id: DeploymentId, deployment: Deployment) {
        if deployment.partitions.is_none() {
            let view = |s: &clickmill_pipeline::deployment::Stage| ModuleView {
                stage: s.stage.clone(),
                name: s.name.clone(),
                version: s.version.clone(),
                sha256: s.sha256,
            };
            self.modules = deployment.stages.iter().map(view).collect();
        }
        self.told.insert(id, (deployment.cause, deployment.message));
    }

    pub(super) fn modules(&self) -> &[ModuleView] {
        &self.modules
    }

    /// How its activation is marked.
    pub(super) fn mark(&self, id: DeploymentId) -> (MarkKind, String) {
        let Some((cause, message)) = self.told.get(&id) else {
            return (MarkKind::Deployment, format!("deployment {id}"));
        };
        let (kind, what) = match cause {
            Cause::Config => (MarkKind::Deployment, format!("deployment {id}, by the configuration")),
            Cause::Deploy => (MarkKind::Deployment, format!("deployment {id}")),
            Cause::Remove => (MarkKind::Deployment, format!("deployment {id}, a stage is removed")),
            Cause::Promote { of } => (MarkKind::Deployment, format!("deployment {id}, {of} everywhere")),
            Cause::Reprocess => (MarkKind::Deployment, format!("deployment {id}, to judge again")),
            Cause::Switch { of } => (MarkKind::Deployment, format!("deployment {id}, the run of {of} is taken")),
            Cause::Rollback { to } => (MarkKind::Rollback, format!("deployment {id}, back to {to}")),
            Cause::Breaker { undoes } => (MarkKind::Breaker, format!("deployment {id}, the breaker undoes {undoes}")),
        };
        (kind, if message.is_empty() { what } else { format!("{what}: {message}") })
    }
}
