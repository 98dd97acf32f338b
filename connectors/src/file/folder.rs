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
    let read = sources(folder)?.iter().map(|source| source.read(names)).collect();
    let (mut connectors, mut bad) = (Vec::new(), Vec::new());
    for result in each_name_once(read) {
        match result {
            Ok(file) => connectors.push(file),
            Err(e) => bad.push(e),
        }
    }
    if bad.is_empty() { Ok(connectors) } else { Err(BadFolder(bad)) }
}

/// The connector of a name, of the same files: what the others need and what is wrong with them is not asked. None where no file
/// that can be read so far gives the name.
///
/// # Errors
/// As [`read`], of the files of that name.
pub fn read_named(folder: &Path, name: &str, names: &dyn Names) -> Result<Option<ConnectorFile>, BadFolder> {
    let sources = sources(folder)?;
    let of_name = sources.iter().filter(|source| source.name(names).is_some_and(|given| given == name));
    let mut found = None;
    for result in each_name_once(of_name.map(|source| source.read(names)).collect()) {
        found = Some(result.map_err(|e| BadFolder(vec![e]))?);
    }
    Ok(found)
}

/// The names that a folder's files give their connectors, as far as they can be read.
///
/// # Errors
/// [`BadFolder`] where the folder itself cannot be read.
pub fn connector_names(folder: &Path, names: &dyn Names) -> Result<Vec<String>, BadFolder> {
    Ok(sources(folder)?.iter().filter_map(|source| source.name(names)).collect())
}

/// Files as they were read; of several connectors of one name all but the first are a mistake.
#[must_use]
pub fn each_name_once(read: Vec<Result<ConnectorFile, BadFile>>) -> Vec<Result<ConnectorFile, BadFile>> {
    let mut places = BTreeMap::<String, PathBuf>::new();
    let mut once = |file: ConnectorFile| match places.insert(file.meta.name.clone(), file.path.clone()) {
        None => Ok(file),
        Some(other) => {
            let message = format!("a connector named `{}` is in {} too", file.meta.name, other.display());
            Err(BadFile::one(&file.path, file.name_at, message))
        }
    };
    read.into_iter().map(|result| result.and_then(&mut once)).collect()
}

/// A file of the folder, or one of [`BUILTIN`].
enum Source {
    File(PathBuf),
    Builtin(&'static str, &'static str),
}

impl Source {
    fn read(&self, names: &dyn Names) -> Result<ConnectorFile, BadFile> {
        match self {
            Self::File(path) => ConnectorFile::read(path, names),
            Self::Builtin(path, text) => {
                let file = ConnectorFile::parse(Path::new(path), text, names)?;
                Ok(ConnectorFile { is_builtin: true, ..file })
            }
        }
    }

    fn name(&self, names: &dyn Names) -> Option<String> {
        match self {
            Self::File(path) => ConnectorFile::name_in(&super::read_text(path).ok()?, names),
            Self::Builtin(_, text) => ConnectorFile::name_in(text, names),
        }
    }
}

fn sources(folder: &Path) -> Result<Vec<Source>, BadFolder> {
    let paths = files(folder).map_err(|e| BadFolder(vec![e]))?;
    Ok(match paths.is_empty() {
        true => BUILTIN.map(|(path, text)| Source::Builtin(path, text)).into(),
        false => paths.into_iter().map(Source::File).collect(),
    })
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
