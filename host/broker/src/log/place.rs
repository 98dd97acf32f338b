//! Which partition, and where on disk: what every message about it needs.

use std::io;
use std::path::{Path, PathBuf};

use clickmill_schemas::Offset;

use super::frame::Seed;
use super::segment;
use crate::error::BrokerError;
use crate::topic::TopicPartition;

/// A partition's name, folder and checksum seed.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub at: TopicPartition,
    pub dir: PathBuf,
    pub seed: Seed,
}

impl Place {
    /// The file of the segment that begins at `base`.
    pub(super) fn segment(&self, base: Offset) -> PathBuf {
        self.dir.join(segment::file_name(base))
    }

    pub(super) fn corrupt(&self, offset: Offset, file: &Path, position: u64, what: &str) -> BrokerError {
        BrokerError::Corrupt { at: self.at.clone(), offset, file: file.to_path_buf(), position, what: what.to_owned() }
    }

    /// The error of bytes that should be a frame; a read that ends early is corruption, not I/O.
    pub(super) fn read_error(&self, offset: Offset, file: &Path, position: u64, e: io::Error) -> BrokerError {
        if e.kind() == io::ErrorKind::UnexpectedEof {
            self.corrupt(offset, file, position, "the file ends before what was durable")
        } else {
            BrokerError::io("read", file, e)
        }
    }
}
