//! A folder of connector files, and the files that the program comes with.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::{BadFile, ConnectorFile, Names, Place};

/// What is used where a folder has no files: name and text.
pub const BUILTIN: [(&str, &str); 4] = [
    ("connectors/postgres-sink.yaml", include_str!("../../postgres-sink.yaml")),
    ("connectors/redis-sink.yaml", include_str!("../../redis-sink.yaml")),
    ("connectors/parquet-sink.yaml", include_str!("../../parquet-sink.yaml")),
    ("connectors/http-sink.yaml", include_str!("../../http-sink.yaml")),
];

/// All that is wrong with the files of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadFolder(pub Vec<BadFile>);

impl fmt::Display for BadFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }
}

impl std::error::Error for BadFolder {}

/// The connectors of a folder's `*.yaml` and `*.yml`, in order of the files' names; those of [`BUILTIN`] where it has none,
/// or is not there.
///
/// # Errors
/// [`BadFolder`] with every problem of every file; two connectors of one name are one.
pub fn read(folder: &Path, names: &dyn Names) -> Result<Vec<ConnectorFile>, BadFolder> {
    let paths = files(folder).map_err(|e| BadFolder(vec![e]))?;
    let own = |path: &str, text: &str| {
        let file = ConnectorFile::parse(Path::new(path), text, names)?;
        Ok(ConnectorFile { is_builtin: true, ..file })
    };
    let read = match paths.is_empty() {
        true => BUILTIN.map(|(path, text)| own(path, text)).to_vec(),
        false => paths.iter().map(|path| ConnectorFile::read(path, names)).collect(),
    };
    let (mut connectors, mut bad) = (Vec::<ConnectorFile>::new(), Vec::new());
    let mut places = BTreeMap::<String, PathBuf>::new();
    for result in read {
        match result {
            Err(e) => bad.push(e),
            Ok(file) => match places.insert(file.meta.name.clone(), file.path.clone()) {
                None => connectors.push(file),
                Some(other) => {
                    let message = format!("a connector named `{}` is in {} too", file.meta.name, other.display());
                    bad.push(BadFile::one(&file.path, file.name_at, message));
                }
            },
        }
    }
    if bad.is_empty() { Ok(connectors) } else { Err(BadFolder(bad)) }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, BadFile> {
    let failed = |e: std::io::Error| BadFile::one(folder, Place::default(), format!("cannot be read: {e}"));
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|ext| ext == "yaml" || ext == "yml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
