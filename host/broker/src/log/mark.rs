//! The mark: a small file per partition that says what was durable, so that a loss below it is never taken for a
//! torn tail. It also keeps the start of the log and retention's floor.
//!
//! Written in place after each sync and before the sync is told to anybody; not synced itself but at a clean close
//! and when the start or the floor change: an older mark is weaker, never wrong. Two slots in two blocks are written
//! in turn, so a write that is cut leaves the other one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use clickmill_schemas::Offset;

use super::frame::{Seed, take};
use crate::error::BrokerError;

pub(super) const FILE_NAME: &str = "synced";
const MAGIC: [u8; 4] = *b"CMmk";
const VERSION: u32 = 1;
const SLOT_LEN: usize = 44;
const SLOT_AT: [u64; 2] = [0, 4096];

/// What the file says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// The oldest offset kept; segments below are left-overs of retention.
    pub start: Offset,
    /// Everything below was durable.
    pub end: Offset,
    /// Retention and compaction stay below this.
    pub floor: Option<Offset>,
}

/// A mark on disk, open for writing.
#[derive(Debug)]
pub(super) struct MarkFile {
    file: File,
    path: PathBuf,
    seed: Seed,
    sequence: u64,
    mark: Mark,
}

fn encode(mark: &Mark, sequence: u64, seed: Seed) -> [u8; SLOT_LEN] {
    let mut out = [0; SLOT_LEN];
    out[0..4].copy_from_slice(&MAGIC);
    out[8..12].copy_from_slice(&VERSION.to_be_bytes());
    out[12..20].copy_from_slice(&sequence.to_be_bytes());
    out[20..28].copy_from_slice(&mark.start.0.to_be_bytes());
    out[28..36].copy_from_slice(&mark.end.0.to_be_bytes());
    out[36..44].copy_from_slice(&mark.floor.map_or(u64::MAX, |f| f.0).to_be_bytes());
    let crc = seed.checksum(&out[8..]);
    out[4..8].copy_from_slice(&crc.to_be_bytes());
    out
}

fn decode(bytes: &[u8; SLOT_LEN], seed: Seed) -> Option<(u32, u64, Mark)> {
    let sound = bytes[..4] == MAGIC && take::<4>(bytes, 4) == seed.checksum(&bytes[8..]).to_be_bytes();
    let number = |at| u64::from_be_bytes(take(bytes, at));
    sound.then(|| {
        let floor = Some(number(36)).filter(|f| *f != u64::MAX).map(Offset);
        let mark = Mark { start: Offset(number(20)), end: Offset(number(28)), floor };
        (u32::from_be_bytes(take(bytes, 8)), number(12), mark)
    })
}

/// Reads the mark of a partition's folder; `None` where there is none (somebody took it away: then only the
/// segments speak).
fn read(path: &Path, seed: Seed) -> Result<Option<(u64, Mark)>, BrokerError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(BrokerError::io("open", path, e)),
    };
    let mut newest: Option<(u64, Mark)> = None;
    for at in SLOT_AT {
        let mut slot = [0; SLOT_LEN];
        match file.read_exact_at(&mut slot, at) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => continue,
            Err(e) => return Err(BrokerError::io("read", path, e)),
        }
        if let Some((version, sequence, mark)) = decode(&slot, seed) {
            if version > VERSION {
                return Err(BrokerError::NewerFormat { file: path.into(), found: version, known: VERSION });
            }
            if newest.is_none_or(|(s, _)| sequence > s) {
                newest = Some((sequence, mark));
            }
        }
    }
    match newest {
        Some(found) => Ok(Some(found)),
        None => Err(BrokerError::BadFile {
            file: path.into(),
            what: "no checksum matches; without this file the log's segments alone say what was durable".into(),
        }),
    }
}

impl MarkFile {
    /// The mark of `dir` for reading.
    pub(super) fn peek(dir: &Path, seed: Seed) -> Result<Option<Mark>, BrokerError> {
        Ok(read(&dir.join(FILE_NAME), seed)?.map(|(_, mark)| mark))
    }

