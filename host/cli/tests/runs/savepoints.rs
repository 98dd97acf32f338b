//! Savepoints: after `run --from` everything is as if the run had never gone beyond it.

use std::time::Duration;

use crate::common::sinks::balanced_ledger;
use crate::{STRICT, bench, committed, produce, same, same_sinks};

#[test]
fn a_run_that_goes_back_is_one_that_never_went_on() {
    let (gone, whole, strict) = (bench(true), bench(true), bench(true));
    // Three files; of the run that goes back, the third under a rule that lets nothing pass.
    let host = gone.start("host", &["run"]);
    gone.until_ready();
    produce(&gone, 0);
    committed(&gone);
    let said = gone.run(&["checkpoint", "save", "before"]);
    assert!(said.starts_with("savepoint before: partitions 0@"), "{said}");
    produce(&gone, 1);
    gone.run(&STRICT);
    produce(&gone, 2);
    committed(&gone);
    gone.run(&["smartmodule", "rollback", "--yes"]);
    assert_eq!(host.terminate(), Some(0), "{}", gone.log("host"));
    gone.run(&["checkpoint", "save", "after"]);
    gone.run(&["run", "--from", "before", "--until-end"]);

    (0..3).for_each(|n| produce(&whole, n));
    whole.run(&["run", "--until-end"]);
    same(&gone, &whole, "back to before the rule");
    same_sinks(&gone, &whole, "back to before the rule");

    // Killed at whatever moment of going back: what the next start ends, or begins, comes to the same.
    for wait_ms in [30, 80, 150, 250, 400] {
        let host = gone.start("from", &["run", "--from", "before"]);
        std::thread::sleep(Duration::from_millis(wait_ms));
        host.kill();
    }
    gone.run(&["run", "--until-end"]);
    same(&gone, &whole, "after kills");
    same_sinks(&gone, &whole, "after kills");
    let refused = gone.fails(&["run", "--from", "after"], 2);
    assert!(refused.contains("has gone back to"), "{refused}");

    // With another rule: windows that had been there after the savepoint are there no more.
    gone.run(&STRICT);
    gone.run(&["run", "--from", "before", "--until-end"]);
    produce(&strict, 0);
    strict.run(&["run", "--until-end"]);
    strict.run(&STRICT);
    (1..3).for_each(|n| produce(&strict, n));
    strict.run(&["run", "--until-end"]);
    same(&gone, &strict, "with a rule that lets nothing pass");
    same_sinks(&gone, &strict, "with a rule that lets nothing pass");
}

#[test]
fn a_savepoint_is_whole_or_not_there_and_says_what_is_wrong_with_it() {
    let bench = bench(false);
    produce(&bench, 0);
    let said = bench.fails(&["checkpoint", "save", "early"], 1);
    assert!(said.contains("no checkpoint yet"), "{said}");
    bench.run(&["run", "--until-end"]);
    let manifest = bench.json(&["checkpoint", "save", "good", "--output", "json"]);
    assert_eq!((manifest["partitions"].as_array().unwrap().len(), &manifest["format"]), (3, &1.into()));
    assert_eq!(manifest["modules"].as_object().unwrap().len(), 3);
    let folder = bench.data().join("savepoints/good");
    let sums =
        std::process::Command::new("sha256sum").args(["-c", "SHA256SUMS"]).current_dir(&folder).output().unwrap();
    assert!(sums.status.success(), "{}", String::from_utf8_lossy(&sums.stderr));
    let list = bench.json(&["checkpoint", "list", "--output", "json"]);
    assert_eq!(list.as_array().unwrap().iter().filter(|c| c["savepoint"] == "good").count(), 3);

    assert!(bench.fails(&["checkpoint", "save", "good"], 1).contains("already"));
    bench.fails(&["checkpoint", "save", "../x"], 2);
    let said = bench.fails(&["run", "--from", "nothing", "--until-end"], 2);
    assert!(said.contains("there are good"), "{said}");
    let file = folder.join("1.ckpt");
    let whole = std::fs::read(&file).unwrap();
    let mut damaged = whole.clone();
    damaged[100] ^= 1;
    std::fs::write(&file, damaged).unwrap();
    let said = bench.fails(&["run", "--from", "good", "--until-end"], 1);
    assert!(said.contains("1.ckpt is not what it was"), "{said}");
    std::fs::write(&file, whole).unwrap();
    let pending = bench.data().join("control/rewind");
    std::fs::write(&pending, "good").unwrap();
    let said = bench.fails(&["checkpoint", "delete", "good"], 1);
    assert!(said.contains("interrupted"), "{said}");
    // What was begun is ended by the next start, whatever it is asked for.
    bench.run(&["run", "--until-end"]);
    assert!(!pending.exists());
    bench.run(&["topic", "alter", "ad_events_raw", "--partitions", "4"]);
    let said = bench.fails(&["run", "--from", "good", "--until-end"], 2);
    assert!(said.contains("partitions were added since"), "{said}");
    bench.run(&["checkpoint", "delete", "good"]);
    assert!(!folder.exists());
    bench.fails(&["checkpoint", "delete", "good"], 2);
    // What was refused has changed nothing.
    bench.run(&["run", "--until-end"]);
    assert_eq!(balanced_ledger(&bench.status())[0], 12_000);
}
