//! Status: newest commits, the ledger, the modules in force.

use clickmill_schemas::ModuleDigest;

use super::*;
use crate::deployment::{self, Cause, Deployment, Stage};

#[test]
fn another_runs_windows_are_not_ours() {
    let mut f = Fixture::new();
    let own = std::mem::replace(&mut f.run, RunId([9; 16]));
    f.partial(0, (1, 5), (MINUTE, 0, "total"), &[("", 5, 0)]);
    f.commit(0, 1, 5, 0);
    f.run = own;
    assert!(f.rows(&minutes("total")).is_empty());
    assert_eq!(status(&f.log, RunState::Stopped, Vec::new()).unwrap().partitions[0].processed_offset, Offset(0));
}

#[test]
fn a_data_directory_without_topics_has_an_empty_status_and_no_windows() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path(), LogOptions::default()).unwrap();
    assert_eq!(windows(&log, &minutes("total")).unwrap().into_rows().count(), 0);
    let status = status(&log, RunState::Stopped, Vec::new()).unwrap();
    assert!(status.run.is_none() && status.partitions.is_empty() && status.ledger.balances());
}

#[test]
fn status_sums_the_newest_commits_and_takes_produced_from_the_log() {
    let f = Fixture::new();
    f.produce(0, 12);
    f.produce(1, 3);
    f.output(0, 1, Body::Epoch);
    f.output(1, 1, Body::Epoch);
    f.commit(0, 1, 5, 0);
    f.commit(1, 1, 3, MINUTE);
    f.commit(0, 1, 10, MINUTE);
    let status = status(&f.log, RunState::Running, vec![serde_json::json!({"name": "s"})]).unwrap();
    let ledger = &status.ledger;
    assert_eq!((ledger.produced, ledger.fates.counted, ledger.fates.rejected, ledger.waiting), (15, 11, 2, 2));
    assert!(ledger.balances());
    let p0 = &status.partitions[0];
    assert_eq!((p0.log_end_offset, p0.processed_offset, p0.lag), (Offset(12), Offset(10), 2));
    assert_eq!((p0.watermark_ms, p0.closed_before_ms), (Some(2 * MINUTE), Some(MINUTE)));
    assert_eq!(status.run, Some(f.run));
    assert_eq!(status.topics.len(), 5);
    let json = serde_json::to_value(&status).unwrap();
    for key in ["produced", "counted", "rejected", "late", "dropped", "waiting"] {
        assert!(json["ledger"][key].is_u64(), "{key}");
    }
    assert_eq!(serde_json::from_value::<Status>(json).unwrap(), status);
}

#[test]
fn what_no_worker_has_seen_is_produced_and_waits() {
    let f = Fixture::new();
    f.produce(0, 4);
    let ledger = status(&f.log, RunState::Stopped, Vec::new()).unwrap().ledger;
    assert_eq!((ledger.produced, ledger.fates.accounted(), ledger.waiting, ledger.balances()), (4, 0, 4, true));
}

#[test]
fn a_commit_ahead_of_its_log_does_not_balance() {
    let f = Fixture::new();
    f.produce(0, 4);
    f.commit(0, 1, 4, 0);
    assert!(status(&f.log, RunState::Stopped, Vec::new()).unwrap().ledger.balances());
    f.commit(0, 1, 10, 0);
    assert!(!status(&f.log, RunState::Stopped, Vec::new()).unwrap().ledger.balances());
}

#[test]
fn the_commit_of_a_frozen_host_behind_its_successors_is_not_the_newest() {
    let f = Fixture::new();
    f.produce(0, 50);
    for partition in [0, 1] {
        f.output(partition, 1, Body::Epoch);
        f.output(partition, 2, Body::Epoch);
        f.commit(partition, 2, 20, 0);
    }
    f.commit(0, 1, 40, 0);
    let status = status(&f.log, RunState::Stopped, Vec::new()).unwrap();
    assert_eq!((status.partitions[0].processed_offset, status.partitions[0].epoch), (Offset(20), Some(Epoch(2))));
}

#[test]
fn of_an_idle_partition_s_commits_at_one_offset_the_newest_is_shown() {
    let f = Fixture::new();
    f.produce(0, 50);
    f.output(0, 1, Body::Epoch);
    for minute in 0..10 {
        f.commit(0, 1, 20, minute * MINUTE);
    }
    let status = status(&f.log, RunState::Running, Vec::new()).unwrap();
    assert_eq!(status.partitions[0].closed_before_ms, Some(9 * MINUTE));
    assert_eq!(status.partitions[0].watermark_ms, Some(10 * MINUTE));
}

#[test]
fn modules_are_those_of_the_newest_deployment() {
    let f = Fixture::new();
    for version in ["0.1.0", "0.2.0"] {
        let stage = Stage {
            stage: "validate".into(),
            name: "validate".into(),
            version: version.into(),
            sha256: ModuleDigest([4; 32]),
            params: Default::default(),
            lookback: Default::default(),
        };
        let deployment = Deployment {
            stages: vec![stage],
            message: String::new(),
            created_at_ms: 1,
            cause: Cause::Config,
            partitions: None,
            reset_state: false,
            config: None,
        };
        deployment::append(&f.log, &deployment).unwrap();
    }
    let modules = status(&f.log, RunState::Stopped, Vec::new()).unwrap().modules;
    assert_eq!(modules.len(), 1);
    assert_eq!((modules[0].version.as_str(), modules[0].sha256), ("0.2.0", ModuleDigest([4; 32])));
}