    /// Opens the mark of `dir` for writing, or makes it, durably. It says `mark` from now on.
    pub(super) fn open(dir: &Path, seed: Seed, mark: Mark) -> Result<Self, BrokerError> {
        let path = dir.join(FILE_NAME);
        let found = read(&path, seed)?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| BrokerError::io("open", &path, e))?;
        let sequence = found.map_or(0, |(sequence, _)| sequence);
        let mut this = Self { file, path, seed, sequence, mark };
        if found.is_none() {
            this.write()?;
            this.write()?; // both slots, so that the file has its size from the start
            this.sync()?;
        } else if found.is_some_and(|(_, old)| old != mark) {
            this.write()?;
        }
        Ok(this)
    }

    /// Everything below `end` is durable.
    pub(super) fn advance(&mut self, end: Offset) -> Result<(), BrokerError> {
        if end <= self.mark.end {
            return Ok(());
        }
        self.mark.end = end;
        self.write()
    }

    /// The log begins at `start`; durable on return, so that segments below may go.
    pub(super) fn set_start(&mut self, start: Offset) -> Result<(), BrokerError> {
        self.mark.start = start;
        self.write()?;
        self.sync()
    }

    /// Sets the floor. A rising floor need not be durable (the lower one is safer), any other change is.
    pub(super) fn set_floor(&mut self, floor: Offset) -> Result<(), BrokerError> {
        let rising = self.mark.floor.is_some_and(|old| old <= floor);
        if self.mark.floor == Some(floor) {
            return Ok(());
        }
        self.mark.floor = Some(floor);
        self.write()?;
        if rising { Ok(()) } else { self.sync() }
    }

    pub(super) fn sync(&self) -> Result<(), BrokerError> {
        self.file.sync_data().map_err(|e| BrokerError::io("sync", &self.path, e))
    }

    fn write(&mut self) -> Result<(), BrokerError> {
        self.sequence += 1;
        let slot = encode(&self.mark, self.sequence, self.seed);
        self.file
            .write_all_at(&slot, SLOT_AT[(self.sequence % 2) as usize])
            .map_err(|e| BrokerError::io("write", &self.path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clickmill_schemas::{PartitionId, RunId};

    fn seed() -> Seed {
        Seed::of(RunId([1; 16]), PartitionId(0))
    }

    #[test]
    fn a_mark_reads_back_and_one_broken_slot_gives_the_write_before() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(MarkFile::peek(dir.path(), seed()).unwrap(), None);
        let mut mark = MarkFile::open(dir.path(), seed(), Mark::default()).unwrap();
        mark.advance(Offset(10)).unwrap();
        mark.set_floor(Offset(4)).unwrap();
        mark.advance(Offset(20)).unwrap();
        let newest = Mark { start: Offset(0), end: Offset(20), floor: Some(Offset(4)) };
        assert_eq!(MarkFile::peek(dir.path(), seed()).unwrap(), Some(newest));
        let path = dir.path().join(FILE_NAME);
        let whole = std::fs::read(&path).unwrap();
        let before = Mark { end: Offset(10), ..newest };
        for slot in SLOT_AT {
            let mut bytes = whole.clone();
            bytes[slot as usize + 30] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            let seen = MarkFile::peek(dir.path(), seed()).unwrap().unwrap();
            assert!(seen == newest || seen == before, "{seen:?}");
        }
    }

    #[test]
    fn a_mark_broken_in_both_slots_is_an_error_and_not_a_missing_mark() {
        let dir = tempfile::tempdir().unwrap();
        drop(MarkFile::open(dir.path(), seed(), Mark::default()).unwrap());
        std::fs::write(dir.path().join(FILE_NAME), vec![0; 5000]).unwrap();
        assert!(matches!(MarkFile::peek(dir.path(), seed()), Err(BrokerError::BadFile { .. })));
    }

    #[test]
    fn the_mark_of_another_partition_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        drop(MarkFile::open(dir.path(), seed(), Mark::default()).unwrap());
        let other = Seed::of(RunId([1; 16]), PartitionId(1));
        assert!(MarkFile::peek(dir.path(), other).is_err());
    }
}
