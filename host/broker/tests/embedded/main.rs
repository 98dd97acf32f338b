//! The embedded log through its public interface: what it promises, and what crashes, full disks and damaged files
//! make of it. Real files, real processes, real errors.

mod append_fetch;
mod compaction;
mod damage;
mod disk_full;
mod kill;
mod random;
mod retention;
mod support;
mod topics;
