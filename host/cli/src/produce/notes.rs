//! Notes of what was sent: a small file a source under `produced/` of the data directory.
//!
//! The topic itself says how far a source came, but knows it only by the hash of its contents. The notes say which files
//! a source was, so that a file is known again that has grown, was cut short then, or was sent together with others:
//! sending it would count rows twice. The decision is [`Notes::overlap`]; nothing here reads topics. Two processes that
//! send at the same time take turns by locks in the same folder, which a killed one leaves free.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::input::files::{Print, Source};

/// What was sent, or was about to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    pub source: u64,
    /// It decides which lines are rows, and so their numbers.
    pub max_line_bytes: usize,
    /// Partitions that its rows are spread over, however many the topic has got since: what was sent is found there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<u32>,
    pub files: Vec<FileNote>,
    /// The last file could not be read to its end.
    pub cut: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileNote {
    /// None for standard input.
    pub path: Option<PathBuf>,
    pub print: Print,
}

/// How a file has to do with one that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// It is the same, sent among others or in another order.
    Same,
    /// It begins with all of it.
    Grown,
    /// That one was cut short where this one goes on, or has its place.
    Mended,
}

impl Relation {
    /// What to tell who is about to send the file `name`.
    pub fn refusal(self, name: &str) -> String {
        let (what, remedy) = match self {
            Self::Same => ("was produced before, with other files or in another order", "leave it out"),
            Self::Grown => ("begins with a file that was produced before", "send what is new as a file of its own"),
            Self::Mended => (
                "was produced before up to where it was damaged; the rows of its last hour then got times that do not fit \
                 the whole file, so --resume cannot go on there",
                "begin with a fresh --data-dir",
            ),
        };
        format!("{name} {what}: {remedy}, or send everything once more with --again, which counts those rows twice")
    }
}

/// A lock, until it is dropped.
pub struct Turn(#[expect(dead_code, reason = "held, never read")] File);

/// The folder of notes.
pub struct Notes {
    dir: PathBuf,
}

impl Notes {
    pub fn new(data_dir: &Path) -> Self {
        Self { dir: data_dir.join("produced") }
    }

    /// Held while somebody decides whether to send something. Waits for who has it.
    ///
    /// # Errors
    /// Where there can be no lock.
    pub fn decide(&self) -> anyhow::Result<Turn> {
        let path = self.dir.join("lock");
        let locked = || -> io::Result<File> {
            let file = self.lock_file(&path)?;
            file.lock()?;
            Ok(file)
        };
        locked().map(Turn).with_context(|| format!("cannot lock {}", path.display()))
    }

    /// Held while a source is sent; none where another process is sending it.
    ///
    /// # Errors
    /// Where there can be no lock.
    pub fn turn(&self, source: u64) -> anyhow::Result<Option<Turn>> {
        let path = self.dir.join(format!("{source:016x}.lock"));
        let context = || format!("cannot lock {}", path.display());
        let file = self.lock_file(&path).with_context(context)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Turn(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(e).with_context(context),
        }
    }

    fn lock_file(&self, path: &Path) -> io::Result<File> {
        fs::create_dir_all(&self.dir)?;
        File::options().create(true).truncate(false).write(true).open(path)
    }

    /// The note of a source.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn of(&self, source: u64) -> anyhow::Result<Option<Note>> {
        let path = self.path(source);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).with_context(|| unreadable(&path))?)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| unreadable(&path)),
        }
    }

    /// Writes a note, durable before this returns: no row may be in a topic that no note knows of.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self, note: &Note) -> anyhow::Result<()> {
        let path = self.path(note.source);
        let new = path.with_extension("new");
        let write = || -> io::Result<()> {
            fs::create_dir_all(&self.dir)?;
            fs::write(&new, serde_json::to_vec(note)?)?;
            File::open(&new)?.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.dir)?.sync_all()
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// Files of `sources` that other sources had, wholly or in part, with those.
    ///
    /// # Errors
    /// Where notes or files cannot be read.
    pub fn overlap(
        &self,
        source: u64,
        sources: &[Source],
        prints: &[Print],
    ) -> anyhow::Result<Vec<(u64, Relation, String)>> {
        let mut found = Vec::new();
        for note in self.all()?.into_iter().filter(|note| note.source != source) {
            for (at, file) in note.files.iter().enumerate() {
                let was_cut = note.cut && at + 1 == note.files.len();
                for (ours, print) in sources.iter().zip(prints) {
                    if let Some(relation) = relation(file, was_cut, ours, *print)? {
                        found.push((note.source, relation, ours.name.clone()));
                    }
                }
            }
        }
        Ok(found)
    }

    fn all(&self) -> anyhow::Result<Vec<Note>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.with_context(|| unreadable(&self.dir))?,
        };
        let mut notes = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".json"));
            if let Some(source) = name.and_then(|n| u64::from_str_radix(n, 16).ok()) {
                notes.extend(self.of(source)?);
            }
        }
        Ok(notes)
    }

    fn path(&self, source: u64) -> PathBuf {
        self.dir.join(format!("{source:016x}.json"))
    }
}

fn unreadable(path: &Path) -> String {
    format!("cannot read {}, which says what was produced before", path.display())
}

fn relation(sent: &FileNote, was_cut: bool, ours: &Source, print: Print) -> anyhow::Result<Option<Relation>> {
    if sent.print == print {
        // Nothing can be sent twice of an empty file.
        return Ok((print.bytes > 0).then_some(Relation::Same));
    }
    let begins_with_it = || -> anyhow::Result<bool> {
        let bytes = sent.print.bytes;
        Ok((1..print.bytes).contains(&bytes) && ours.print_of_first(bytes)? == sent.print)
    };
    let in_its_place = was_cut && sent.path.is_some() && sent.path == ours.full_path();
    Ok(match in_its_place || begins_with_it()? {
        true if was_cut => Some(Relation::Mended),
        true => Some(Relation::Grown),
        false => None,
    })
}
