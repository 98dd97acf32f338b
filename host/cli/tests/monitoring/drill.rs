//! Back-up and recovery drill: the scripts of docs/deploy, on a real data directory.

use std::path::Path;
use std::process::{Command, Output};

use crate::common::Bench;
use crate::repository;

fn script(bench: &Bench, name: &str, args: &[&Path]) -> Output {
    Command::new("sh")
        .arg(repository("docs/deploy").join(name))
        .args(args)
        .current_dir(bench.folder.path())
        .env("CLICKMILL_BIN", env!("CARGO_BIN_EXE_clickmill"))
        .env("TMPDIR", bench.folder.path())
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_back_up_can_be_started_from_and_a_damaged_one_is_found() {
    let bench = Bench::new();
    let quiet = "sinks: {postgres: {enabled: false}, redis: {enabled: false}}\n";
    std::fs::write(bench.file("clickmill.yaml"), quiet).unwrap();
    let rows = bench.generate(20_000, 7, 1);
    bench.run(&["produce", rows.to_str().unwrap()]);
    bench.run(&["run", "--until-end"]);

    let host = bench.start("host", &["run"]);
    bench.until_ready();
    let (data, first) = (bench.data(), bench.file("first"));
    let refused = script(&bench, "backup.sh", &[&data, &first]);
    assert!(!refused.status.success() && said(&refused).contains("a host runs on"), "{}", said(&refused));
    assert_eq!(host.terminate(), Some(0));

    let done = script(&bench, "backup.sh", &[&data, &first]);
    assert!(done.status.success(), "{}", said(&done));
    let drill = script(&bench, "recovery-drill.sh", &[&first]);
    assert!(
        drill.status.success() && said(&drill).contains("windows of 1m are those of the back-up"),
        "{}",
        said(&drill)
    );

    // One with events that nobody has judged yet: they are, and the ledger balances.
    let more = bench.generate(5_000, 8, 1);
    bench.run(&["produce", more.to_str().unwrap()]);
    let second = bench.file("second");
    assert!(script(&bench, "backup.sh", &[&data, &second]).status.success());
    let drill = script(&bench, "recovery-drill.sh", &[&second]);
    assert!(drill.status.success() && said(&drill).contains("25000 produced"), "{}", said(&drill));
    assert!(said(&drill).contains("5000 events waited at the back-up"), "{}", said(&drill));

    // A byte that has changed since, and windows that are not what the log gives.
    let checkpoints = first.join("checkpoints.txt");
    let text = std::fs::read_to_string(&checkpoints).unwrap();
    std::fs::write(&checkpoints, text.clone() + " ").unwrap();
    let drill = script(&bench, "recovery-drill.sh", &[&first]);
    assert!(!drill.status.success() && said(&drill).contains("checkpoints.txt: FAILED"), "{}", said(&drill));
    std::fs::write(&checkpoints, text).unwrap();
    let windows = first.join("windows-1m.csv");
    std::fs::write(&windows, std::fs::read_to_string(&windows).unwrap() + "one more\n").unwrap();
    let sums = std::fs::read_to_string(first.join("SHA256SUMS")).unwrap();
    let others: String = sums.lines().filter(|sum| !sum.contains("windows-1m")).map(|sum| format!("{sum}\n")).collect();
    std::fs::write(first.join("SHA256SUMS"), others).unwrap();
    let drill = script(&bench, "recovery-drill.sh", &[&first]);
    assert!(!drill.status.success() && said(&drill).contains("FAIL windows of 1m"), "{}", said(&drill));
    let left: Vec<_> = std::fs::read_dir(bench.folder.path()).unwrap().flatten().collect();
    let left = left.iter().filter(|entry| entry.file_name().to_string_lossy().starts_with("recovery-drill")).count();
    assert_eq!(left, 0, "the drill leaves nothing behind");
}
