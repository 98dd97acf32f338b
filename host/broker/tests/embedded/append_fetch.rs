//! Appending, fetching, waiting, backpressure.

use std::time::{Duration, Instant};

use clickmill_broker::{Broker, BrokerError, EmbeddedLog, LogOptions, TopicSpec};
use clickmill_schemas::Offset;
use clickmill_schemas::record::RecordSetBuilder;

use crate::support::*;

#[test]
fn what_is_appended_is_read_back_in_order_over_many_segments_and_after_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    {
        let log = log(dir.path(), 2, 2_000);
        for n in 0..300u64 {
            let values: Vec<String> =
                (0..n % 5 + 1).map(|i| format!("value {n}/{i} {}", "x".repeat(n as usize))).collect();
            let base = log.append(&at(1), &set(&values)).unwrap().wait().unwrap();
            assert_eq!(base.0, expected.len() as u64);
            expected.extend(values.into_iter().map(String::into_bytes));
            assert_eq!(log.ends(&at(1)).unwrap().end.0, expected.len() as u64);
        }
        assert!(segments(dir.path(), 1).len() > 5);
    }
    let log = log(dir.path(), 2, 2_000);
    for from in [0, 1, 7, 450, expected.len() as u64 - 1] {
        let got = read_from(&*log, &at(1), Offset(from)).unwrap();
        let want = expected.iter().enumerate().skip(from as usize).map(|(n, v)| (n as u64, None, v.clone()));
        assert!(got.into_iter().eq(want), "from {from}");
    }
    assert_eq!(read_all(&*log, &at(0)).unwrap(), []);
}

#[test]
fn a_fetch_in_the_middle_of_a_batch_gives_the_batch_that_contains_the_offset() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(dir.path(), 1, 1 << 20);
    for _ in 0..3 {
        log.append(&at(0), &set(["a", "b", "c", "d"])).unwrap().wait().unwrap();
    }
    for offset in 0..12 {
        let batches = log.fetch(&at(0), Offset(offset), MUCH, NO_WAIT).unwrap();
        assert_eq!(batches[0].base_offset.0, offset / 4 * 4);
        assert_eq!(batches.len() as u64, 3 - offset / 4);
        assert_eq!(batches[0].base_timestamp_ms, 1_000);
    }
}

#[test]
fn a_fetch_takes_as_much_as_it_may_and_at_least_one_batch() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(dir.path(), 1, 1 << 20);
    let mut numbers = Numbers(99);
    for _ in 0..10 {
        let noise: Vec<u8> = (0..1_000).map(|_| numbers.below(256) as u8).collect();
        log.append(&at(0), &set([noise])).unwrap().wait().unwrap();
    }
    let count = |max| log.fetch(&at(0), Offset(3), max, NO_WAIT).unwrap().len();
    assert_eq!(count(0), 1);
    assert_eq!(count(1_050), 1);
    assert_eq!(count(2_500), 2);
    assert_eq!(count(usize::MAX), 7);
}

#[test]
fn a_fetch_at_the_end_waits_for_the_next_batch_and_gives_up_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(dir.path(), 1, 1 << 20);
    put(&log, &at(0), None, b"first");
    let begun = Instant::now();
    assert!(log.fetch(&at(0), Offset(1), MUCH, Duration::from_millis(30)).unwrap().is_empty());
    assert!(begun.elapsed() >= Duration::from_millis(30));
    std::thread::scope(|s| {
        let waiting = s.spawn(|| log.fetch(&at(0), Offset(1), MUCH, Duration::from_secs(60)).unwrap());
        std::thread::sleep(Duration::from_millis(20));
        put(&log, &at(0), None, b"second");
        assert_eq!(rows(&waiting.join().unwrap()[0]), [(1, None, b"second".to_vec())]);
    });
    match log.fetch(&at(0), Offset(3), MUCH, NO_WAIT) {
        Err(BrokerError::OffsetOutOfRange { asked, start, end, .. }) => {
            assert_eq!((asked, start, end), (Offset(3), Offset(0), Offset(2)));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn closing_makes_durable_what_was_appended_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(dir.path(), 1, 1 << 20);
    let appended: Vec<_> = (0..50).map(|n| log.append(&at(0), &set([[n; 100]])).unwrap()).collect();
    log.close();
    for (n, appended) in appended.into_iter().enumerate() {
        assert_eq!(appended.wait().unwrap().0, n as u64);
    }
    let again = EmbeddedLog::open(dir.path(), LogOptions::default()).unwrap();
    assert_eq!(read_all(&again, &at(0)).unwrap().len(), 50);
}

#[test]
fn closing_wakes_who_waits_for_more_and_refuses_appends() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(dir.path(), 1, 1 << 20);
    put(&log, &at(0), None, b"kept");
    std::thread::scope(|s| {
        let waiting = s.spawn(|| log.fetch(&at(0), Offset(1), MUCH, Duration::from_secs(60)));
        std::thread::sleep(Duration::from_millis(20));
        log.close();
        assert!(waiting.join().unwrap().unwrap().is_empty());
    });
    assert!(matches!(log.append(&at(0), &set(["late"])), Err(BrokerError::Closed)));
    let again = EmbeddedLog::open(dir.path(), LogOptions::default()).unwrap();
    assert_eq!(read_all(&again, &at(0)).unwrap(), [(0, None, b"kept".to_vec())]);
}

