//! Compaction: the newest of each key stays with its offset, crashes or not.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use clickmill_broker::{Broker, EmbeddedLog, LogOptions, TopicSpec};
use clickmill_schemas::Offset;
use clickmill_schemas::record::RecordSetBuilder;

use crate::support::*;

fn open(dir: &Path, options: LogOptions) -> EmbeddedLog {
    let log = EmbeddedLog::open(dir, options).unwrap();
    log.create_topic(&TopicSpec { compact: true, ..TopicSpec::new("t", 1) }).unwrap();
    log
}

/// Batches of some records over `keys` keys, and some without a key.
fn fill(log: &EmbeddedLog, numbers: &mut Numbers, batches: u64, keys: u64) {
    for _ in 0..batches {
        let mut set = RecordSetBuilder::default();
        for _ in 0..=numbers.below(5) {
            let key = format!("key {}", numbers.below(keys));
            let (stamp, len) = (numbers.0, numbers.below(60) as usize);
            let value = format!("{key} {stamp} {}", "x".repeat(len));
            let key = (numbers.below(10) > 0).then_some(key.as_bytes());
            set.push(key, value.as_bytes(), 7);
        }
        log.append(&at(0), &set).unwrap().wait().unwrap();
    }
}

fn newest(rows: &[Row]) -> BTreeMap<Vec<u8>, Row> {
    rows.iter().filter_map(|row| row.1.clone().map(|key| (key, row.clone()))).collect()
}

#[test]
fn the_newest_of_each_key_and_all_without_a_key_stay_where_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), small(4_000));
    let mut numbers = Numbers(11);
    fill(&log, &mut numbers, 400, 20);
    let before = read_all(&log, &at(0)).unwrap();
    let ends = log.ends(&at(0)).unwrap();
    let active = segments(dir.path(), 0).pop().unwrap();
    let active_base: u64 = active.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let files = segments(dir.path(), 0).len();
    log.maintain().unwrap();
    assert!(segments(dir.path(), 0).len() < files / 2, "segments were not joined");
    for _ in 0..2 {
        let after = read_all(&log, &at(0)).unwrap();
        let last_sealed = newest(&before.iter().filter(|r| r.0 < active_base).cloned().collect::<Vec<_>>());
        let want: Vec<Row> = before
            .iter()
            .filter(|r| r.0 >= active_base || r.1.as_ref().is_none_or(|key| last_sealed[key].0 == r.0))
            .cloned()
            .collect();
        assert_eq!(after, want);
        assert!(after.len() < before.len() / 2);
        assert_eq!(log.ends(&at(0)).unwrap(), ends);
        log.maintain().unwrap();
    }
    for from in 0..ends.end.0 {
        let batches = log.fetch(&at(0), Offset(from), 500, NO_WAIT).unwrap();
        assert!(batches[0].base_offset.0 <= from && from < batches[0].next_offset().0, "{from}");
    }
    let expected = read_all(&log, &at(0)).unwrap();
    drop(log);
    let log = open(dir.path(), small(4_000));
    assert_eq!(read_all(&log, &at(0)).unwrap(), expected);
    let mut count = 0;
    assert!(
        log.last_batch_with(&at(0), &mut |b| {
            count += b.count;
            false
        })
        .unwrap()
        .is_none()
    );
    assert_eq!(count as usize, expected.len());
}

#[test]
fn nothing_at_or_above_the_floor_is_taken_out_until_the_floor_rises() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), small(2_000));
    log.keep_from(&at(0), Offset(300));
    fill(&log, &mut Numbers(12), 300, 5);
    let before = read_all(&log, &at(0)).unwrap();
    log.maintain().unwrap();
    let after = read_all(&log, &at(0)).unwrap();
    let above = |rows: &[Row]| rows.iter().filter(|r| r.0 >= 300).cloned().collect::<Vec<_>>();
    assert_eq!(above(&after), above(&before));
    assert!(after.len() < before.len() - 100);
    log.keep_from(&at(0), Offset(u64::MAX - 1));
    log.maintain().unwrap();
    let last = read_all(&log, &at(0)).unwrap();
    assert!(last.len() < after.len() / 2, "{} {}", last.len(), after.len());
    assert_eq!(newest(&last), newest(&before));
}

