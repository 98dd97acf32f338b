//! What can go wrong: with the set-up ([`EngineError`]), with a batch ([`ProcessError`]), in a module ([`Fault`]).

use std::path::PathBuf;

use clickmill_schemas::ModuleDigest;

use crate::imports;

/// A module that could not be compiled, or a chain that could not be made or restored.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("wasmtime could not be set up: {0}")]
    Setup(String),
    #[error("compile cache {}: {problem}; it must be a directory that only this user can write", path.display())]
    CacheDir { path: PathBuf, problem: String },
    #[error("module {sha256} does not compile: {message}")]
    Compile { sha256: ModuleDigest, message: String },
    #[error("module of {bytes} bytes is over the limit of {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("module {sha256} is more than is compiled: {problem}")]
    TooMuch { sha256: ModuleDigest, problem: String },
    #[error(
        "module {sha256} imports {import}; a SmartModule may import env.copy_records (i32, i32), env.clickmill_log \
        (i32, i32) and those functions of wasi_snapshot_preview1 that reach nothing outside: {}",
        imports::harmless()
    )]
    Import { sha256: ModuleDigest, import: String },
    #[error("module {sha256}: {problem}")]
    Export { sha256: ModuleDigest, problem: String },
    #[error("a chain needs at least one stage")]
    NoStages,
    #[error("two stages are called {0}; states and verdicts find a stage by its name")]
    SameName(String),
    #[error("stages {0} and {1} both keep windows; a chain has one watermark and so one such stage")]
    TwoWindowStages(String, String),
    #[error("stage {stage} has a fuel limit, and the engine does not meter")]
    NotMetering { stage: String },
    #[error("stage {stage}: {problem}")]
    Params { stage: String, problem: String },
    #[error("state of the chain: {0}")]
    State(String),
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// A module failed: it trapped, ran into a limit, refused, or gave malformed output.
///
/// The chain that reports it is unusable until it is restored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stage {stage} (module {sha256}): {message}")]
pub struct Fault {
    pub stage: String,
    pub sha256: ModuleDigest,
    pub message: String,
}

/// A batch that was not processed.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The batch could not be read. The chain is as it was before.
    #[error("batch cannot be read: {0}")]
    Source(Box<dyn std::error::Error + Send + Sync>),
}
