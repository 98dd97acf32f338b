//! The Redis sink: one hash per window, sums over all partitions, gone some minutes after its last write.
//!
//! `hash.rs` says what is in a hash, `live.rs` what is summed, `sink.rs` how both get there, the two scripts what is
//! compared before anything is written. No command or script touches keys of two slots: a cluster will do.

mod hash;
mod link;
mod live;
mod remove;
mod sink;
mod state;
mod verify;

use std::path::PathBuf;

use clickmill_schemas::RunId;
use serde::{Deserialize, Serialize};

pub(crate) use link::{WITHOUT_TLS, answers, check_address, goes_without_tls};
pub use sink::RedisSink;
pub(crate) use verify::Held;

use crate::SinkSource;
use crate::endpoint::{Endpoint, ServerUrl};
use crate::hidden::Hidden;
use crate::letters::Letters;
use crate::runner::{BatchOptions, SinkHandle, SinkService};
use crate::sink::{OnOtherRun, SinkError};

/// How windows get into Redis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RedisOptions {
    /// Name of this sink: its offset is kept under it. Default `redis`. Since 0.1.
    pub name: String,
    /// `redis://user:password@host:port/database`, or `rediss://` for TLS. Default: a private server. Since 0.1.
    pub url: Option<ServerUrl>,
    /// Authorities that a `rediss://` server's certificate must come from, PEM; default: those that the system knows. Since 0.1.
    pub tls_ca_file: Option<PathBuf>,
    /// Where Redis holds another run's windows: `refuse`, `replace`, or `keep` (they expire by themselves).
    /// Default `refuse`. Since 0.1.
    pub on_other_run: OnOtherRun,
    /// Most keys in memory, over all windows that are not final; beyond it the oldest windows are given up and taken out
    /// of Redis. Default 300000, about 100 MB with three partitions. Since 0.1.
    pub max_keys: usize,
    pub batch: BatchOptions,
    /// What must not be printed.
    #[serde(skip)]
    pub hidden: Hidden,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            name: "redis".to_owned(),
            url: None,
            tls_ca_file: None,
            on_other_run: OnOtherRun::default(),
            max_keys: 300_000,
            batch: BatchOptions::default(),
            hidden: Hidden::default(),
        }
    }
}

impl RedisOptions {
    fn state_key(&self) -> String {
        format!("clickmill:sink:{}", self.name)
    }

    /// Removes the run's windows and this connector's state.
    ///
    /// # Errors
    /// [`SinkError`]; what is left then is removed by the next attempt, or written over.
    pub(crate) async fn empty(&self, endpoint: Endpoint, run: RunId) -> Result<(), SinkError> {
        let mut connection = link::connect(&endpoint.redis().await?, self).await?;
        // First: from here on a sink that is started fills it anew.
        let forget = redis::cmd("DEL").arg(self.state_key()).exec_async(&mut connection).await;
        forget.map_err(link::unavailable("forget the sink's state"))?;
        remove::remove(&mut connection, remove::Of::Run(run)).await
    }

    /// The sink; `endpoint` says where, `source` from where.
    #[must_use]
    pub fn windows(&self, endpoint: Endpoint, source: &SinkSource) -> (SinkService<RedisSink>, SinkHandle) {
        let at = source.windows.clone();
        let letters = Letters::new(source, &self.name, &at, &self.hidden);
        let sink = RedisSink::new(self.clone(), endpoint, source, letters);
        SinkService::new(self.name.clone(), sink, source.broker.clone(), at, (self.batch.clone(), self.hidden.clone()))
    }
}
