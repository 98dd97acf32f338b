//! The embedded log's files, edited at will: what is read is what was written, or an error says that something is gone.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use clickmill_broker::{Broker, BrokerError, EmbeddedLog, LogOptions, TopicPartition, TopicSpec};
use clickmill_schemas::PartitionId;
use clickmill_schemas::record::{RecordSetBuilder, Records};
use tempfile::TempDir;

/// A record as read: offset, key, value.
type Row = (u64, Option<Vec<u8>>, Vec<u8>);

const TOPIC: &str = "t";
/// The mark that says what was durable; without it a torn end is taken for one that nobody was told of.
const MARK: &str = "synced";

/// A closed log: its files by their path within it, and the records of its only partition.
struct Template {
    files: Vec<(PathBuf, Vec<u8>)>,
    rows: Vec<Row>,
}

static TEMPLATE: LazyLock<Template> = LazyLock::new(|| {
    let dir = folder();
    let log = EmbeddedLog::open(dir.path(), options()).expect("a new log opens");
    log.create_topic(&TopicSpec::new(TOPIC, 1)).expect("a new topic is made");
    for batch in 0..7u8 {
        let mut set = RecordSetBuilder::default();
        for record in 0..=batch % 3 {
            // Long enough in some batches that they are stored compressed.
            let value = vec![b'a' + batch; if batch % 2 == 0 { 20 } else { 200 }];
            set.push(Some(&[batch, record]), &value, 1_413_849_600_000 + i64::from(batch));
        }
        log.append(&place(), &set).and_then(clickmill_broker::Appended::wait).expect("a batch is appended");
    }
    drop(log);
    let mut files = Vec::new();
    collect(dir.path(), dir.path(), &mut files);
    files.sort();
    let rows = read(dir.path()).expect("an untouched log reads");
    assert!(rows.len() == 13 && files.len() >= 5, "{files:?}");
    Template { files, rows }
});

/// Small segments, and no upkeep.
fn options() -> LogOptions {
    LogOptions { segment_bytes: 400, maintenance_interval: Duration::from_secs(3_600), ..LogOptions::default() }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder can be made")
}

fn place() -> TopicPartition {
    TopicPartition::new(TOPIC, PartitionId(0))
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(folder).expect("a folder lists") {
        let path = entry.expect("a folder lists").path();
        if path.is_dir() {
            collect(root, &path, files);
        } else if path.file_name().is_some_and(|name| name != "LOCK") {
            let bytes = fs::read(&path).expect("a file reads");
            files.push((path.strip_prefix(root).expect("below its root").to_owned(), bytes));
        }
    }
}

/// Opens the log and reads everything.
fn read(dir: &Path) -> Result<Vec<Row>, BrokerError> {
    let log = EmbeddedLog::open_read_only(dir)?;
    let ends = log.ends(&place())?;
    let (mut next, mut rows) = (ends.start, Vec::new());
    while next < ends.end {
        let batches = log.fetch(&place(), next, 1 << 20, Duration::ZERO)?;
        assert!(!batches.is_empty(), "nothing at {next}, though the end is {}", ends.end);
        for batch in batches {
            assert!(batch.base_offset == next && batch.next_offset() > next, "{batch:?} at {next}");
            let set = batch.records()?;
            let records: Result<Vec<_>, _> = Records::new(&set).and_then(Iterator::collect);
            for record in records.expect("a set whose checksum holds reads") {
                let offset = batch.base_offset.0 + record.offset_delta.unsigned_abs();
                rows.push((offset, record.key.map(<[u8]>::to_vec), record.value.to_vec()));
            }
            next = batch.next_offset();
        }
    }
    let last = log.last_batch_with(&place(), &mut |_| true)?;
    assert_eq!(last.map(|batch| batch.next_offset()), (!rows.is_empty()).then_some(ends.end));
    Ok(rows)
}

/// A script of edits, six bytes each: file, what to do, where (two bytes), with what, how often.
pub fn log_files(data: &[u8]) {
    let Template { files, rows } = &*TEMPLATE;
    let mut edited: Vec<Option<Vec<u8>>> = files.iter().map(|(_, bytes)| Some(bytes.clone())).collect();
    for edit in data.chunks_exact(6).take(8) {
        let [file, what, high, low, with, times] = *edit else { continue };
        let count = edited.len();
        apply(&mut edited, usize::from(file) % count, what, u16::from_be_bytes([high, low]).into(), with, times);
    }
    let dir = folder();
    let mut marked = true;
    for ((path, original), edited) in files.iter().zip(&edited) {
        if path.ends_with(MARK) {
            marked = edited.as_ref() == Some(original);
        }
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap_or(dir.path())).expect("a folder is made");
        if let Some(bytes) = edited {
            fs::write(path, bytes).expect("a file is written");
        }
    }
    let Ok(found) = read(dir.path()) else { return };
    if marked {
        assert_eq!(&found, rows, "a loss below the mark is an error");
    }
    // Without the mark something may be missing at either end. Nothing is wrong, and nothing between is.
    let first = found.first().map_or(0, |row| row.0 as usize);
    assert_eq!(Some(found.as_slice()), rows.get(first..first + found.len()));
    drop(EmbeddedLog::open(dir.path(), options()).expect("what can be read can be opened"));
    assert_eq!(read(dir.path()).expect("what was opened can be read"), found, "opening changes what is there");
}

fn apply(files: &mut [Option<Vec<u8>>], file: usize, what: u8, at: usize, with: u8, times: u8) {
    let other = files[usize::from(with) % files.len()].clone();
    let Some(bytes) = files[file].as_mut() else { return };
    let at = at % (bytes.len() + 1);
    let end = (at + usize::from(times)).min(bytes.len());
    match what % 8 {
        0 => bytes[at..end].iter_mut().take(1).for_each(|byte| *byte ^= with),
        1 => bytes[at..end].fill(with),
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..end)),
        4 => bytes.extend(vec![with; times.into()]),
        5 => bytes.extend_from_within(at..end),
        // Another file's contents, in place of these or behind them.
        6 => bytes.extend(other.into_iter().flatten()),
        _ => files[file] = other.filter(|_| times.is_multiple_of(2)),
    }
}
