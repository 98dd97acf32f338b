//! Makes a frame of a record set: compressed where that is smaller, checksummed, with room for the header in front.
//!
//! Runs in the appender's thread before any lock is taken, in a buffer that the thread keeps.

use std::cell::RefCell;

use clickmill_schemas::Offset;
use zstd::bulk::Compressor;

use super::frame::{FrameHeader, HEADER_LEN, Seed};
use crate::batch::Codec;

/// Longest buffer that a thread keeps between appends.
const KEPT_BYTES: usize = 4 << 20;

thread_local! {
    static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch { frame: Vec::new(), compressor: None }) };
}

struct Scratch {
    frame: Vec<u8>,
    compressor: Option<(i32, Compressor<'static>)>,
}

/// A record set to be stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordSet<'a> {
    pub bytes: &'a [u8],
    pub count: u32,
    pub base_timestamp_ms: i64,
}

/// A frame whose header is still to be put in: [`FrameHeader`] with the positions at 0.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub header: FrameHeader,
    frame: &'a mut [u8],
}

impl Draft<'_> {
    pub(super) fn len(&self) -> u64 {
        self.frame.len() as u64
    }

    /// The stored record set.
    pub(super) fn payload(&self) -> &[u8] {
        &self.frame[HEADER_LEN..]
    }

    /// The frame's bytes, with the header as it is now.
    pub(super) fn finish(&mut self, seed: Seed) -> &[u8] {
        self.frame[..HEADER_LEN].copy_from_slice(&self.header.encode(seed));
        self.frame
    }
}

/// Calls `then` with the frame of `set`. The set is at most 4 GiB - 1.
pub(super) fn with_frame<R>(set: RecordSet<'_>, level: i32, seed: Seed, then: impl FnOnce(&mut Draft<'_>) -> R) -> R {
    SCRATCH.with_borrow_mut(|scratch| {
        let len = set.bytes.len();
        let room = HEADER_LEN + zstd::zstd_safe::compress_bound(len);
        if scratch.frame.len() < room {
            scratch.frame.resize(room, 0);
        }
        let compressed = compress(&mut scratch.compressor, set.bytes, &mut scratch.frame[HEADER_LEN..], level);
        let (codec, stored_len) = match compressed.filter(|n| *n < len) {
            Some(n) => (Codec::Zstd, n),
            None => {
                scratch.frame[HEADER_LEN..HEADER_LEN + len].copy_from_slice(set.bytes);
                (Codec::Raw, len)
            }
        };
        let frame = &mut scratch.frame[..HEADER_LEN + stored_len];
        let header = FrameHeader {
            codec,
            count: set.count,
            base: Offset(0),
            next: Offset(0),
            base_timestamp_ms: set.base_timestamp_ms,
            appended_at_ms: 0,
            durable_before: Offset(0),
            records_len: len as u32,
            stored_len: stored_len as u32,
            payload_crc: seed.checksum(&frame[HEADER_LEN..]),
        };
        let result = then(&mut Draft { header, frame });
        if scratch.frame.capacity() > KEPT_BYTES {
            scratch.frame = Vec::new();
        }
        result
    })
}

/// Bytes written, or `None` where it cannot be compressed (then it is stored as it is).
fn compress(
    compressor: &mut Option<(i32, Compressor<'static>)>,
    from: &[u8],
    to: &mut [u8],
    level: i32,
) -> Option<usize> {
    if compressor.as_ref().is_none_or(|(l, _)| *l != level) {
        *compressor = Some((level, Compressor::new(level).ok()?));
    }
    compressor.as_mut().and_then(|(_, c)| c.compress_to_buffer(from, to).ok())
}
