//! Opening what `produce` and `profile` are given: plain or gzip files, of CSV or of JSON lines, and standard input.

use std::fs::File;
use std::hash::Hasher as _;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use flate2::bufread::MultiGzDecoder;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::exit::mistake;

/// Bytes read from a file at a time.
const READ_BYTES: usize = 256 * 1024;

/// What the lines of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    Csv,
    Jsonl,
}

/// Which bytes a file has on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Print {
    pub bytes: u64,
    pub hash: u64,
}

impl Print {
    /// One number for several files, in their order.
    pub fn of_all(prints: &[Self]) -> u64 {
        let bytes: Vec<u8> =
            prints.iter().flat_map(|p| [p.hash.to_be_bytes(), p.bytes.to_be_bytes()]).flatten().collect();
        XxHash3_64::oneshot(&bytes)
    }
}

/// One file to read, as often as wanted.
#[derive(Clone, Debug)]
pub struct Source {
    path: PathBuf,
    /// As the user named it: for messages.
    pub name: String,
    /// What was read from standard input is not there any more.
    spooled: bool,
}

impl Source {
    /// A file on disk.
    pub fn file(path: &Path) -> Self {
        Self { path: path.to_owned(), name: path.display().to_string(), spooled: false }
    }

    /// Keeps all of standard input in `spool`, since it cannot be read twice.
    ///
    /// # Errors
    /// Where it cannot be read or kept.
    pub fn spooled(input: &mut dyn Read, spool: &Path) -> anyhow::Result<Self> {
        let mut file = File::create(spool).with_context(|| format!("cannot create {}", spool.display()))?;
        io::copy(input, &mut file).with_context(|| format!("cannot keep standard input in {}", spool.display()))?;
        file.flush()?;
        Ok(Self { path: spool.to_owned(), name: "standard input".to_owned(), spooled: true })
    }

    /// By the name: `.csv`, `.jsonl`, `.ndjson`, each with or without `.gz`.
    pub fn kind(&self) -> Option<Kind> {
        let name = self.path.file_name()?.to_str()?.to_ascii_lowercase();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        match name.rsplit_once('.') {
            Some((_, "csv")) => Some(Kind::Csv),
            Some((_, "jsonl" | "ndjson")) => Some(Kind::Jsonl),
            // Kaggle's own name of the data set is train.gz.
            _ => name.eq("train").then_some(Kind::Csv),
        }
    }

    /// By the first byte that is not white space: JSON lines begin with a brace.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn sniff(&self) -> anyhow::Result<Kind> {
        let mut head = Vec::new();
        let mut opened = self.open(&Arc::default())?;
        // A damaged head is reported when the file is read in earnest.
        let _ = opened.by_ref().take(4096).read_to_end(&mut head);
        let first = head.iter().find(|b| !b.is_ascii_whitespace());
        Ok(if first == Some(&b'{') { Kind::Jsonl } else { Kind::Csv })
    }

    /// Where it lies, whatever the working directory; none for standard input.
    pub fn full_path(&self) -> Option<PathBuf> {
        if self.spooled { None } else { self.path.canonicalize().ok() }
    }

    /// The print of its first bytes on disk.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn print_of_first(&self, bytes: u64) -> anyhow::Result<Print> {
        let file = File::open(&self.path).with_context(|| self.name.clone())?;
        let mut reader = BufReader::with_capacity(READ_BYTES, Hashing::new(file.take(bytes), Arc::default()));
        io::copy(&mut reader, &mut io::sink()).with_context(|| self.name.clone())?;
        Ok(reader.into_inner().print())
    }

    /// Bytes on disk.
    ///
    /// # Errors
    /// A mistake where there is no such file, or it cannot be read twice.
    pub fn bytes(&self) -> anyhow::Result<u64> {
        let found = self.path.metadata().map_err(|e| mistake(format!("{}: {e}", self.name)))?;
        if !found.is_file() {
            let name = &self.name;
            return Err(mistake(format!("{name} is not a file; to read from a pipe, give `-` and pipe it in")));
        }
        Ok(found.len())
    }

    /// Opens it at its beginning; `read` counts the bytes on disk as they are read.
    ///
    /// # Errors
    /// A mistake where it cannot be opened.
    pub fn open(&self, read: &Arc<AtomicU64>) -> anyhow::Result<Opened> {
        let mut file = File::open(&self.path).map_err(|e| mistake(format!("{}: {e}", self.name)))?;
        let mut magic = [0; 2];
        let is_gzip = match file.read_exact(&mut magic) {
            Ok(()) => magic == [0x1f, 0x8b],
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => false,
            Err(e) => return Err(mistake(format!("{}: {e}", self.name))),
        };
        file.seek(SeekFrom::Start(0)).with_context(|| self.name.clone())?;
        let raw = Hashing::new(file, Arc::clone(read));
        let buffered = BufReader::with_capacity(READ_BYTES, raw);
        Ok(if is_gzip {
            Opened::Gzip(Box::new(MultiGzDecoder::new(buffered)))
        } else {
            Opened::Plain(Box::new(buffered))
        })
    }
}

/// An open file.
pub enum Opened {
    Plain(Box<BufReader<Hashing<File>>>),
    Gzip(Box<MultiGzDecoder<BufReader<Hashing<File>>>>),
}

impl Opened {
    /// Reads what is left on disk and returns the print of all of it.
    ///
    /// # Errors
    /// Where the rest cannot be read.
    pub fn print(self) -> io::Result<Print> {
        let mut raw = match self {
            Self::Plain(reader) => reader.into_inner(),
            Self::Gzip(decoder) => decoder.into_inner().into_inner(),
        };
        io::copy(&mut raw, &mut io::sink())?;
        Ok(raw.print())
    }
}

impl Read for Opened {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(reader) => reader.read(buf),
            Self::Gzip(decoder) => decoder.read(buf),
        }
    }
}

/// A file that is hashed as it is read.
pub struct Hashing<R> {
    file: R,
    hasher: XxHash3_64,
    len: u64,
    read: Arc<AtomicU64>,
}

impl<R> Hashing<R> {
    fn new(file: R, read: Arc<AtomicU64>) -> Self {
        Self { file, hasher: XxHash3_64::new(), len: 0, read }
    }

    fn print(&self) -> Print {
        Print { bytes: self.len, hash: self.hasher.finish() }
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buf)?;
        self.hasher.write(&buf[..n]);
        self.len += n as u64;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}
