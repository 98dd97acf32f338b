//! kill -9 at random moments: every acknowledged record is there afterwards, and nothing that was never sent.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use clickmill_broker::{Broker, EmbeddedLog, TopicSpec};

use crate::support::*;

const KILLS: usize = 24;
const SEGMENT_BYTES: u64 = 40_000;

/// Value `n` of a partition: recognisable, of varying length.
fn value(partition: u32, n: u64) -> Vec<u8> {
    let noise = (0..n % 97).map(|i| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (i % 56)) as u8);
    format!("{partition}/{n}/").into_bytes().into_iter().chain(noise).collect()
}

#[test]
#[ignore = "a process of its own, started and killed by the test below"]
fn appends_until_killed() {
    let Some(dir) = child_dir() else { return };
    let log = EmbeddedLog::open(&dir, small(SEGMENT_BYTES)).unwrap();
    log.create_topic(&TopicSpec::new("t", 2)).unwrap();
    std::thread::scope(|s| {
        for partition in 0..2u32 {
            let log = &log;
            s.spawn(move || {
                let mut next = log.ends(&at(partition)).unwrap().end.0;
                let mut waiting = std::collections::VecDeque::new();
                loop {
                    let count = next % 7 + 1;
                    let batch = set((next..next + count).map(|n| value(partition, n)));
                    waiting.push_back((log.append(&at(partition), &batch).unwrap(), count));
                    next += count;
                    while waiting.len() > (next % 5) as usize {
                        let (appended, count) = waiting.pop_front().unwrap();
                        let base = appended.wait().unwrap().0;
                        let mut out = std::io::stdout().lock();
                        writeln!(out, "acknowledged {partition} {base} {count}").unwrap();
                    }
                }
            });
        }
    });
}

/// Runs the child for `time` after its first acknowledgement, kills it; the end of what it acknowledged.
fn run_and_kill(dir: &Path, time: Duration) -> [u64; 2] {
    let mut child = child("kill::appends_until_killed", dir).stdout(Stdio::piped()).spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let mut ends = [0; 2];
    let mut killed_at = None;
    for line in out.lines() {
        let Ok(line) = line else { break };
        // The harness writes the test's name before the first line, without a line break.
        let Some((_, numbers)) = line.split_once("acknowledged ") else {
            continue;
        };
        let numbers: Vec<u64> = numbers.split(' ').map_while(|n| n.parse().ok()).collect();
        if let [partition, base, count] = numbers[..] {
            ends[partition as usize] = base + count;
            let at = *killed_at.get_or_insert(Instant::now() + time);
            if Instant::now() >= at {
                let _ = child.kill(); // SIGKILL; the lines still in the pipe are read: they were acknowledged
            }
        }
    }
    child.wait().unwrap();
    assert!(killed_at.is_some(), "the child acknowledged nothing");
    ends
}

#[test]
fn every_acknowledged_record_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut numbers = Numbers(u64::from(std::process::id()) | 1 << 40);
    println!("seed {}", numbers.0);
    let mut before = [0; 2];
    for kill in 0..KILLS {
        let acknowledged = run_and_kill(dir.path(), Duration::from_micros(numbers.below(80_000)));
        let log = EmbeddedLog::open(dir.path(), small(SEGMENT_BYTES)).unwrap();
        for partition in 0..2u32 {
            let rows = read_all(&log, &at(partition)).unwrap();
            let end = rows.len() as u64;
            assert!(end >= acknowledged[partition as usize].max(before[partition as usize]), "kill {kill}: lost");
            for (n, (offset, _, got)) in rows.into_iter().enumerate() {
                assert_eq!((offset, got), (n as u64, value(partition, n as u64)), "kill {kill}");
            }
            before[partition as usize] = end;
        }
    }
    assert!(before.iter().all(|end| *end > 300), "too little was appended to mean anything: {before:?}");
}
