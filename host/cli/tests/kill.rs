//! The host, killed with SIGKILL at random moments with all sinks on, ends where an undisturbed one does.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::time::Duration;

use common::sinks::{Sinks, balanced_ledger};
use common::{Bench, eventually};

const ROWS: u64 = 600_000;
const KILLS: u32 = 20;

/// Moments between kills, without a random generator: a small LCG, printed for a repeat.
struct Moments(u64);

impl Moments {
    fn next_ms(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// Rows with some that are rejected among them, as JSON lines made by our own `produce` would not be.
fn poison(bench: &Bench) -> std::path::PathBuf {
    let path = bench.file("poison.jsonl");
    let mut text = String::new();
    for i in 0..500 {
        text.push_str(&format!("{{\"id\": \"bad-{i}\", \"click\": {}}}\n", i % 3));
        text.push_str("not json at all\n");
    }
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn twenty_kills_change_no_count() {
    let undisturbed = Bench::new();
    let killed = Bench::new();
    let rows = undisturbed.generate(ROWS, 7, 24);
    for bench in [&undisturbed, &killed] {
        bench.run(&["produce", poison(bench).to_str().unwrap()]);
    }
    undisturbed.run(&["produce", rows.to_str().unwrap()]);
    undisturbed.run(&["run", "--until-end"]);

    // The first half lies in the log before the host starts; the rest is produced through a host that dies under it.
    let seed = 0x5eed;
    eprintln!("moments of the kills: seed {seed:#x}");
    let mut moments = Moments(seed);
    let mut producer = None;
    for kill in 0..KILLS {
        let host = killed.start("host", &["run"]);
        if kill == 2 {
            // As soon as the host answers; it is waited for whenever it is gone.
            producer = Some(killed.start("produce", &["produce", "--rate", "40000", rows.to_str().unwrap()]));
        }
        std::thread::sleep(Duration::from_millis(150 + moments.next_ms(900)));
        host.kill();
    }
    let host = killed.start("host", &["run"]);
    let produced = producer.unwrap().wait();
    assert_eq!(produced, Some(0), "produce: {}", killed.log("produce"));
    // A SIGTERM before the host listens for it ends it like a kill.
    eventually("the host answers", Duration::from_secs(20), || {
        std::net::TcpStream::connect(("127.0.0.1", killed.port)).is_ok()
    });
    assert_eq!(host.terminate(), Some(0), "host: {}", killed.log("host"));
    killed.run(&["run", "--until-end"]);

    let expected = balanced_ledger(&undisturbed.status());
    assert_eq!(expected[..3], [ROWS + 1_000, ROWS, 1_000]);
    assert_eq!(balanced_ledger(&killed.status()), expected);
    for size in ["1m", "5m"] {
        assert!(undisturbed.windows(size) == killed.windows(size), "windows of {size} differ");
    }
    let dead = |bench: &Bench| {
        let mut letters: Vec<_> = bench
            .run(&["topic", "read", "ad_events_error", "--output", "json"])
            .lines()
            .map(|line| common::sinks::text_value(&serde_json::from_str(line).unwrap()))
            .filter_map(|value| value["raw_payload"].as_str().map(str::to_owned))
            .collect();
        letters.sort();
        letters
    };
    let letters = dead(&killed);
    assert_eq!(letters.len(), 1_000, "each reject is in the topic once");
    assert_eq!(letters, dead(&undisturbed));
    let (a, b) = (Sinks::of(&undisturbed.data()).snapshot(), Sinks::of(&killed.data()).snapshot());
    assert!(a.one_minute == b.one_minute, "realtime.metrics_1min differs");
    assert!(a.five_minutes == b.five_minutes, "realtime.metrics_5min differs");
    assert!(a.all == b.all, "realtime.ctr_metrics differs");
    // Hashes expire 300 s after their last write: those that both still have must be equal, and there must be some.
    let both: Vec<_> = a.hashes.keys().filter(|key| b.hashes.contains_key(*key)).collect();
    assert!(!both.is_empty());
    for key in both {
        assert_eq!(a.hashes[key], b.hashes[key], "{key}");
    }
}