#[test]
fn too_many_bytes_in_flight_are_refused_by_try_append_and_waited_for_by_append() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { max_in_flight_bytes: 1_000, ..small(1 << 20) };
    let log = EmbeddedLog::open(dir.path(), options).unwrap();
    log.create_topic(&TopicSpec::new("t", 1)).unwrap();
    let batch = set([[7u8; 900]]);
    let mut accepted = 0;
    let busy = (0..10_000).find_map(|_| match log.try_append(&at(0), &batch) {
        Ok(_) => {
            accepted += 1;
            None
        }
        Err(e) => Some(e),
    });
    assert!(matches!(busy, Some(BrokerError::Busy { in_flight_bytes: 900.., limit_bytes: 1_000, .. })), "{busy:?}");
    for _ in 0..20 {
        let appended = log.append(&at(0), &batch).unwrap();
        accepted += 1;
        drop(appended);
    }
    log.append(&at(0), &batch).unwrap().wait().unwrap();
    assert_eq!(log.ends(&at(0)).unwrap().end.0, accepted + 1);
}

#[test]
fn empty_and_oversized_sets_and_unknown_places_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { max_batch_bytes: 100, ..small(1 << 20) };
    let log = EmbeddedLog::open(dir.path(), options).unwrap();
    log.create_topic(&TopicSpec::new("t", 1)).unwrap();
    let refused = |set: &RecordSetBuilder| matches!(log.append(&at(0), set), Err(BrokerError::BadBatch { .. }));
    assert!(refused(&RecordSetBuilder::default()));
    assert!(refused(&set([[0u8; 101]])));
    assert!(matches!(log.append(&at(1), &set(["x"])), Err(BrokerError::UnknownPartition { .. })));
    let elsewhere = clickmill_broker::TopicPartition::new("u", clickmill_schemas::PartitionId(0));
    assert!(matches!(log.ends(&elsewhere), Err(BrokerError::UnknownTopic { .. })));
    put(&log, &at(0), None, b"and it goes on");
}

#[test]
fn the_newest_matching_batch_is_found_across_segments_and_asked_newest_first() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(dir.path(), 1, 3_000);
    for n in 0..200u64 {
        put(&log, &at(0), None, format!("{n} {}", "x".repeat((n * 7 % 600) as usize)).as_bytes());
    }
    assert!(segments(dir.path(), 0).len() > 3);
    drop(log);
    let log = log_again(dir.path());
    let mut asked = Vec::new();
    let found = log.last_batch_with(&at(0), &mut |b| {
        asked.push(b.base_offset.0);
        b.base_offset.0 == 17
    });
    assert_eq!(found.unwrap().unwrap().base_offset, Offset(17));
    assert!(asked.into_iter().eq((17..200).rev()));
    assert!(log.last_batch_with(&at(0), &mut |_| false).unwrap().is_none());
}

fn log_again(dir: &std::path::Path) -> EmbeddedLog {
    EmbeddedLog::open(dir, small(3_000)).unwrap()
}

#[test]
fn readers_beside_writers_see_every_batch_once_and_in_order() {
    const WRITERS: u64 = 4;
    const BATCHES: u64 = 150;
    let dir = tempfile::tempdir().unwrap();
    let log = log(dir.path(), 2, 20_000);
    std::thread::scope(|s| {
        for writer in 0..WRITERS {
            let log = &log;
            s.spawn(move || {
                let mut waiting = Vec::new();
                for n in 0..BATCHES {
                    let values: Vec<String> = (0..3).map(|i| format!("{writer} {}", n * 3 + i)).collect();
                    waiting.push(log.append(&at((writer % 2) as u32), &set(values)).unwrap());
                }
                let bases: Vec<Offset> = waiting.into_iter().map(|a| a.wait().unwrap()).collect();
                assert!(bases.is_sorted());
            });
        }
        for partition in 0..2u32 {
            let log = &log;
            s.spawn(move || {
                let (mut next, mut seen) = (Offset(0), vec![0u64; WRITERS as usize]);
                while next.0 < WRITERS / 2 * BATCHES * 3 {
                    for batch in log.fetch(&at(partition), next, 5_000, Duration::from_secs(20)).unwrap() {
                        assert_eq!(batch.base_offset, next);
                        assert!(log.ends(&at(partition)).unwrap().end >= batch.next_offset());
                        for (_, _, value) in rows(&batch) {
                            let text = String::from_utf8(value).unwrap();
                            let (writer, n) = text.split_once(' ').unwrap();
                            let count = &mut seen[writer.parse::<usize>().unwrap()];
                            assert_eq!(n.parse::<u64>().unwrap(), *count);
                            *count += 1;
                        }
                        next = batch.next_offset();
                    }
                }
            });
        }
    });
}