#[test]
fn with_room_for_few_keys_it_takes_more_passes_and_still_gets_there() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), LogOptions { compaction_keys: 7, ..small(2_000) });
    let mut numbers = Numbers(13);
    fill(&log, &mut numbers, 300, 50);
    let before = read_all(&log, &at(0)).unwrap();
    let mut len = before.len();
    for _ in 0..200 {
        log.maintain().unwrap();
        let rows = read_all(&log, &at(0)).unwrap();
        assert!(rows.len() <= len);
        assert_eq!(newest(&rows), newest(&before));
        len = rows.len();
    }
    assert!(len < before.len(), "nothing was taken out");
}

const KEYS: u64 = 2_500;

#[test]
#[ignore = "a process of its own, started and killed by the test below"]
fn compacts_until_killed() {
    let Some(dir) = child_dir() else { return };
    let log = open(&dir, small(3_000));
    let mut next = log.ends(&at(0)).unwrap().end.0;
    std::thread::scope(|s| {
        s.spawn(|| {
            loop {
                log.maintain().unwrap();
            }
        });
        loop {
            assert_eq!(append_numbered(&log, next), next);
            writeln!(std::io::stdout().lock(), "acknowledged {next}").unwrap();
            next += 1;
        }
    });
}

fn append_numbered(log: &EmbeddedLog, n: u64) -> u64 {
    let key = format!("key {}", n % KEYS);
    put(log, &at(0), Some(key.as_bytes()), format!("value {n}").as_bytes())
}

/// Runs the child for about `time`, kills it; the end of what it acknowledged.
fn compact_and_kill(dir: &Path, time: Duration) -> u64 {
    let mut child = child("compaction::compacts_until_killed", dir).stdout(Stdio::piped()).spawn().unwrap();
    let (mut end, mut kill_at) = (0, None);
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        let Some((_, offset)) = line.split_once("acknowledged ") else {
            continue;
        };
        end = offset.parse::<u64>().map_or(end, |offset| offset + 1);
        if Instant::now() >= *kill_at.get_or_insert(Instant::now() + time) {
            let _ = child.kill();
        }
    }
    child.wait().unwrap();
    end
}

#[test]
fn a_kill_in_the_middle_of_a_compaction_loses_no_newest_record() {
    let dir = tempfile::tempdir().unwrap();
    let (full, work) = (dir.path().join("full"), dir.path().join("work"));
    {
        // As much to compact as takes a while.
        let log = open(&full, small(3_000));
        let waiting: Vec<_> = (0..6_000u64)
            .map(|n| {
                let mut set = RecordSetBuilder::default();
                set.push(Some(format!("key {}", n % KEYS).as_bytes()), format!("value {n}").as_bytes(), 5);
                log.append(&at(0), &set).unwrap()
            })
            .collect();
        for appended in waiting {
            appended.wait().unwrap();
        }
    }
    let mut numbers = Numbers(u64::from(std::process::id()) | 1 << 40);
    println!("seed {}", numbers.0);
    let mut in_the_middle = 0;
    for kill in 0..20 {
        let _ = std::fs::remove_dir_all(&work);
        copy(&full, &work);
        let acknowledged = compact_and_kill(&work, Duration::from_micros(numbers.below(60_000)));
        // A segment's header says whether it was rewritten.
        let rewritten = |file: &PathBuf| std::fs::read(file).unwrap()[32..40] != [0xff; 8];
        let files = segments(&work, 0);
        let begun = files.iter().any(rewritten);
        in_the_middle += usize::from(begun && files.iter().filter(|f| !rewritten(f)).count() > 20);
        let log = open(&work, small(3_000));
        let end = log.ends(&at(0)).unwrap().end.0;
        assert!(end >= acknowledged.max(6_000), "kill {kill}: lost acknowledged records");
        let rows = read_all(&log, &at(0)).unwrap();
        for (offset, key, value) in &rows {
            assert_eq!(value, format!("value {offset}").as_bytes());
            assert_eq!(key.as_deref(), Some(format!("key {}", offset % KEYS).as_bytes()));
        }
        let newest = newest(&rows);
        for offset in end - KEYS..end {
            assert_eq!(newest[format!("key {}", offset % KEYS).as_bytes()].0, offset, "kill {kill}");
        }
        log.maintain().unwrap();
        assert!(read_all(&log, &at(0)).unwrap().len() < KEYS as usize + 200, "kill {kill}: not compacted afterwards");
    }
    println!("{in_the_middle} of 20 kills hit a pass half-way");
    assert!(in_the_middle > 0);
}
