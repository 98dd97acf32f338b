//! [`LogOptions`]: every limit of the embedded log, with its unit in its name.

use std::time::Duration;

/// Longest [`LogOptions::sync_interval`].
pub const MAX_SYNC_INTERVAL: Duration = Duration::from_millis(10);

/// Settings of an embedded log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Least time between two syncs of the disk. An append that finds the disk idle is synced at once; under load,
    /// appends share one sync per interval. At most 10 ms (more is taken as 10 ms). Default: 5 ms.
    pub sync_interval: Duration,
    /// A segment file takes no more batches once it has this many bytes. Default: 64 MiB.
    pub segment_bytes: u64,
    /// Bytes of record sets that may wait to be durable before `append` blocks and `try_append` is refused, over all
    /// topics. One set that is larger passes alone. Default: 32 MiB.
    pub max_in_flight_bytes: usize,
    /// Longest record set. Default: 64 MiB.
    pub max_batch_bytes: usize,
    /// zstd's level; 1 is the fastest that pays. Default: 1.
    pub zstd_level: i32,
    /// How often retention and compaction look for work. Default: 5 s.
    pub maintenance_interval: Duration,
    /// Distinct keys that one pass of compaction remembers (about 40 bytes each). Default: 262144.
    pub compaction_keys: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            sync_interval: Duration::from_millis(5),
            segment_bytes: 64 << 20,
            max_in_flight_bytes: 32 << 20,
            max_batch_bytes: 64 << 20,
            zstd_level: 1,
            maintenance_interval: Duration::from_secs(5),
            compaction_keys: 1 << 18,
        }
    }
}
