//! The frame: one batch as it lies in a segment file, a header of 68 bytes and the stored record set.
//!
//! Pure encoding. The header carries two checksums: its own, so that a walk from header to header needs no payloads
//! and a header alone proves what it says, and the payload's. Both start from a seed of the topic's random id and
//! the partition: bytes of another log, or of a producer who imitates a frame, are not taken for ours.

use clickmill_schemas::{Offset, PartitionId, RunId};

use crate::batch::Codec;

/// Bytes of a header.
pub(super) const HEADER_LEN: usize = 68;
/// First bytes of a frame.
pub(super) const MAGIC: [u8; 4] = *b"CMfr";
pub(super) const VERSION: u8 = 1;

/// Start value of a partition's checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seed(u32);

impl Seed {
    pub(super) fn of(topic: RunId, partition: PartitionId) -> Self {
        Self(crc32c::crc32c_append(crc32c::crc32c(&topic.0), &partition.0.to_be_bytes()))
    }

    pub(super) fn checksum(self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(self.0, bytes)
    }
}

/// What a frame says of its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub codec: Codec,
    pub count: u32,
    pub base: Offset,
    /// The next frame's base. Compaction leaves it where it was.
    pub next: Offset,
    pub base_timestamp_ms: i64,
    /// Wall clock of the append, epoch milliseconds.
    pub appended_at_ms: i64,
    /// Everything below was durable when this frame was written.
    pub durable_before: Offset,
    pub records_len: u32,
    pub stored_len: u32,
    pub payload_crc: u32,
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameFault {
    #[error("no frame begins here")]
    NoMagic,
    #[error("the checksum of a frame's header does not match")]
    HeaderChecksum,
    #[error("the checksum of a frame's records does not match")]
    PayloadChecksum,
    #[error("a frame is cut short")]
    CutShort,
    #[error("a frame of another place stands here")]
    WrongOffset,
    #[error("a frame of format version {0}, which is newer than this program")]
    Newer(u8),
}

impl FrameHeader {
    /// Bytes of the whole frame.
    pub(super) const fn frame_len(&self) -> u64 {
        HEADER_LEN as u64 + self.stored_len as u64
    }

    pub(super) fn encode(&self, seed: Seed) -> [u8; HEADER_LEN] {
        let mut out = [0u8; HEADER_LEN];
        out[0..4].copy_from_slice(&MAGIC);
        out[8] = VERSION;
        out[9] = match self.codec {
            Codec::Raw => 0,
            Codec::Zstd => 1,
        };
        out[12..16].copy_from_slice(&self.count.to_be_bytes());
        out[16..24].copy_from_slice(&self.base.0.to_be_bytes());
        out[24..32].copy_from_slice(&self.next.0.to_be_bytes());
        out[32..40].copy_from_slice(&self.base_timestamp_ms.to_be_bytes());
        out[40..48].copy_from_slice(&self.appended_at_ms.to_be_bytes());
        out[48..56].copy_from_slice(&self.durable_before.0.to_be_bytes());
        out[56..60].copy_from_slice(&self.records_len.to_be_bytes());
        out[60..64].copy_from_slice(&self.stored_len.to_be_bytes());
        out[64..68].copy_from_slice(&self.payload_crc.to_be_bytes());
        let crc = seed.checksum(&out[8..]);
        out[4..8].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// Reads the header that `bytes` begin with.
    pub(super) fn decode(bytes: &[u8], seed: Seed) -> Result<Self, FrameFault> {
        let Some(bytes) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(FrameFault::CutShort);
        };
        if bytes[..4] != MAGIC {
            return Err(FrameFault::NoMagic);
        }
        if take::<4>(bytes, 4) != seed.checksum(&bytes[8..]).to_be_bytes() {
            return Err(FrameFault::HeaderChecksum);
        }
        if bytes[8] > VERSION {
            return Err(FrameFault::Newer(bytes[8]));
        }
        Ok(Self {
            codec: if bytes[9] == 0 { Codec::Raw } else { Codec::Zstd },
            count: u32::from_be_bytes(take(bytes, 12)),
            base: Offset(u64::from_be_bytes(take(bytes, 16))),
            next: Offset(u64::from_be_bytes(take(bytes, 24))),
            base_timestamp_ms: i64::from_be_bytes(take(bytes, 32)),
            appended_at_ms: i64::from_be_bytes(take(bytes, 40)),
            durable_before: Offset(u64::from_be_bytes(take(bytes, 48))),
            records_len: u32::from_be_bytes(take(bytes, 56)),
            stored_len: u32::from_be_bytes(take(bytes, 60)),
            payload_crc: u32::from_be_bytes(take(bytes, 64)),
        })
    }

    /// Checks the payload that stands behind the header.
    pub(super) fn check_payload(&self, payload: &[u8], seed: Seed) -> Result<(), FrameFault> {
        if seed.checksum(payload) == self.payload_crc { Ok(()) } else { Err(FrameFault::PayloadChecksum) }
    }
}

/// `N` bytes at `at`; the callers' positions are constants within their arrays.
pub(super) fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(payload: &[u8], seed: Seed) -> FrameHeader {
        FrameHeader {
            codec: Codec::Zstd,
            count: 3,
            base: Offset(1 << 40),
            next: Offset((1 << 40) + 5),
            base_timestamp_ms: -5,
            appended_at_ms: 1_700_000_000_000,
            durable_before: Offset(7),
            records_len: 1_000,
            stored_len: payload.len() as u32,
            payload_crc: seed.checksum(payload),
        }
    }

    #[test]
    fn a_header_reads_back_as_written_and_every_flipped_bit_of_the_frame_is_noticed() {
        let seed = Seed::of(RunId([3; 16]), PartitionId(2));
        let payload = b"some stored records".to_vec();
        let header = header(&payload, seed);
        let mut frame = header.encode(seed).to_vec();
        frame.extend_from_slice(&payload);
        let whole = |frame: &[u8]| {
            FrameHeader::decode(frame, seed).and_then(|h| h.check_payload(&frame[HEADER_LEN..], seed).map(|()| h))
        };
        assert_eq!(whole(&frame), Ok(header));
        for bit in 0..frame.len() * 8 {
            let mut bad = frame.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(whole(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_frame_of_another_topic_or_partition_is_not_taken_for_ours() {
        let seed = Seed::of(RunId([3; 16]), PartitionId(2));
        let bytes = header(b"x", seed).encode(seed);
        for other in [Seed::of(RunId([4; 16]), PartitionId(2)), Seed::of(RunId([3; 16]), PartitionId(1))] {
            assert_eq!(FrameHeader::decode(&bytes, other), Err(FrameFault::HeaderChecksum));
        }
    }

    #[test]
    fn a_newer_version_says_so_instead_of_looking_corrupt() {
        let seed = Seed::of(RunId([3; 16]), PartitionId(2));
        let mut bytes = header(b"x", seed).encode(seed);
        bytes[8] = 9;
        let crc = seed.checksum(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(FrameHeader::decode(&bytes, seed), Err(FrameFault::Newer(9)));
    }
}
