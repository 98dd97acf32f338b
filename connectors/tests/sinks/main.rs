//! Sinks and private servers against the real programs. Without PostgreSQL and Redis installed these tests fail, and
//! say which packages to install.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod bucket;
mod endpoint;
mod feed;
mod hosted;
mod http;
mod lab;
mod parquet;
mod pg;
mod pooled;
mod postgres_faults;
mod postgres_hours;
mod postgres_recovery;
mod postgres_rows;
mod redis;

mod servers;
mod tls;
