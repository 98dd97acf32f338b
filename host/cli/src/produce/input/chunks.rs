//! Cutting files into chunks of whole lines, on a thread of their own.
//!
//! A chunk owns its buffer, which goes back to the reader when it is used up. Lines longer than the limit never
//! gather in memory: their beginning is kept, the rest is skipped.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use super::files::{Print, Source};
use super::rows::Place;

/// Bytes that a chunk usually has.
const CHUNK_BYTES: usize = 256 * 1024;
/// Zero bytes behind the lines of a chunk, so that the last fields can be copied with wide loads.
pub const PADDING: usize = 32;
/// Chunks that wait for their reader.
const QUEUED: usize = 4;
/// Bytes kept of a line that is too long.
pub const KEPT_OF_LONG_LINE: usize = 64 * 1024;

/// Whole lines, each with its line feed but perhaps the last of a file.
#[derive(Debug, Default)]
pub struct Lines {
    /// [`len`](Self::len) bytes of lines, then at least [`PADDING`] more.
    pub bytes: Vec<u8>,
    pub len: usize,
}

/// What comes out of the files, in order.
#[derive(Debug)]
pub enum Chunk {
    /// The file of this number begins.
    File(usize),
    Lines(Lines),
    /// A line longer than the limit: its beginning, and its length without the line feed.
    LongLine {
        head: Vec<u8>,
        len: u64,
    },
    /// The file cannot be read any further; `lost` bytes of an unfinished line came before. Nothing follows.
    Cut {
        damage: Damage,
        lost: u64,
    },
}

/// Why a file cannot be read any further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub why: String,
    /// The bytes are not what the compressor wrote. Nothing tells since where: its only checksum is over all of them, so
    /// what was read before need not be what was written either.
    pub corrupt: bool,
}

impl From<&io::Error> for Damage {
    fn from(error: &io::Error) -> Self {
        let corrupt = matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput);
        Self { why: error.to_string(), corrupt }
    }
}

/// The receiving end.
pub struct Chunks {
    pub chunks: Receiver<Chunk>,
    spare: SyncSender<Vec<u8>>,
}

impl Chunks {
    /// Gives a buffer back.
    pub fn recycle(&self, lines: Lines) {
        // With enough spare buffers, or after the reader ended, it is simply freed.
        let _ = self.spare.try_send(lines.bytes);
    }
}

/// Reads `sources` one after another, up to the end or a cut, on a thread of `scope`. The thread returns the
/// prints of the files that it read, or none where it was told to stop by dropping [`Chunks`].
pub fn read<'scope>(
    scope: &'scope Scope<'scope, '_>,
    sources: Vec<Source>,
    max_line_bytes: usize,
    read: Arc<AtomicU64>,
) -> (Chunks, ScopedJoinHandle<'scope, anyhow::Result<Option<Vec<Print>>>>) {
    let (sender, chunks) = sync_channel(QUEUED);
    let (spare, spares) = sync_channel(QUEUED);
    let reader = Reader { sender, spares, max_line_bytes };
    let handle = scope.spawn(move || read_all(&reader, &sources, &read));
    (Chunks { chunks, spare }, handle)
}

/// Reads standard input on a thread of its own, a chunk as soon as there is a line. The thread outlives the work only
/// where nothing more comes in.
pub fn stream(mut input: Box<dyn Read + Send>, max_line_bytes: usize) -> Chunks {
    let (sender, chunks) = sync_channel(QUEUED);
    let (spare, spares) = sync_channel(QUEUED);
    let reader = Reader { sender, spares, max_line_bytes };
    std::thread::spawn(move || {
        if reader.send(Chunk::File(0)) {
            reader.read(input.as_mut(), true);
        }
    });
    Chunks { chunks, spare }
}

/// What files look like, and where the last of them is damaged, if it is.
type Looks = (Vec<Print>, Option<(Place, Damage)>);

