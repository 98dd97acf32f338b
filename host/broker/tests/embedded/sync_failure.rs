//! A sync that fails, for real: a file system on a loop device whose own disk is too small for it.

use std::path::{Path, PathBuf};
use std::process::Command;

use clickmill_broker::{Broker, BrokerError, EmbeddedLog};

use crate::support::*;

/// An ext4 of 64 MB in a file on a tmpfs of 8 MB: writes succeed, syncs fail once the 8 MB are full.
struct HollowDisk {
    outer: PathBuf,
    inner: PathBuf,
    device: Option<String>,
}

/// What the command prints, if it succeeds.
fn run(line: &[&str]) -> Option<String> {
    let out = Command::new(line[0]).args(&line[1..]).output().ok()?;
    let text = || String::from_utf8_lossy(&out.stdout).trim().to_owned();
    out.status.success().then(text)
}

impl HollowDisk {
    /// `None` where this process may not mount, or has no mkfs.ext4.
    fn mount(dir: &Path) -> Option<Self> {
        let (outer, inner) = (dir.join("outer"), dir.join("inner"));
        std::fs::create_dir(&outer).unwrap();
        std::fs::create_dir(&inner).unwrap();
        let mut disk = Self { outer, inner, device: None };
        let image = disk.outer.join("image").display().to_string();
        run(&["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk.outer.to_str()?])?;
        run(&["truncate", "-s", "64m", &image])?;
        run(&["mkfs.ext4", "-q", "-b", "4096", "-J", "size=4", "-E", "lazy_itable_init=1", &image])?;
        let device = run(&["losetup", "--find", "--show", &image])?;
        disk.device = Some(device.clone());
        // The loop device takes a write that is cut short for a success; pages are never cut short.
        let limit = format!("/sys/block/{}/queue/max_sectors_kb", device.strip_prefix("/dev/")?);
        std::fs::write(limit, "4").ok()?;
        run(&["mount", &device, disk.inner.to_str()?])?;
        Some(disk)
    }

    /// Makes room below and forgets what the system only has in memory.
    fn repair(&self) {
        let (outer, inner) = (self.outer.to_str().unwrap(), self.inner.to_str().unwrap());
        run(&["mount", "-o", "remount,size=100m", outer]).unwrap();
        run(&["umount", inner]).unwrap();
        run(&["mount", self.device.as_ref().unwrap(), inner]).unwrap();
    }
}

impl Drop for HollowDisk {
    fn drop(&mut self) {
        let device = self.device.take().unwrap_or_default();
        let (outer, inner) = (self.outer.display().to_string(), self.inner.display().to_string());
        run(&["umount", &inner]);
        run(&["losetup", "-d", &device]);
        run(&["umount", &outer]);
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
        assert!(matches!(again, Err(BrokerError::PartitionFailed { .. })), "{again:?}");
        assert_eq!(log.ends(&at(0)).unwrap().end.0, end);
        assert!(read_all(&*log, &at(0)).unwrap().into_iter().map(|r| r.2).eq(acknowledged.clone()));
    }
    disk.repair();
    let log = EmbeddedLog::open(&data, small(64 << 20)).unwrap();
    assert!(read_all(&log, &at(0)).unwrap().into_iter().map(|r| r.2).eq(acknowledged.clone()));
    assert_eq!(put(&log, &at(0), None, b"and on it goes"), acknowledged.len() as u64);
}
