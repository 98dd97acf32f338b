//! The bytes of a checkpoint: magic, version, checksum, a JSON head, the modules' state.
//!
//! `"CMCK", u16 version, u32 crc32c of what follows, u32 head length, head (JSON), state`. Big-endian.

use std::collections::BTreeMap;
use std::io::{self, Read};

use clickmill_schemas::output::Ledger;
use clickmill_schemas::{DeploymentId, Epoch, Generation, Offset, PartitionId, RunId};
use serde::{Deserialize, Serialize};

use crate::recovery::{Activation, WrittenVerdict};
use crate::rejected::Rejected;

const MAGIC: &[u8; 4] = b"CMCK";
/// Version of this format; a newer one is refused.
pub const VERSION: u16 = 1;
const HEAD_AT: usize = 14;

/// Where recovery from this checkpoint begins to read the output topics: all that is needed of what lies before is in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputEnds {
    pub windows: Offset,
    pub errors: Offset,
}

/// State of a partition's worker after the records below `offset`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub run: RunId,
    pub topic: String,
    pub partition: PartitionId,
    pub epoch: Epoch,
    /// Exclusive end of the input prefix.
    pub offset: Offset,
    pub generation: Generation,
    /// Deployment in force at `offset`.
    pub deployment: DeploymentId,
    /// Where each deployment began to judge this partition.
    pub activations: BTreeMap<Offset, DeploymentId>,
    /// Those that are written down for `offset` and beyond: their records may lie before `outputs`, where nobody reads them
    /// again.
    #[serde(default)]
    pub ahead: BTreeMap<Offset, Activation>,
    /// The same of verdicts: the worker went back behind them.
    #[serde(default)]
    pub verdicts: BTreeMap<Offset, WrittenVerdict>,
    pub ledger: Ledger,
    #[serde(default, skip_serializing_if = "Rejected::is_empty")]
    pub rejected: Rejected,
    pub watermark_ms: Option<i64>,
    pub outputs: OutputEnds,
    /// Ends of the output topics after the commit that it belongs to: a topic that is shorter has lost some of it.
    #[serde(default)]
    pub written: OutputEnds,
    /// Wall clock, epoch milliseconds, for people.
    pub written_at_ms: i64,
    /// The chain's state, as its engine encodes it.
    #[serde(skip)]
    pub state: Vec<u8>,
}

/// Why bytes are not a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    #[error("it is {0} bytes long, shorter than its head")]
    Short(usize),
    #[error("it does not begin as a checkpoint does")]
    Magic,
    #[error(
        "it has format {found}, and this program reads up to {VERSION}: use the version that wrote it, or a newer one"
    )]
    Newer { found: u16 },
    #[error("its checksum is {found:08x} and should be {stored:08x}")]
    Checksum { stored: u32, found: u32 },
    #[error("its head cannot be read: {0}")]
    Head(String),
}