/// The prints of `sources` up to the first that is damaged, with its damage; what they hold is decompressed and forgotten.
///
/// # Errors
/// Where one cannot be read.
pub fn look(sources: &[Source], read: &Arc<AtomicU64>) -> anyhow::Result<Looks> {
    let mut prints = Vec::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    for (file, source) in sources.iter().enumerate() {
        let mut opened = source.open(read)?;
        let mut place = Place { file, line: 1, byte: 0 };
        let damage = loop {
            match opened.read(&mut buffer) {
                Ok(0) => break None,
                Ok(n) => {
                    place.line += memchr::memchr_iter(b'\n', &buffer[..n]).count() as u64;
                    place.byte += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => break Some((place, Damage::from(&e))),
            }
        };
        prints.push(opened.print()?);
        if damage.is_some() {
            return Ok((prints, damage));
        }
    }
    Ok((prints, None))
}

fn read_all(reader: &Reader, sources: &[Source], read: &Arc<AtomicU64>) -> anyhow::Result<Option<Vec<Print>>> {
    let mut prints = Vec::new();
    for (number, source) in sources.iter().enumerate() {
        let mut opened = source.open(read)?;
        if !reader.send(Chunk::File(number)) {
            return Ok(None);
        }
        let ended = reader.read(&mut opened, false);
        if ended == Ended::Stopped {
            return Ok(None);
        }
        prints.push(opened.print()?);
        if ended == Ended::Cut {
            break;
        }
    }
    Ok(Some(prints))
}

/// Why a file is not read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Whole,
    Cut,
    /// Nobody listens any more.
    Stopped,
}

struct Reader {
    sender: SyncSender<Chunk>,
    spares: Receiver<Vec<u8>>,
    max_line_bytes: usize,
}

impl Reader {
    /// False: nobody listens any more.
    fn send(&self, chunk: Chunk) -> bool {
        self.sender.send(chunk).is_ok()
    }

    /// Reads one file to its end. `eager`: send lines as soon as they are there.
    fn read(&self, input: &mut dyn Read, eager: bool) -> Ended {
        let mut carried: Vec<u8> = Vec::new();
        loop {
            let mut bytes = self.spares.try_recv().unwrap_or_default();
            // Only what grows is zeroed; a buffer that comes back keeps its length.
            if bytes.len() < carried.len() + CHUNK_BYTES + PADDING {
                bytes.resize(carried.len() + CHUNK_BYTES + PADDING, 0);
            }
            let room = bytes.len() - PADDING;
            bytes[..carried.len()].copy_from_slice(&carried);
            let mut len = carried.len();
            let mut ended = None;
            while len < room && ended.is_none() {
                match input.read(&mut bytes[len..room]) {
                    Ok(0) => ended = Some(Ok(())),
                    Ok(n) => {
                        let has_line = eager && memchr::memchr(b'\n', &bytes[len..len + n]).is_some();
                        len += n;
                        if has_line {
                            break;
                        }
                    }
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => ended = Some(Err(e)),
                }
            }
            let whole = memchr::memrchr(b'\n', &bytes[..len]).map_or(0, |at| at + 1);
            let lines_end = if matches!(ended, Some(Ok(()))) { len } else { whole };
            carried.clear();
            carried.extend_from_slice(&bytes[lines_end..len]);
            bytes[lines_end..lines_end + PADDING].fill(0);
            if lines_end > 0 && !self.send(Chunk::Lines(Lines { bytes, len: lines_end })) {
                return Ended::Stopped;
            }
            match ended {
                Some(Ok(())) => return Ended::Whole,
                Some(Err(e)) => return self.cut(&e, carried.len() as u64),
                None => {}
            }
            if carried.len() > self.max_line_bytes {
                match self.skip_line(input, carried) {
                    Ok(rest) => carried = rest,
                    Err(ended) => return ended,
                }
            }
        }
    }

    fn cut(&self, error: &io::Error, lost: u64) -> Ended {
        if self.send(Chunk::Cut { damage: error.into(), lost }) { Ended::Cut } else { Ended::Stopped }
    }

    /// Skips the rest of the line that begins with `head`; what follows it in the last read is returned.
    fn skip_line(&self, input: &mut dyn Read, mut head: Vec<u8>) -> Result<Vec<u8>, Ended> {
        let mut len = head.len() as u64;
        head.truncate(KEPT_OF_LONG_LINE);
        let mut bytes = vec![0; CHUNK_BYTES];
        let rest = loop {
            match input.read(&mut bytes) {
                Ok(0) => break None,
                Ok(n) => match memchr::memchr(b'\n', &bytes[..n]) {
                    Some(at) => {
                        len += at as u64;
                        break Some(bytes[at + 1..n].to_vec());
                    }
                    None => len += n as u64,
                },
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.cut(&e, len)),
            }
        };
        if !self.send(Chunk::LongLine { head, len }) {
            return Err(Ended::Stopped);
        }
        rest.ok_or(Ended::Whole)
    }
}
