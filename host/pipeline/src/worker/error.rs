//! Why a worker ends.

use std::path::PathBuf;

use clickmill_broker::BrokerError;
use clickmill_engine::Fault;
use clickmill_schemas::record::Malformed;
use clickmill_schemas::{Epoch, Offset, PartitionId};

use crate::chains::ChainError;
use crate::checkpoint::{Damaged, StoreError};
use crate::deployment::DeploymentError;
use crate::input::InputError;

/// Why a worker stopped for good.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
    #[error("stage {} fails on its own state: {}; the partition cannot go on with this module", .0.stage, .0.message)]
    State(Fault),
    #[error("a module's output is malformed: {0}")]
    Output(#[from] Malformed),
    #[error("cannot read a batch: {0}")]
    Source(String),
    #[error("cannot read a batch: {0}")]
    Input(#[from] InputError),
    #[error("checkpoint {file}: {why}")]
    Newer { file: PathBuf, why: Damaged },
    #[error(
        "no checkpoint of {topic}/{partition} can be read ({why}), and the log begins only at offset {start}: restore the checkpoints from a backup"
    )]
    AllDamaged { topic: String, partition: PartitionId, start: Offset, why: String },
    #[error(
        "checkpoint {name} is at offset {offset} of {place}, ahead of that log's end {end}: the log has lost records \
         that were counted; restore it from a backup, or remove the data directory to begin anew"
    )]
    AheadOfLog { name: String, offset: Offset, place: String, end: Offset },
    #[error(
        "checkpoint {name} is of run {found}, and the topic's run is {expected}: the checkpoints belong to another log"
    )]
    OtherRun { name: String, found: String, expected: String },
    #[error(
        "{topic}/{partition}: records {from} to {start} are gone from the log, and recovery needs them up to {needed}"
    )]
    Trimmed { topic: String, partition: PartitionId, from: Offset, start: Offset, needed: Offset },
    #[error("another process has taken {topic}/{partition} under a higher epoch than ours ({epoch})")]
    Fenced { topic: String, partition: PartitionId, epoch: Epoch },
    #[error(
        "stage {stage} fails at offset {offset} ({message}), though the records up to {needed} passed before the restart: \
         not decided anew; check the limits in force then and now"
    )]
    Irreproducible { stage: String, offset: Offset, message: String, needed: Offset },
    #[error("stage {stage} fails on every record, up to offset {offset}: {message}")]
    Module { stage: String, offset: Offset, message: String },
    #[error("batch at offset {found} where {expected} was due")]
    Misaligned { found: Offset, expected: Offset },
}
