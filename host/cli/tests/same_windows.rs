//! The same file gives the same windows, whatever the speed, the batches, the restarts, and who was interrupted.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::time::Duration;

use common::Bench;
use common::sinks::balanced_ledger;

const ROWS: u64 = 80_000;

fn quiet(bench: &Bench) {
    let config =
        "sinks:\n  postgres:\n    enabled: false\n  redis:\n    enabled: false\n  parquet:\n    enabled: false\n";
    std::fs::write(bench.file("clickmill.yaml"), config).unwrap();
}

#[test]
fn an_interrupted_and_resumed_produce_gives_the_windows_of_an_uninterrupted_one() {
    let (whole, resumed) = (Bench::new(), Bench::new());
    let rows = whole.generate(ROWS, 5, 12);
    for bench in [&whole, &resumed] {
        quiet(bench);
    }
    whole.run(&["produce", rows.to_str().unwrap()]);
    whole.run(&["run", "--until-end"]);

    // Half of it into a running host, at a pace that can be interrupted; the producer is killed twice.
    let host = resumed.start("host", &["run"]);
    std::thread::sleep(Duration::from_millis(500));
    for wait_ms in [700, 900] {
        let args = ["produce", "--resume", "--rate", "20000", rows.to_str().unwrap()];
        let producer = resumed.start("produce", &args);
        std::thread::sleep(Duration::from_millis(wait_ms));
        producer.kill();
    }
    assert_eq!(host.terminate(), Some(0), "{}", resumed.log("host"));
    // The rest straight into the log.
    resumed.run(&["produce", "--resume", rows.to_str().unwrap()]);
    resumed.run(&["run", "--until-end"]);

    assert_eq!(balanced_ledger(&whole.status()), [ROWS, ROWS, 0, 0, 0]);
    assert_eq!(balanced_ledger(&resumed.status()), [ROWS, ROWS, 0, 0, 0]);
    for size in ["1m", "5m"] {
        assert!(whole.windows(size) == resumed.windows(size), "windows of {size} differ");
    }
    let header = "window_size,window_start,window_end,dimension,key,impressions,clicks,conversions,cost_micros,\
                  revenue_micros,ctr,cpc,cpa,roas,final";
    assert_eq!(whole.windows("1m").lines().next(), Some(header));
    // Once more without --resume is refused: it would count everything twice.
    let error = resumed.fails(&["produce", rows.to_str().unwrap()], 2);
    assert!(error.contains("--resume"), "{error}");
}
