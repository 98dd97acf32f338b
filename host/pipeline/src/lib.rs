//! Workers that turn topics of events into window partials, exactly once over crashes and deployments.
//!
//! The four rules of ARCHITECTURE.md are kept here. Start with [`host`] (the component), then `worker` (the loop),
//! [`recovery`] and [`checkpoint::resolve`] (the decisions, pure). [`views`] reads what the workers have written.
//! This crate must not know how a sink stores rows, nor how a broker stores batches.

pub mod blame;
mod breaker;
mod chains;
pub mod checkpoint;
pub mod clock;
mod crew;
pub mod deployment;
pub mod dlq;
mod fuel;
mod host;
pub mod idle;
mod input;
pub mod judge;
pub mod metrics;
pub mod module_log;
pub mod newcomer;
mod peers;
mod quiet;
pub mod recovery;
mod rejected;
pub mod reprocess;
pub mod runs;
pub mod savepoint;
pub mod shadow;
mod supervise;
mod targets;
pub mod through;
pub mod topics;
pub mod views;
pub mod why;
mod worker;

pub use breaker::OnModuleFailure;
pub use chains::ChainError;
pub use crew::Crew;
pub use host::{CatchUpError, Pipeline, PipelineParts, StageModule, StartError};
pub use peers::{NewestCommit, Peer, Peers, WorkerState};
pub use topics::TopicsOptions;
pub use worker::{WorkerError, WorkerOptions};