impl Checkpoint {
    /// The least that the output topics must have where nothing has been lost.
    #[must_use]
    pub fn needs(&self) -> OutputEnds {
        // Those that were written before there was `written` have it in `outputs`.
        let (read, written) = (self.outputs, self.written);
        OutputEnds { windows: read.windows.max(written.windows), errors: read.errors.max(written.errors) }
    }

    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Plain structs: serialization has no failing case.
        let head = serde_json::to_vec(self).unwrap_or_default();
        let mut out = Vec::with_capacity(HEAD_AT + head.len() + self.state.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&u32::try_from(head.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(&head);
        out.extend_from_slice(&self.state);
        let crc = crc32c::crc32c(&out[10..]);
        out[6..10].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// When it was written, epoch milliseconds, as its head says: read without the state behind it, and unchecked.
    ///
    /// # Errors
    /// [`Damaged`] where that cannot be told; I/O.
    pub fn written_at(mut file: impl Read) -> io::Result<Result<i64, Damaged>> {
        /// Of a head all but this is passed over.
        #[derive(Deserialize)]
        struct Written {
            written_at_ms: i64,
        }
        let mut start = Vec::with_capacity(HEAD_AT);
        file.by_ref().take(HEAD_AT as u64).read_to_end(&mut start)?;
        let Some((begin, head_len)) = start.split_last_chunk::<4>().filter(|(begin, _)| begin.len() + 4 == HEAD_AT)
        else {
            return Ok(Err(Damaged::Short(start.len())));
        };
        let version = u16::from_be_bytes([begin[4], begin[5]]);
        if !begin.starts_with(MAGIC) || version == 0 {
            return Ok(Err(Damaged::Magic));
        }
        if version > VERSION {
            return Ok(Err(Damaged::Newer { found: version }));
        }
        let mut head = Vec::new();
        file.take(u32::from_be_bytes(*head_len).into()).read_to_end(&mut head)?;
        let written = serde_json::from_slice::<Written>(&head).map_err(|e| Damaged::Head(e.to_string()));
        Ok(written.map(|written| written.written_at_ms))
    }

    /// # Errors
    /// [`Damaged`], for every byte that is not as it was written.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let short = Damaged::Short(bytes.len());
        let (magic, rest) = bytes.split_first_chunk::<4>().ok_or(short.clone())?;
        let (version, rest) = rest.split_first_chunk::<2>().ok_or(short.clone())?;
        let (stored, body) = rest.split_first_chunk::<4>().ok_or(short.clone())?;
        if magic != MAGIC {
            return Err(Damaged::Magic);
        }
        let version = u16::from_be_bytes(*version);
        if version > VERSION {
            return Err(Damaged::Newer { found: version });
        }
        if version == 0 {
            return Err(Damaged::Magic);
        }
        let stored = u32::from_be_bytes(*stored);
        let found = crc32c::crc32c(body);
        if stored != found {
            return Err(Damaged::Checksum { stored, found });
        }
        let (head_len, rest) = body.split_first_chunk::<4>().ok_or(short.clone())?;
        let (head, state) = rest.split_at_checked(u32::from_be_bytes(*head_len) as usize).ok_or(short)?;
        let mut checkpoint: Self = serde_json::from_slice(head).map_err(|e| Damaged::Head(e.to_string()))?;
        checkpoint.state = state.to_vec();
        Ok(checkpoint)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample(epoch: u64, offset: u64) -> Checkpoint {
        Checkpoint {
            run: RunId([7; 16]),
            topic: "ad_events_raw".into(),
            partition: PartitionId(1),
            epoch: Epoch(epoch),
            offset: Offset(offset),
            generation: Generation(0),
            deployment: DeploymentId(0),
            activations: BTreeMap::from([(Offset(0), DeploymentId(0))]),
            ahead: BTreeMap::from([(
                Offset(offset + 5),
                Activation { deployment: DeploymentId(1), generation: Some(Generation(1)) },
            )]),
            ledger: Ledger { counted: offset, ..Ledger::default() },
            rejected: Rejected::default(),
            watermark_ms: Some(123),
            verdicts: BTreeMap::from([(
                Offset(offset + 2),
                WrittenVerdict { stage: "enrich".into(), message: "wasm trap".into() },
            )]),
            outputs: OutputEnds { windows: Offset(4), errors: Offset(5) },
            written: OutputEnds { windows: Offset(7), errors: Offset(5) },
            written_at_ms: 9,
            state: vec![1, 2, 3, 4, 5],
        }
    }

    #[test]
    fn a_checkpoint_reads_back() {
        let checkpoint = sample(3, 100);
        assert_eq!(Checkpoint::decode(&checkpoint.encode()).unwrap(), checkpoint);
    }

    #[test]
    fn when_it_was_written_is_read_without_the_state_and_of_no_other_bytes() {
        let bytes = sample(3, 100).encode();
        let state = sample(3, 100).state.len();
        assert_eq!(Checkpoint::written_at(&bytes[..bytes.len() - state]).unwrap(), Ok(9));
        for cut in 0..bytes.len() - state {
            assert!(Checkpoint::written_at(&bytes[..cut]).unwrap().is_err(), "cut at {cut}");
        }
        let mut newer = bytes;
        newer[5] = 2;
        assert_eq!(Checkpoint::written_at(&newer[..]).unwrap(), Err(Damaged::Newer { found: 2 }));
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_detected() {
        let bytes = sample(3, 100).encode();
        for i in 0..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[i] ^= 1 << bit;
                assert!(Checkpoint::decode(&bad).is_err(), "byte {i} bit {bit}");
            }
            assert!(Checkpoint::decode(&bytes[..i]).is_err(), "cut at {i}");
        }
    }

    #[test]
    fn a_newer_format_is_named_as_such() {
        let mut bytes = sample(1, 1).encode();
        bytes[4..6].copy_from_slice(&2u16.to_be_bytes());
        assert_eq!(Checkpoint::decode(&bytes), Err(Damaged::Newer { found: 2 }));
    }
}
