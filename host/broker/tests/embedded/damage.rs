//! Damaged files: what was never acknowledged is cut, what was is never lost silently.

use std::fs;
use std::path::Path;

use clickmill_broker::{Broker, BrokerError, EmbeddedLog, LogOptions};

use crate::support::*;

/// Opens and reads everything of partition 0.
fn outcome(dir: &Path) -> Result<Vec<Row>, BrokerError> {
    let log = EmbeddedLog::open(dir, small(1 << 20))?;
    let rows = read_all(&log, &at(0))?;
    let next = put(&log, &at(0), None, b"and on it goes");
    assert_eq!(next, rows.last().map_or(0, |(offset, _, _)| offset + 1));
    Ok(rows)
}

/// A closed log: batches of one record, each synced before the next.
fn filled(dir: &Path, values: &[&[u8]], segment_bytes: u64) -> Vec<Row> {
    let log = log(dir, 1, segment_bytes);
    for value in values {
        put(&log, &at(0), None, value);
    }
    read_all(&*log, &at(0)).unwrap()
}

fn assert_names_the_place(error: &BrokerError, file: &Path) {
    match error {
        BrokerError::Corrupt { at, file: named, .. } => {
            assert_eq!((&*at.topic, at.partition.0), ("t", 0));
            assert_eq!(named, file);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_tail_cut_at_any_byte_keeps_all_whole_batches_before_it_and_invents_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let all = filled(&dir.path().join("whole"), &[b"one", b"two two", b"three"], 1 << 20);
    let tail = &segments(&dir.path().join("whole"), 0)[0];
    let bytes = fs::read(tail).unwrap();
    let mut seen = [false; 4];
    for cut in 64..=bytes.len() {
        let copied = dir.path().join(format!("cut{cut}"));
        copy(&dir.path().join("whole"), &copied);
        let file = &segments(&copied, 0)[0];
        fs::write(file, &bytes[..cut]).unwrap();
        // With the mark, a cut is a loss and said so.
        if cut < bytes.len() {
            assert_names_the_place(&outcome(&copied).unwrap_err(), file);
            assert_eq!(fs::read(file).unwrap(), &bytes[..cut], "a damaged file was changed");
        }
        // Without it, as after a crash of the machine before anything was synced, it is a torn tail.
        fs::remove_file(mark_file(&copied, 0)).unwrap();
        let rows = outcome(&copied).unwrap();
        assert_eq!(rows, all[..rows.len()]);
        seen[rows.len()] = true;
        fs::remove_dir_all(&copied).unwrap();
    }
    assert_eq!(seen, [true; 4]);
}

#[test]
fn every_flipped_byte_of_a_sealed_segment_is_detected() {
    let dir = tempfile::tempdir().unwrap();
    let values: Vec<Vec<u8>> = (0..6u8).map(|n| vec![n; 40 + n as usize]).collect();
    let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
    let all = filled(dir.path(), &values, 300);
    let files = segments(dir.path(), 0);
    assert!(files.len() >= 3);
    for file in &files[..2] {
        let bytes = fs::read(file).unwrap();
        for position in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[position] ^= 1 << (position % 8);
            fs::write(file, &bad).unwrap();
            let opened = EmbeddedLog::open_read_only(dir.path());
            let error = opened.and_then(|log| read_all(&log, &at(0))).expect_err("a flipped byte went unnoticed");
            assert_names_the_place(&error, file);
        }
        fs::write(file, &bytes).unwrap();
    }
    assert_eq!(outcome(dir.path()).unwrap(), all);
}

#[test]
fn every_flipped_byte_of_the_last_segment_is_detected_at_open() {
    let dir = tempfile::tempdir().unwrap();
    let all = filled(dir.path(), &[b"one", b"two two", b"three"], 1 << 20);
    let file = &segments(dir.path(), 0)[0];
    let bytes = fs::read(file).unwrap();
    let flipped = |position: usize| {
        let mut bad = bytes.clone();
        bad[position] ^= 1 << (position % 8);
        fs::write(file, &bad).unwrap();
        EmbeddedLog::open_read_only(dir.path())
    };
    for position in 0..bytes.len() {
        assert_names_the_place(&flipped(position).unwrap_err(), file);
    }
    // Without the mark, later frames are proof for all but the last one.
    fs::remove_file(mark_file(dir.path(), 0)).unwrap();
    let last_frame = bytes.len() - (bytes.windows(4).rev().position(|w| w == b"CMfr").unwrap() + 4);
    for position in 0..last_frame {
        assert_names_the_place(&flipped(position).unwrap_err(), file);
    }
    for position in last_frame..bytes.len() {
        let log = flipped(position).unwrap();
        assert_eq!(read_all(&log, &at(0)).unwrap(), all[..2]);
    }
}

#[test]
fn what_a_crash_may_leave_behind_the_last_batch_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let all = filled(&dir.path().join("whole"), &[b"one", b"two"], 1 << 20);
    let mut numbers = Numbers(7);
    let noise: Vec<u8> = (0..3_000).map(|_| numbers.below(256) as u8).collect();
    let file = &segments(&dir.path().join("whole"), 0)[0];
    let frame = fs::read(file).unwrap()[64..].to_vec(); // whole frames, but of other offsets
    for (n, tail) in [vec![0; 5_000], noise, b"CMfr".repeat(100), frame].iter().enumerate() {
        let copied = dir.path().join(n.to_string());
        copy(&dir.path().join("whole"), &copied);
        let file = &segments(&copied, 0)[0];
        let mut bytes = fs::read(file).unwrap();
        bytes.extend_from_slice(tail);
        fs::write(file, bytes).unwrap();
        assert_eq!(outcome(&copied).unwrap(), all, "tail {n}");
        assert_eq!(EmbeddedLog::open(&copied, LogOptions::default()).unwrap().ends(&at(0)).unwrap().end.0, 3);
    }
}

#[test]
fn a_missing_segment_is_reported_wherever_it_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let values: Vec<Vec<u8>> = (0..8u8).map(|n| vec![n; 100]).collect();
    let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
    filled(&dir.path().join("whole"), &values, 300);
    let count = segments(&dir.path().join("whole"), 0).len();
    assert!(count >= 4);
    for missing in 0..count {
        let copied = dir.path().join(missing.to_string());
        copy(&dir.path().join("whole"), &copied);
        let file = &segments(&copied, 0)[missing];
        fs::remove_file(file).unwrap();
        let error = outcome(&copied).unwrap_err();
        assert!(matches!(error, BrokerError::Corrupt { .. }), "{missing}: {error}");
        if missing + 1 < count {
            assert_names_the_place(&error, file);
        }
    }
}

#[test]
fn a_sealed_segment_that_ends_early_is_reported_when_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let values: Vec<Vec<u8>> = (0..6u8).map(|n| vec![n; 100]).collect();
    let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
    filled(dir.path(), &values, 400);
    let file = &segments(dir.path(), 0)[0];
    let bytes = fs::read(file).unwrap();
    for cut in 64..bytes.len() {
        fs::write(file, &bytes[..cut]).unwrap();
        let log = EmbeddedLog::open_read_only(dir.path()).unwrap();
        assert_names_the_place(&read_all(&log, &at(0)).unwrap_err(), file);
        assert_names_the_place(&log.last_batch_with(&at(0), &mut |_| false).unwrap_err(), file);
    }
}
