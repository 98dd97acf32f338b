//! [`ServerError`]: why a private server could not be had, and what to do.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// Any failure of a private server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error(
        "no {server} server was found on PATH or in {places}; install it (apt-get install {package}) or name one of \
         your own ({variable}=…)"
    )]
    Missing { server: &'static str, package: &'static str, places: &'static str, variable: &'static str },

    #[error(
        "servers do not run as root, and /etc/passwd has neither a user postgres nor nobody; add one, or run as another user"
    )]
    NoAccount,

    #[error("the system gave no random bytes for a password")]
    NoRandomness,

    #[error(
        "{dir} should be a folder of user id {owner} that nobody else can enter, and is not; \
         move it away, or run as the user that made it"
    )]
    UnsafeHome { dir: PathBuf, owner: u32 },

    #[error(
        "{path} is not readable as a record of private servers: {source}; restore it, or remove it and the servers' folder: \
             the sinks fill them again from the log"
    )]
    BadRecord { path: PathBuf, source: serde_json::Error },

    #[error(
        "{dir} holds a {server} whose password is lost (it was in {record}); restore that file, or remove the folder: \
         the sinks fill it again from the log"
    )]
    LostPassword { server: &'static str, dir: PathBuf, record: PathBuf },

    #[error(
        "{dir} was made by PostgreSQL {major}, which is not installed any more; install postgresql-{major}, or remove the \
         folder: the sinks fill it again from the log"
    )]
    OtherMajor { dir: PathBuf, major: String },

    #[error("{server} ended at its start ({status}); {log} says:\n{tail}")]
    Exited { server: &'static str, status: ExitStatus, log: PathBuf, tail: String },

    #[error("{server} (process {pid}) does not answer on port {port} after {seconds} s; see {log}")]
    Silent { server: &'static str, pid: i32, port: u16, seconds: u64, log: PathBuf },

    #[error("initdb failed ({status}): {output}")]
    Initdb { status: ExitStatus, output: String },

    #[error("cannot {doing} {path}: {source}")]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
}

impl ServerError {
    pub(super) fn io(doing: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { doing, path: path.to_path_buf(), source }
    }

    /// Whether trying again can help without anybody doing anything.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Exited { .. } | Self::Silent { .. } | Self::Io { .. })
    }
}
