//! The flags that say which module, for which stage, with which parameters: of `deploy`, `plan` and `shadow start`.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use anyhow::Result;
use clickmill_pipeline::deployment::body::DeployBody;

use crate::exit::mistake;

/// Longest module that is read.
pub(super) const MAX_WASM_BYTES: u64 = 32 << 20;
/// Longest manifest.
pub(super) const MAX_MANIFEST_BYTES: u64 = 1 << 20;

#[derive(Debug, clap::Args)]
pub struct ModuleArgs {
    /// The module; without one, the module in force gets other parameters
    #[arg(value_name = "FILE.wasm")]
    file: Option<PathBuf>,
    /// The stage to replace, or to add [default: the name in the SmartModule.toml, else the file's]
    #[arg(long)]
    stage: Option<String>,
    /// Add the stage in front of this one
    #[arg(long, value_name = "STAGE", conflicts_with = "after")]
    before: Option<String>,
    /// Add the stage behind this one
    #[arg(long, value_name = "STAGE")]
    after: Option<String>,
    /// Set a parameter; those not named stay as they are
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = pair)]
    params: Vec<(String, String)>,
    /// Set a parameter to a file's content
    #[arg(long = "param-file", value_name = "NAME=FILE", value_parser = pair)]
    param_files: Vec<(String, String)>,
    /// Let a parameter go back to its default
    #[arg(long = "unset-param", value_name = "NAME")]
    unset_params: Vec<String>,
    /// Its SmartModule.toml [default: the one beside FILE.wasm]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
}

pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a parameter is NAME=VALUE".to_owned()),
    }
}

impl ModuleArgs {
    /// As a deploy has it, with the files read.
    ///
    /// # Errors
    /// A mistake where a file cannot be read.
    pub fn body(&self) -> Result<DeployBody> {
        let mut body = DeployBody {
            stage: self.stage.clone(),
            before: self.before.clone(),
            after: self.after.clone(),
            params: self.params.iter().cloned().collect(),
            unset_params: self.unset_params.clone(),
            ..DeployBody::default()
        };
        for (name, path) in &self.param_files {
            let text =
                std::fs::read_to_string(path).map_err(|e| mistake(format!("--param-file {name}: {path}: {e}")))?;
            body.params.insert(name.clone(), text);
        }
        if let Some(file) = &self.file {
            body.set_wasm(&read(file, MAX_WASM_BYTES)?);
        }
        if let Some(path) = self.manifest_file() {
            let text = read(&path, MAX_MANIFEST_BYTES)?;
            let text = String::from_utf8(text).map_err(|_| mistake(format!("{} is not UTF-8", path.display())))?;
            body.manifest = Some(text);
        } else if body.stage.is_none() {
            body.stage = self.file.as_deref().and_then(Path::file_stem).map(|s| s.to_string_lossy().into_owned());
        }
        Ok(body)
    }

    /// The manifest that is named, or the one that lies beside the module.
    fn manifest_file(&self) -> Option<PathBuf> {
        let beside = || {
            let path = self.file.as_deref()?.parent()?.join("SmartModule.toml");
            path.is_file().then_some(path)
        };
        self.manifest.clone().or_else(beside)
    }
}

pub(super) fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let wrong = |e: io::Error| mistake(format!("{}: {e}", path.display()));
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(wrong)?.take(most + 1).read_to_end(&mut bytes).map_err(wrong)?;
    if bytes.len() as u64 > most {
        return Err(mistake(format!("{} is longer than {most} bytes", path.display())));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_a_name_and_all_that_follows_the_first_sign() {
        assert_eq!(pair("a=b=c").unwrap(), ("a".to_owned(), "b=c".to_owned()));
        assert_eq!(pair("a=").unwrap(), ("a".to_owned(), String::new()));
        assert!(pair("a").is_err() && pair("=b").is_err());
    }
}
