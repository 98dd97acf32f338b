//! Where the files lie: a local folder, or a bucket. Writes, lists and removes them; knows nothing of what is in them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clickmill_broker::TopicPartition;
use clickmill_schemas::RunId;
use futures_util::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, RetryConfig};

use super::ParquetOptions;
use super::name::Span;
use crate::endpoint::ServerUrl;
use crate::sink::SinkError;
use crate::tls;

/// Attempts of the library's own; after them the sink waits, and says so.
const RETRIES: usize = 2;
const RETRY_TIME: Duration = Duration::from_secs(5);

/// A folder of folders, one for each run.
#[derive(Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
}

fn unavailable(doing: &'static str) -> impl Fn(object_store::Error) -> SinkError {
    move |e| SinkError::unavailable(doing, e)
}

impl Store {
    /// Makes a local folder where it is missing; connects to nothing yet.
    ///
    /// # Errors
    /// [`SinkError::Config`] for an address that is none, [`SinkError::Unavailable`] where the folder cannot be had.
    pub fn open(options: &ParquetOptions, url: &ServerUrl) -> Result<Self, SinkError> {
        let (scheme, rest) = url.0.split_once("://").unwrap_or(("file", &url.0));
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let bad = |e: object_store::Error| SinkError::Config(format!("{url} cannot be used: {e}"));
        let retry = RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_TIME, ..RetryConfig::default() };
        let client = ClientOptions::new()
            .with_timeout(Duration::from_millis(options.batch.timeout_ms))
            .with_allow_http(options.allow_http);
        tls::install();
        let objects: Arc<dyn ObjectStore> = match scheme {
            "file" => {
                let folder = PathBuf::from(rest);
                std::fs::create_dir_all(&folder).map_err(|e| SinkError::unavailable("make the folder", e))?;
                let folder = LocalFileSystem::new_with_prefix(folder).map_err(unavailable("open the folder"))?;
                return Ok(Self { objects: Arc::new(folder.with_fsync(true)), prefix: Path::default() });
            }
            "s3" => {
                let mut s3 = AmazonS3Builder::from_env().with_client_options(client).with_retry(retry);
                // Not every server that speaks S3 has the other way, and we remove few files.
                s3 = s3.with_bucket_name(bucket).with_disable_bulk_delete(true);
                if let (Some(id), Some(secret)) = (&options.access_key_id, &options.secret_access_key) {
                    s3 = s3.with_access_key_id(id).with_secret_access_key(secret);
                }
                if let Some(region) = &options.region {
                    s3 = s3.with_region(region);
                }
                if let Some(endpoint) = &options.endpoint {
                    s3 = s3.with_endpoint(endpoint);
                }
                Arc::new(s3.build().map_err(bad)?)
            }
            "gs" => {
                let mut gcs = GoogleCloudStorageBuilder::from_env().with_client_options(client).with_retry(retry);
                gcs = gcs.with_bucket_name(bucket);
                if let Some(key) = &options.service_account_key {
                    gcs = gcs.with_service_account_key(key);
                }
                Arc::new(gcs.build().map_err(bad)?)
            }
            _ => return Err(SinkError::Config(format!("{url} is neither a folder nor file://, s3:// or gs://"))),
        };
        Ok(Self { objects, prefix: Path::from(prefix) })
    }

    /// # Errors
    /// [`SinkError::Unavailable`] where it cannot be read.
    pub async fn answers(&self) -> Result<(), SinkError> {
        self.objects.list(Some(&self.prefix)).try_next().await.map_err(unavailable("list the files"))?;
        Ok(())
    }

    /// The files of a run and a partition.
    pub fn of(&self, run: RunId, at: &TopicPartition) -> Folder {
        let folder = self.prefix.clone().join(format!("run={run}"));
        Folder { objects: Arc::clone(&self.objects), folder, at: at.clone() }
    }
}

/// The files of one run.
pub struct Folder {
    objects: Arc<dyn ObjectStore>,
    folder: Path,
    at: TopicPartition,
}

impl Folder {
    fn path(&self, span: Span) -> Path {
        self.folder.clone().join(span.file_name(&self.at))
    }

    /// What is there, sorted; files of other names are nobody's concern.
    ///
    /// # Errors
    /// [`SinkError::Unavailable`].
    pub async fn list(&self) -> Result<Vec<Span>, SinkError> {
        let found = self.objects.list(Some(&self.folder)).try_collect::<Vec<_>>().await;
        let found = found.map_err(unavailable("list the files"))?;
        let span = |path: &Path| Span::of_file(path.filename()?, &self.at);
        let mut spans: Vec<Span> = found.iter().filter_map(|meta| span(&meta.location)).collect();
        spans.sort_unstable();
        Ok(spans)
    }

    /// Writes a file, whole or not at all, over one of its name.
    ///
    /// # Errors
    /// [`SinkError::Unavailable`].
    pub async fn put(&self, span: Span, bytes: Vec<u8>) -> Result<(), SinkError> {
        self.objects.put(&self.path(span), bytes.into()).await.map_err(unavailable("write a file"))?;
        Ok(())
    }

    /// # Errors
    /// [`SinkError::Unavailable`].
    pub async fn get(&self, span: Span) -> Result<Bytes, SinkError> {
        let found = self.objects.get(&self.path(span)).await.map_err(unavailable("read a file"))?;
        found.bytes().await.map_err(unavailable("read a file"))
    }

    /// Fails where a file is gone.
    ///
    /// # Errors
    /// [`SinkError::Unavailable`].
    pub async fn look(&self, span: Span) -> Result<(), SinkError> {
        self.objects.head(&self.path(span)).await.map_err(unavailable("look for the last file"))?;
        Ok(())
    }

    /// Removes a file; one that is gone is no failure.
    ///
    /// # Errors
    /// [`SinkError::Unavailable`].
    pub async fn remove(&self, span: Span) -> Result<(), SinkError> {
        match self.objects.delete(&self.path(span)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(unavailable("remove a file that another has taken in")(e)),
        }
    }
}
