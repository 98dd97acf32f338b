//! Compaction: the newest of each key stays with its offset, crashes or not.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use clickmill_broker::{Broker, EmbeddedLog, LogOptions, TopicSpec};
use clickmill_schemas::Offset;
use clickmill_schemas::record::RecordSetBuilder;

use crate::support::*;

fn open(dir: &std::path::Path, options: LogOptions) -> EmbeddedLog {
    let log = EmbeddedLog::open(dir, options).unwrap();
    log.create_topic(&TopicSpec {
        compact: true,
        ..TopicSpec::new("t", 1)
    })
    .unwrap();
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
    rows.iter()
        .filter_map(|row| row.1.clone().map(|key| (key, row.clone())))
        .collect()
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
    let active_base: u64 = active
        .file_stem()
        .unwrap()
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let files = segments(dir.path(), 0).len();
    log.maintain().unwrap();
    assert!(
        segments(dir.path(), 0).len() < files / 2,
        "segments were not joined"
    );
    for _ in 0..2 {
        let after = read_all(&log, &at(0)).unwrap();
        let last_sealed = newest(
            &before
                .iter()
                .filter(|r| r.0 < active_base)
                .cloned()
                .collect::<Vec<_>>(),
        );
        let want: Vec<Row> = before
            .iter()
            .filter(|r| {
                r.0 >= active_base || r.1.as_ref().is_none_or(|key| last_sealed[key].0 == r.0)
            })
            .cloned()
            .collect();
        assert_eq!(after, want);
        assert!(after.len() < before.len() / 2);
        assert_eq!(log.ends(&at(0)).unwrap(), ends);
        log.maintain().unwrap();
    }
    for from in 0..ends.end.0 {
        let batches = log.fetch(&at(0), Offset(from), 500, NO_WAIT).unwrap();
        assert!(
            batches[0].base_offset.0 <= from && from < batches[0].next_offset().0,
            "{from}"
        );
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
    let above = |rows: &[Row]| {
        rows.iter()
            .filter(|r| r.0 >= 300)
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(above(&after), above(&before));
    assert!(after.len() < before.len() - 100);
    log.keep_from(&at(0), Offset(u64::MAX - 1));
    log.maintain().unwrap();
    let last = read_all(&log, &at(0)).unwrap();
    assert!(
        last.len() < after.len() / 2,
        "{} {}",
        last.len(),
        after.len()
    );
    assert_eq!(newest(&last), newest(&before));
}

#[test]
fn with_room_for_few_keys_it_takes_more_passes_and_still_gets_there() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(
        dir.path(),
        LogOptions {
            compaction_keys: 7,
            ..small(2_000)
        },
    );
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
            let key = format!("key {}", next % 37);
            let offset = put(
                &log,
                &at(0),
                Some(key.as_bytes()),
                format!("value {next}").as_bytes(),
            );
            assert_eq!(offset, next);
            next += 1;
            writeln!(std::io::stdout().lock(), "acknowledged {offset}").unwrap();
        }
    });
}

#[test]
fn a_kill_in_the_middle_of_a_compaction_loses_no_newest_record() {
    let dir = tempfile::tempdir().unwrap();
    let mut numbers = Numbers(u64::from(std::process::id()) | 1 << 40);
    println!("seed {}", numbers.0);
    let mut left_overs = 0;
    for kill in 0..20 {
        let mut child = child("compaction::compacts_until_killed", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let time = Duration::from_micros(20_000 + numbers.below(80_000));
        let (mut end, mut kill_at) = (0, None);
        for line in BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok)
        {
            let Some((_, offset)) = line.split_once("acknowledged ") else {
                continue;
            };
            end = offset.parse::<u64>().map_or(end, |offset| offset + 1);
            if Instant::now() >= *kill_at.get_or_insert(Instant::now() + time) {
                let _ = child.kill();
            }
        }
        child.wait().unwrap();
        let names = std::fs::read_dir(dir.path().join("t/0")).unwrap();
        left_overs += names
            .filter(|e| {
                e.as_ref()
                    .unwrap()
                    .path()
                    .extension()
                    .is_some_and(|e| e == "tmp")
            })
            .count();
        let log = open(dir.path(), small(3_000));
        assert!(
            end > 0 && log.ends(&at(0)).unwrap().end.0 >= end,
            "kill {kill}: lost acknowledged records"
        );
        let end = log.ends(&at(0)).unwrap().end.0;
        let rows = read_all(&log, &at(0)).unwrap();
        for (offset, key, value) in &rows {
            assert_eq!(value, format!("value {offset}").as_bytes());
            assert_eq!(
                key.as_deref(),
                Some(format!("key {}", offset % 37).as_bytes())
            );
        }
        let newest = newest(&rows);
        for offset in end.saturating_sub(37)..end {
            assert_eq!(
                newest[format!("key {}", offset % 37).as_bytes()].0,
                offset,
                "kill {kill}"
            );
        }
        assert!(
            rows.len() as u64 * 2 < end || end < 500,
            "nothing was compacted: {} of {end}",
            rows.len()
        );
    }
    println!("{left_overs} unfinished files were left behind and removed");
}
