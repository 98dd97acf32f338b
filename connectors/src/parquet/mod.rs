//! The Parquet sink: windows as files in a folder or an object store, one folder for each run.
//!
//! Each file covers a range of offsets and is named by it, and the files that are there are the sink's offset. Of a range
//! a file has the newest version of each partial, so that the same range gives the same file. `name.rs` says what the
//! files' names tell, `held.rs` what is in memory of a range that is not whole yet, `table.rs` what is in a file,
//! `store.rs` where they lie, `sink.rs` when one is written.

mod held;
mod name;
mod sink;
mod store;
mod table;
mod verify;

use clickmill_broker::TopicPartition;
use clickmill_schemas::RunId;
use serde::{Deserialize, Serialize};

pub use sink::ParquetSink;
pub(crate) use verify::held;

use crate::SinkSource;
use crate::endpoint::{Endpoint, ServerUrl};
use crate::hidden::Hidden;
use crate::letters::Letters;
use crate::runner::{BatchOptions, SinkHandle, SinkService};
use crate::sink::SinkError;
use store::Store;

/// How windows get into files.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ParquetOptions {
    /// Name of this sink. Default `parquet`. Since 0.1.
    pub name: String,
    /// A folder, `file:///folder`, `s3://bucket/prefix` or `gs://bucket/prefix`. Default: `processed/windows` in the data
    /// directory. Since 0.1.
    pub url: Option<ServerUrl>,
    /// A file covers so many offsets of the topic. Default 100000. Since 0.1.
    pub offsets_per_file: u64,
    /// Credentials of S3; without them, as AWS's own tools find theirs. Since 0.1.
    pub access_key_id: Option<String>,
    pub secret_access_key: Option<String>,
    /// Region of S3. Default `us-east-1`. Since 0.1.
    pub region: Option<String>,
    /// Address of a server that speaks S3, as MinIO does. Default: AWS's own. Since 0.1.
    pub endpoint: Option<String>,
    /// Take an `endpoint` that is `http://`. Default false. Since 0.1.
    pub allow_http: bool,
    /// A service account's key (JSON) for GCS; without it, as Google's own tools find theirs. Since 0.1.
    pub service_account_key: Option<String>,
    pub batch: BatchOptions,
    /// What must not be printed.
    #[serde(skip)]
    pub hidden: Hidden,
}

impl Default for ParquetOptions {
    fn default() -> Self {
        Self {
            name: "parquet".to_owned(),
            url: None,
            offsets_per_file: 100_000,
            access_key_id: None,
            secret_access_key: None,
            region: None,
            endpoint: None,
            allow_http: false,
            service_account_key: None,
            batch: BatchOptions::default(),
            hidden: Hidden::default(),
        }
    }
}

/// Without the credentials, wherever they come from.
impl std::fmt::Debug for ParquetOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParquetOptions")
            .field("name", &self.name)
            .field("url", &self.url)
            .field("offsets_per_file", &self.offsets_per_file)
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .field("allow_http", &self.allow_http)
            .field("batch", &self.batch)
            .finish_non_exhaustive()
    }
}

impl ParquetOptions {
    /// The sink; `endpoint` says where, `source` from where.
    #[must_use]
    pub fn windows(&self, endpoint: Endpoint, source: &SinkSource) -> (SinkService<ParquetSink>, SinkHandle) {
        let at = source.windows.clone();
        let letters = Letters::new(source, &self.name, &at, &self.hidden);
        let sink = ParquetSink::new(self.clone(), endpoint, source, letters);
        SinkService::new(self.name.clone(), sink, source.broker.clone(), at, (self.batch.clone(), self.hidden.clone()))
    }

    /// Removes the files of a run.
    ///
    /// # Errors
    /// [`SinkError`]; what is left then is removed by the next attempt, or written over.
    pub(crate) async fn empty(&self, endpoint: Endpoint, run: RunId, at: &TopicPartition) -> Result<(), SinkError> {
        let folder = Store::open(self, &endpoint.windows_folder())?.of(run, at);
        // The last ones first: what is left ends before a gap.
        for span in folder.list().await?.into_iter().rev() {
            folder.remove(span).await?;
        }
        Ok(())
    }

    /// Whether the folder or the bucket can be read.
    ///
    /// # Errors
    /// As a session's.
    pub(crate) async fn answers(&self, url: &ServerUrl) -> Result<(), SinkError> {
        Store::open(self, url)?.answers().await
    }
}
