//! Retention by age and by bytes, and the floor that it keeps to.

use std::time::Duration;

use clickmill_broker::{Broker, BrokerError, EmbeddedLog, Retention, TopicSpec};
use clickmill_schemas::Offset;

use crate::support::*;

fn spec(retention: Retention) -> TopicSpec {
    TopicSpec { retention, ..TopicSpec::new("t", 1) }
}

fn by_bytes(max_bytes: u64) -> TopicSpec {
    spec(Retention { max_age: None, max_bytes: Some(max_bytes) })
}

fn fill(log: &EmbeddedLog, from: u64, to: u64) {
    let mut numbers = Numbers(3);
    for n in from..to {
        let noise: Vec<u8> = (0..100).map(|_| numbers.below(256) as u8).collect();
        assert_eq!(put(log, &at(0), None, &noise), n);
    }
}

#[test]
fn the_oldest_segments_go_when_there_are_too_many_bytes_and_stay_gone_after_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path(), small(1_000)).unwrap();
    log.create_topic(&by_bytes(3_000)).unwrap();
    fill(&log, 0, 50);
    let before = segments(dir.path(), 0).len();
    log.maintain().unwrap();
    let files = segments(dir.path(), 0);
    assert!(files.len() < before && files.len() >= 3, "{before} -> {}", files.len());
    let bytes: u64 = files.iter().map(|f| f.metadata().unwrap().len()).sum();
    assert!((2_000..=3_000).contains(&bytes), "{bytes}");
    assert_eq!(log.stored_bytes(&at(0)).unwrap(), Some(bytes));
    let start = log.ends(&at(0)).unwrap().start;
    assert!(start > Offset(0));
    let below = log.fetch(&at(0), Offset(0), MUCH, NO_WAIT);
    assert!(matches!(below, Err(BrokerError::OffsetOutOfRange { start: s, .. }) if s == start), "{below:?}");
    assert_eq!(read_all(&log, &at(0)).unwrap().len() as u64, 50 - start.0);
    drop(log);
    let log = EmbeddedLog::open(dir.path(), small(1_000)).unwrap();
    assert_eq!(log.ends(&at(0)).unwrap().start, start);
    fill(&log, 50, 60);
}

#[test]
fn records_go_by_age_even_from_a_segment_that_never_filled_up() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path(), small(1 << 20)).unwrap();
    log.create_topic(&spec(Retention { max_age: Some(Duration::from_millis(200)), max_bytes: None })).unwrap();
    fill(&log, 0, 5);
    log.maintain().unwrap();
    assert_eq!(log.ends(&at(0)).unwrap().start, Offset(0));
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(250));
        log.maintain().unwrap();
    }
    let ends = log.ends(&at(0)).unwrap();
    assert_eq!((ends.start, ends.end), (Offset(5), Offset(5)));
    fill(&log, 5, 7);
    assert_eq!(read_all(&log, &at(0)).unwrap().len(), 2);
}

#[test]
fn nothing_at_or_above_the_floor_goes_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path(), small(1_000)).unwrap();
    log.create_topic(&by_bytes(1_000)).unwrap();
    log.keep_from(&at(0), Offset(20));
    fill(&log, 0, 50);
    log.maintain().unwrap();
    let start = log.ends(&at(0)).unwrap().start;
    assert!(start > Offset(10) && start <= Offset(20), "{start}");
    drop(log);
    let log = EmbeddedLog::open(dir.path(), small(1_000)).unwrap();
    log.maintain().unwrap();
    assert_eq!(log.ends(&at(0)).unwrap().start, start, "the floor was forgotten");
    log.keep_from(&at(0), Offset(45));
    log.maintain().unwrap();
    let start = log.ends(&at(0)).unwrap().start;
    assert!(start > Offset(35) && start <= Offset(45), "{start}");
}

#[test]
fn a_reader_that_falls_behind_retention_is_told_and_one_in_front_is_not_disturbed() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path(), small(1_000)).unwrap();
    log.create_topic(&by_bytes(5_000)).unwrap();
    std::thread::scope(|s| {
        let reader = s.spawn(|| {
            let mut next = Offset(0);
            while next < Offset(400) {
                match log.fetch(&at(0), next, 300, Duration::from_secs(10)) {
                    Ok(batches) => next = batches.last().unwrap().next_offset(),
                    Err(BrokerError::OffsetOutOfRange { start, .. }) if start > next => next = start,
                    Err(e) => panic!("{e}"),
                }
            }
        });
        for n in 0..40 {
            fill(&log, n * 10, n * 10 + 10);
            log.maintain().unwrap();
        }
        reader.join().unwrap();
    });
}
