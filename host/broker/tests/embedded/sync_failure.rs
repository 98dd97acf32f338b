//! A sync that fails, for real: a file system on a loop device whose own disk is too small for it.

use std::path::{Path, PathBuf};
use std::process::Command;

use clickmill_broker::{Broker, BrokerError, EmbeddedLog};

use crate::support::*;

/// An ext4 of 64 MB in a file on a tmpfs of 6 MB: writes succeed, syncs fail once the 6 MB are full.
struct HollowDisk {
    outer: PathBuf,
    inner: PathBuf,
}

fn run(program: &str, args: &[&str], path: &Path, more: Option<&Path>) -> bool {
    let mut command = Command::new(program);
    command.args(args).arg(path).args(more);
    command.output().is_ok_and(|out| out.status.success())
}

impl HollowDisk {
    /// `None` where this process may not mount, or has no mkfs.ext4.
    fn mount(dir: &Path) -> Option<Self> {
        let disk = Self {
            outer: dir.join("outer"),
            inner: dir.join("inner"),
        };
        std::fs::create_dir(&disk.outer).unwrap();
        std::fs::create_dir(&disk.inner).unwrap();
        let image = disk.outer.join("image");
        let mounted = run(
            "mount",
            &["-t", "tmpfs", "-o", "size=6m", "tmpfs"],
            &disk.outer,
            None,
        ) && run("truncate", &["-s", "64m"], &image, None)
            && run(
                "mkfs.ext4",
                &[
                    "-q",
                    "-b",
                    "1024",
                    "-J",
                    "size=1",
                    "-E",
                    "lazy_itable_init=1",
                ],
                &image,
                None,
            )
            && run("mount", &["-o", "loop"], &image, Some(&disk.inner));
        mounted.then_some(disk)
    }

    /// Makes room below and forgets what the system only has in memory.
    fn repair(&self) {
        assert!(run("mount", &["-o", "remount,size=64m"], &self.outer, None));
        assert!(run("umount", &[], &self.inner, None));
        assert!(run(
            "mount",
            &["-o", "loop"],
            &self.outer.join("image"),
            Some(&self.inner)
        ));
    }
}

impl Drop for HollowDisk {
    fn drop(&mut self) {
        run("umount", &["-q"], &self.inner, None);
        run("umount", &["-q"], &self.outer, None);
    }
}

#[test]
fn a_failed_sync_stops_appends_but_not_reads_and_nothing_acknowledged_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = HollowDisk::mount(dir.path()) else {
        eprintln!("SKIPPED: no loop device can be mounted here (not root, or no mkfs.ext4)");
        return;
    };
    let data = disk.inner.join("data");
    let mut acknowledged: Vec<Vec<u8>> = Vec::new();
    let mut numbers = Numbers(8);
    {
        let log = log(&data, 2, 64 << 20);
        let failed = (0..1_000).find_map(|_| {
            let value: Vec<u8> = (0..100_000).map(|_| numbers.below(256) as u8).collect();
            let (one, two) = (set([&value]), set([&value[..10]]));
            let appended = log.append(&at(0), &one).and_then(|first| {
                let second = log.append(&at(0), &two)?;
                Ok([first.wait(), second.wait()])
            });
            match appended {
                Ok([first, second]) => {
                    // The first may be durable without the second, never the other way round.
                    assert!(first.is_ok() || second.is_err());
                    for (result, value) in [(&first, &value[..]), (&second, &value[..10])] {
                        if let Ok(base) = result {
                            assert_eq!(base.0, acknowledged.len() as u64);
                            acknowledged.push(value.to_vec());
                        }
                    }
                    first.and(second).err()
                }
                Err(e) => Some(e),
            }
        });
        let end = acknowledged.len() as u64;
        assert!(end > 4);
        match failed {
            Some(BrokerError::PartitionFailed { durable_end, .. }) => {
                assert_eq!(durable_end.0, end)
            }
            other => panic!("{other:?}"),
        }
        let again = log.append(&at(0), &set(["more"]));
        assert!(
            matches!(again, Err(BrokerError::PartitionFailed { .. })),
            "{again:?}"
        );
        assert_eq!(log.ends(&at(0)).unwrap().end.0, end);
        assert!(
            read_all(&*log, &at(0))
                .unwrap()
                .into_iter()
                .map(|r| r.2)
                .eq(acknowledged.clone())
        );
    }
    disk.repair();
    let log = EmbeddedLog::open(&data, small(64 << 20)).unwrap();
    assert!(
        read_all(&log, &at(0))
            .unwrap()
            .into_iter()
            .map(|r| r.2)
            .eq(acknowledged.clone())
    );
    assert_eq!(
        put(&log, &at(0), None, b"and on it goes"),
        acknowledged.len() as u64
    );
}
