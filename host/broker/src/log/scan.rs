//! Walks the frames of a segment file, and looks behind a bad frame for proof that it was once durable.
//!
//! Bounded: one buffer, grown only to the longest frame met.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use clickmill_schemas::Offset;

use super::frame::{FrameFault, FrameHeader, HEADER_LEN, MAGIC, Seed};

/// Bytes read at a time when payloads are wanted.
const PAYLOAD_CHUNK: usize = 1 << 20;
/// Bytes read at a time when only headers are: few, since the next header is often further away.
const HEADER_CHUNK: usize = 4 << 10;

/// What comes next in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// The limit, right after a frame.
    End,
    Frame {
        position: u64,
        header: FrameHeader,
        /// Checked; empty in a walk over headers.
        payload: &'a [u8],
    },
    /// Nothing that continues the frames before. The walk ends.
    Bad { position: u64, fault: FrameFault },
}

/// A walk over the frames of a file, from a position where a frame begins.
#[derive(Debug)]
pub(super) struct Scanner<'f> {
    file: &'f File,
    seed: Seed,
    position: u64,
    expected: Offset,
    limit: u64,
    payloads: bool,
    buffer: Vec<u8>,
    buffer_at: u64,
}

impl<'f> Scanner<'f> {
    /// Walks whole frames, checking everything, from `position`, where the frame of base `expected` begins.
    pub(super) fn frames(file: &'f File, seed: Seed, position: u64, expected: Offset, limit: u64) -> Self {
        Self { file, seed, position, expected, limit, payloads: true, buffer: Vec::new(), buffer_at: 0 }
    }

    /// Walks headers only; payloads are neither read nor checked.
    pub(super) fn headers(file: &'f File, seed: Seed, position: u64, expected: Offset, limit: u64) -> Self {
        Self { payloads: false, ..Self::frames(file, seed, position, expected, limit) }
    }

    /// Byte position of the next frame.
    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// Base offset that the next frame must have.
    pub(super) const fn expected(&self) -> Offset {
        self.expected
    }

    /// Takes one step.
    pub(super) fn step(&mut self) -> io::Result<Step<'_>> {
        let position = self.position;
        if position == self.limit {
            return Ok(Step::End);
        }
        let bad = |fault| Ok(Step::Bad { position, fault });
        let Some(at) = self.window(HEADER_LEN)? else {
            return bad(FrameFault::CutShort);
        };
        let header = match FrameHeader::decode(&self.buffer[at..], self.seed) {
            Ok(header) => header,
            Err(fault) => return bad(fault),
        };
        if header.base != self.expected || header.next < header.base {
            return bad(FrameFault::WrongOffset);
        }
        let len = header.frame_len();
        let mut payload = 0..0;
        if self.payloads {
            let Some(at) = self.window(len as usize)? else {
                return bad(FrameFault::CutShort);
            };
            payload = at + HEADER_LEN..at + len as usize;
            if let Err(fault) = header.check_payload(&self.buffer[payload.clone()], self.seed) {
                return bad(fault);
            }
        } else if len > self.limit - position {
            return bad(FrameFault::CutShort);
        }
        self.position += len;
        self.expected = header.next;
        Ok(Step::Frame { position, header, payload: &self.buffer[payload] })
    }

    /// Has `len` bytes from the current position in the buffer; where in it, or `None` when the file ends before.
    fn window(&mut self, len: usize) -> io::Result<Option<usize>> {
        let left = self.limit - self.position;
        if len as u64 > left {
            return Ok(None);
        }
        if self.position >= self.buffer_at {
            let at = (self.position - self.buffer_at) as usize;
            if at <= self.buffer.len() && len <= self.buffer.len() - at {
                return Ok(Some(at));
            }
        }
        let chunk = if self.payloads { PAYLOAD_CHUNK } else { HEADER_CHUNK };
        let want = (len.max(chunk) as u64).min(left) as usize;
        self.buffer.resize(want, 0);
        self.buffer_at = self.position;
        match self.file.read_exact_at(&mut self.buffer, self.position) {
            Ok(()) => Ok(Some(0)),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                self.buffer.clear();
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }
}

/// Looks from `position` to `limit` for the header of a frame that was written when `lost` was already durable; what
/// it says was durable. A header alone is proof, its checksum is seeded.
pub(super) fn later_proof(
    file: &File,
    seed: Seed,
    position: u64,
    limit: u64,
    lost: Offset,
) -> io::Result<Option<Offset>> {
    let mut chunk = vec![0; PAYLOAD_CHUNK];
    let mut at = position;
    while at + HEADER_LEN as u64 <= limit {
        let len = (limit - at).min(chunk.len() as u64) as usize;
        file.read_exact_at(&mut chunk[..len], at)?;
        let last = len - HEADER_LEN;
        for i in 0..=last {
            if chunk[i] != MAGIC[0] || chunk[i..i + 4] != MAGIC {
                continue;
            }
            if let Ok(header) = FrameHeader::decode(&chunk[i..len], seed)
                && header.durable_before > lost
            {
                return Ok(Some(header.durable_before));
            }
        }
        at += last as u64 + 1;
    }
    Ok(None)
}
