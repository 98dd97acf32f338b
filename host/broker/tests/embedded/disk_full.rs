//! No room: real errors of the system, from a small tmpfs and from a limit on file sizes.

use std::path::{Path, PathBuf};
use std::process::Command;

use clickmill_broker::{Broker, BrokerError, EmbeddedLog};

use crate::support::*;

/// A file system of a few MB; `None` where this process may not mount one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(dir: &Path) -> Option<Self> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"]).arg(dir).output().ok()?;
        mounted.status.success().then(|| Self(dir.to_path_buf()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn noise(numbers: &mut Numbers, len: usize) -> Vec<u8> {
    (0..len).map(|_| numbers.below(256) as u8).collect()
}

/// Appends until there is no room; what was acknowledged.
fn fill(log: &EmbeddedLog, numbers: &mut Numbers, acknowledged: &mut Vec<Vec<u8>>) -> BrokerError {
    for _ in 0..10_000 {
        let len = 10_000 + numbers.below(20_000) as usize;
        let value = noise(numbers, len);
        match log.append(&at(0), &set([&value])).and_then(|appended| appended.wait()) {
            Ok(base) => {
                assert_eq!(base.0, acknowledged.len() as u64);
                acknowledged.push(value);
            }
            Err(e) => return e,
        }
    }
    panic!("the disk never filled up");
}

fn assert_holds(log: &EmbeddedLog, acknowledged: &[Vec<u8>]) {
    let rows = read_all(log, &at(0)).unwrap();
    assert!(rows.into_iter().map(|(_, _, v)| v).eq(acknowledged.iter().cloned()));
}

#[test]
fn a_full_disk_fails_the_append_keeps_the_rest_and_goes_on_once_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path()) else {
        eprintln!("SKIPPED: no tmpfs can be mounted here (not root)");
        return;
    };
    for segment_bytes in [1 << 20, 200_000] {
        let data = disk.0.join(format!("data{segment_bytes}"));
        let filler = disk.0.join("filler");
        std::fs::write(&filler, vec![0; 1 << 20]).unwrap();
        let log = log(&data, 1, segment_bytes);
        let (mut numbers, mut acknowledged) = (Numbers(5), Vec::new());
        for _ in 0..2 {
            for _ in 0..3 {
                let error = fill(&log, &mut numbers, &mut acknowledged);
                assert!(matches!(error, BrokerError::DiskFull { .. }), "{error:?}");
                assert!(error.to_string().contains("make room"), "{error}");
                assert_holds(&log, &acknowledged);
            }
            let _ = std::fs::remove_file(&filler); // room, the first time
        }
        drop(log);
        let log = EmbeddedLog::open(&data, small(segment_bytes)).unwrap();
        assert_holds(&log, &acknowledged);
        drop(log);
        std::fs::remove_dir_all(&data).unwrap();
    }
}

#[test]
#[ignore = "a process of its own with a limit on file sizes, started by the test below"]
fn appends_beyond_the_limit() {
    let Some(dir) = child_dir() else { return };
    let log = EmbeddedLog::open(&dir, small(10 << 20)).unwrap();
    let (mut numbers, mut acknowledged) = (Numbers(6), Vec::new());
    for _ in 0..3 {
        let error = fill(&log, &mut numbers, &mut acknowledged);
        assert!(matches!(error, BrokerError::DiskFull { .. }), "{error:?}");
        assert_holds(&log, &acknowledged);
    }
    log.close();
    drop(log);
    let log = EmbeddedLog::open(&dir, small(10 << 20)).unwrap();
    assert_holds(&log, &acknowledged);
    println!("acknowledged {}", acknowledged.len());
}

#[test]
fn a_write_that_is_cut_by_a_limit_leaves_no_torn_batch() {
    let dir = tempfile::tempdir().unwrap();
    drop(log(dir.path(), 1, 10 << 20));
    let child = child("disk_full::appends_beyond_the_limit", dir.path());
    // 512-byte blocks: 1,000,448 bytes a file. The signal that the limit sends by default would kill.
    let script = "trap '' XFSZ; ulimit -f 1954; exec \"$0\" \"$@\"";
    let out = Command::new("sh")
        .args(["-c", script])
        .arg(child.get_program())
        .args(child.get_args())
        .env("LOG_DIR", dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && text.contains("acknowledged "), "{text}");
    let log = EmbeddedLog::open(dir.path(), small(10 << 20)).unwrap();
    let count = read_all(&log, &at(0)).unwrap().len();
    assert!(text.contains(&format!("acknowledged {count}")), "{count}: {text}");
    put(&log, &at(0), None, &[1; 1_000]);
}
