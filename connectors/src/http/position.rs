//! How far a sink is whose server keeps no offset for it: a file below the data directory, written whole and synced.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::{fs, io};

use clickmill_broker::TopicPartition;
use clickmill_schemas::{Offset, RunId};
use serde::{Deserialize, Serialize};

use crate::replace::replace_file;
use crate::sink::SinkError;

/// What is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The topic that it is about: one of the same name may be another.
    pub topic_id: RunId,
    /// The endpoint has accepted everything below.
    pub offset: Offset,
    /// The end of the batch that begins there, where one may have been sent: it is sent again as it was.
    pub sending_to: Option<Offset>,
}

/// Where it is written down.
#[derive(Clone, Debug)]
pub struct PositionFile(PathBuf);

impl PositionFile {
    pub fn new(data_dir: &Path, connector: &str, at: &TopicPartition) -> Self {
        let folder = data_dir.join("connectors/offsets").join(connector);
        Self(folder.join(format!("{}-{}.json", at.topic, at.partition)))
    }

    /// None where there is none yet.
    ///
    /// # Errors
    /// [`SinkError::Config`] where the file is not ours, [`SinkError::Unavailable`] where it cannot be read.
    pub async fn load(&self) -> Result<Option<Position>, SinkError> {
        let path = self.0.clone();
        match blocking(move || fs::read(path)).await {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| {
                SinkError::Config(format!(
                    "{} is not a connector's offset ({e}); remove it to begin anew",
                    self.0.display()
                ))
            }),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(SinkError::unavailable("read the connector's offset", e)),
        }
    }

    /// # Errors
    /// [`SinkError::Unavailable`], and what was there is there still.
    pub async fn save(&self, position: Position) -> Result<(), SinkError> {
        let path = self.0.clone();
        let saved = blocking(move || save(&path, position)).await;
        saved.map_err(|e| SinkError::unavailable("write the connector's offset down", e))
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await?
}

fn save(path: &Path, position: Position) -> io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new("")))?;
    replace_file(path, &serde_json::to_vec(&position)?)
}
