//! The disk of a running host fills up: it says so, keeps what it has acknowledged, and goes on when there is room.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::sinks::balanced_ledger;
use common::{Bench, eventually, skipped};

const ROWS: u64 = 30_000;

/// A file system in memory; `None` where this process may not mount one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(dir: &Path) -> Option<Self> {
        std::fs::create_dir(dir).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"]).arg(dir).output().ok()?;
        mounted.status.success().then(|| Self(dir.to_path_buf()))
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(self.filler()).unwrap();
        for len in [1 << 20, 4_096] {
            let zeros = vec![0; len];
            while file.write_all(&zeros).is_ok() {}
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn quiet() -> Bench {
    let bench = Bench::new();
    let config = "sinks: {postgres: {enabled: false}, redis: {enabled: false}, parquet: {enabled: false}}\npipeline: {commit_interval_ms: 100}\n";
    std::fs::write(bench.file("clickmill.yaml"), config).unwrap();
    bench
}

/// What readiness says; none where all is well.
fn why_not_ready(bench: &Bench) -> Option<String> {
    let url = format!("http://127.0.0.1:{}/health/ready", bench.port);
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut answer = agent.get(&url).call().unwrap();
    (answer.status() != 200).then(|| answer.body_mut().read_to_string().unwrap())
}

#[test]
fn a_host_on_a_full_disk_waits_and_ends_where_an_undisturbed_one_does() {
    let (undisturbed, full) = (quiet(), quiet());
    let Some(disk) = SmallDisk::mount(&full.data()) else {
        return skipped("a host on a full disk: no tmpfs can be mounted here (not root)");
    };
    let rows = undisturbed.generate(ROWS, 3, 6);
    let rows = rows.to_str().unwrap();
    undisturbed.run(&["produce", rows]);
    undisturbed.run(&["run", "--until-end"]);

    let host = full.start("host", &["run"]);
    full.until_ready();
    let mut producer = full.start("produce", &["produce", "--rate", "5000", rows]);
    eventually("events arrive", Duration::from_secs(20), || {
        full.status()["ledger"]["counted"].as_u64().unwrap() > 2_000
    });
    disk.fill();
    let mut reason = String::new();
    eventually("the host says that it waits", Duration::from_secs(20), || {
        reason = why_not_ready(&full).unwrap_or_default();
        !reason.is_empty()
    });
    assert!(reason.contains("No space left on device"), "{reason}");
    eventually("produce gives up", Duration::from_secs(90), || !producer.is_running());
    assert_eq!(producer.wait(), Some(1));
    let said = full.log("produce");
    assert!(said.contains("full") || said.contains("No space"), "{said}");

    // Room again, and the same process goes on.
    disk.make_room();
    full.until_ready();
    eventually("it catches up", Duration::from_secs(20), || full.status()["ledger"]["waiting"] == 0);
    let [produced, counted, ..] = balanced_ledger(&full.status());
    assert!(produced == counted && (2_000..ROWS).contains(&produced), "{produced} {counted}");

    // Killed, and started again without room for what is to be committed: it ends or waits, and either way says why.
    host.kill();
    let sending = full.start("more", &["produce", "--resume", "--rate", "5000", rows]);
    std::thread::sleep(Duration::from_millis(500));
    sending.terminate();
    assert_ne!(full.status()["ledger"]["waiting"], 0, "{}", full.log("more"));
    disk.fill();
    let mut again = full.start("again", &["run", "--until-end"]);
    eventually("it says that there is no room", Duration::from_secs(20), || {
        let said = full.log("again");
        said.contains(full.data().to_str().unwrap()) && said.contains("No space")
    });
    assert_eq!(if again.is_running() { again.terminate() } else { again.wait() }, Some(1), "{}", full.log("again"));
    disk.make_room();
    full.run(&["produce", "--resume", rows]);
    full.run(&["run", "--until-end"]);
    assert_eq!(balanced_ledger(&full.status()), [ROWS, ROWS, 0, 0, 0]);
    for size in ["1m", "5m"] {
        assert!(undisturbed.windows(size) == full.windows(size), "windows of {size} differ");
    }
}
