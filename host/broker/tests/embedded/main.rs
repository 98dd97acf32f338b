//! The embedded log through its public interface: what it promises, and what crashes, full disks and damaged files
//! make of it. Real files, real processes, real errors.

#![allow(clippy::unwrap_used, reason = "tests")]

mod append_fetch;
mod compaction;
mod damage;
mod disk_full;
mod kill;
mod random;
mod retention;
mod support;
mod sync_failure;
mod topics;
