//! Opening what `produce` and `profile` are given: plain or gzip files, of CSV or of JSON lines, and standard input.

use std::fs::File;
use std::hash::Hasher as _;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use flate2::bufread::MultiGzDecoder;
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

/// One file to read, as often as wanted.
#[derive(Clone, Debug)]
pub struct Source {
    path: PathBuf,
    /// As the user named it: for messages.
    pub name: String,
}

impl Source {
    /// A file on disk.
    pub fn file(path: &Path) -> Self {
        Self { path: path.to_owned(), name: path.display().to_string() }
    }

    /// Keeps all of standard input in `spool`, since it cannot be read twice.
    ///
    /// # Errors
    /// Where it cannot be read or kept.
    pub fn spooled(input: &mut dyn Read, spool: &Path) -> anyhow::Result<Self> {
        let mut file = File::create(spool).with_context(|| format!("cannot create {}", spool.display()))?;
        io::copy(input, &mut file).with_context(|| format!("cannot keep standard input in {}", spool.display()))?;
        file.flush()?;
        Ok(Self { path: spool.to_owned(), name: "standard input".to_owned() })
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
        let raw = Hashing { file, hasher: XxHash3_64::new(), len: 0, read: Arc::clone(read) };
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
    Plain(Box<BufReader<Hashing>>),
    Gzip(Box<MultiGzDecoder<BufReader<Hashing>>>),
}

impl Opened {
    /// Reads what is left on disk and returns the hash and the number of all its bytes.
    ///
    /// # Errors
    /// Where the rest cannot be read.
    pub fn fingerprint(self) -> io::Result<(u64, u64)> {
        let mut raw = match self {
            Self::Plain(reader) => reader.into_inner(),
            Self::Gzip(decoder) => decoder.into_inner().into_inner(),
        };
        io::copy(&mut raw, &mut io::sink())?;
        Ok((raw.hasher.finish(), raw.len))
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
pub struct Hashing {
    file: File,
    hasher: XxHash3_64,
    len: u64,
    read: Arc<AtomicU64>,
}

impl Read for Hashing {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buf)?;
        self.hasher.write(&buf[..n]);
        self.len += n as u64;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}
