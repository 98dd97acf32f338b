//! Segment files: their names, their header, and how one comes to be.
//!
//! `<base offset, 20 digits>.log` is a header of 64 bytes and then frames without gaps. The header names the segment
//! before, so a missing file shows at open without reading any frame, and a compacted segment says how far it
//! reaches, so that the segments which it took in are known as left-overs after a crash.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use clickmill_schemas::Offset;

use super::disk;
use super::frame::{Seed, take};
use crate::error::BrokerError;

pub(super) const HEADER_LEN: u64 = 64;
const MAGIC: [u8; 8] = *b"CMsegmnt";
pub(super) const VERSION: u32 = 1;
const NONE: u64 = u64::MAX;

/// What stands at the head of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub base: Offset,
    /// Base of the segment before it when it was made.
    pub previous: Option<Offset>,
    /// Only of a compacted segment: the base of the segment after it.
    pub reaches: Option<Offset>,
    /// Wall clock when it was made, epoch milliseconds: nothing in older segments was appended later.
    pub created_at_ms: i64,
}

/// Why a segment's header cannot be used.
#[derive(Debug)]
pub(super) enum HeaderFault {
    Io(io::Error),
    Newer(u32),
    Bad(&'static str),
}

pub(super) fn file_name(base: Offset) -> String {
    format!("{base:020}.log")
}

/// The base offset in a file's name, if it is a segment's.
pub(super) fn base_of(name: &str) -> Option<Offset> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

impl SegmentHeader {
    pub(super) fn encode(&self, seed: Seed) -> [u8; HEADER_LEN as usize] {
        let mut out = [0; HEADER_LEN as usize];
        out[0..8].copy_from_slice(&MAGIC);
        out[12..16].copy_from_slice(&VERSION.to_be_bytes());
        out[16..24].copy_from_slice(&self.base.0.to_be_bytes());
        out[24..32].copy_from_slice(&self.previous.map_or(NONE, |o| o.0).to_be_bytes());
        out[32..40].copy_from_slice(&self.reaches.map_or(NONE, |o| o.0).to_be_bytes());
        out[40..48].copy_from_slice(&self.created_at_ms.to_be_bytes());
        let crc = seed.checksum(&out[12..]);
        out[8..12].copy_from_slice(&crc.to_be_bytes());
        out
    }

    pub(super) fn read(file: &File, seed: Seed) -> Result<Self, HeaderFault> {
        let mut bytes = [0; HEADER_LEN as usize];
        match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(HeaderFault::Bad("the segment's header is cut short"));
            }
            Err(e) => return Err(HeaderFault::Io(e)),
        }
        if bytes[..8] != MAGIC || take::<4>(&bytes, 8) != seed.checksum(&bytes[12..]).to_be_bytes() {
            return Err(HeaderFault::Bad("the checksum of the segment's header does not match"));
        }
        let version = u32::from_be_bytes(take(&bytes, 12));
        if version > VERSION {
            return Err(HeaderFault::Newer(version));
        }
        let optional = |at| Some(u64::from_be_bytes(take(&bytes, at))).filter(|o| *o != NONE).map(Offset);
        Ok(Self {
            base: Offset(u64::from_be_bytes(take(&bytes, 16))),
            previous: optional(24),
            reaches: optional(32),
            created_at_ms: i64::from_be_bytes(take(&bytes, 40)),
        })
    }
}

/// Makes an empty segment in `dir`, durably.
pub(super) fn create(dir: &Path, header: &SegmentHeader, seed: Seed) -> Result<File, BrokerError> {
    let path = dir.join(file_name(header.base));
    let unfinished = path.with_extension(disk::UNFINISHED);
    let file = disk::create(&unfinished)?;
    if let Err(e) = file.write_all_at(&header.encode(seed), 0).and_then(|()| file.sync_all()) {
        let _ = fs::remove_file(&unfinished); // the write's error matters more
        return Err(BrokerError::io("write", &unfinished, e));
    }
    disk::replace(&unfinished, &path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clickmill_schemas::{PartitionId, RunId};

    #[test]
    fn a_segments_header_reads_back_and_every_flipped_bit_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let seed = Seed::of(RunId([9; 16]), PartitionId(0));
        let header = SegmentHeader { base: Offset(12), previous: Some(Offset(0)), reaches: None, created_at_ms: 99 };
        let file = create(dir.path(), &header, seed).unwrap();
        assert!(dir.path().join("00000000000000000012.log").exists());
        assert_eq!(SegmentHeader::read(&file, seed).unwrap(), header);
        let bytes = header.encode(seed);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            file.write_all_at(&bad, 0).unwrap();
            assert!(SegmentHeader::read(&file, seed).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn only_segments_names_are_taken_for_segments() {
        assert_eq!(base_of(&file_name(Offset(u64::MAX))), Some(Offset(u64::MAX)));
        for other in ["1.log", "+0000000000000000001.log", "00000000000000000001.tmp", "synced"] {
            assert_eq!(base_of(other), None, "{other}");
        }
    }
}
