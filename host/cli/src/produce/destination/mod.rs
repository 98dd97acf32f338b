//! Where rounds go: the log in the data directory, or the host that has it open.

mod embedded;
mod remote;

use clickmill_schemas::record::RecordSetBuilder;

pub use embedded::Embedded;
pub use remote::Remote;

use super::rounds::{Positions, Round};

/// Takes rounds in order, each batch once.
pub trait Destination {
    /// Partitions of the topic of events.
    fn partitions(&self) -> u32;

    /// How far `source` is in the topics, by what is durable there.
    ///
    /// # Errors
    /// Where the topics cannot be read.
    fn positions(&mut self, source: u64) -> anyhow::Result<Positions>;

    /// Takes rounds of `source` over. They may become durable later, in their order; the buffers that are not needed
    /// any more go to `spare`.
    ///
    /// # Errors
    /// Where a batch could not be appended; the batches after it in its partition are not there either.
    fn send(&mut self, source: u64, rounds: Vec<Round>, spare: &mut Vec<RecordSetBuilder>) -> anyhow::Result<()>;

    /// Waits until everything sent is durable.
    ///
    /// # Errors
    /// Where something sent will not be durable.
    fn finish(&mut self) -> anyhow::Result<()>;
}
