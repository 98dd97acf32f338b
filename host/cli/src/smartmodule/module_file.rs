//! A module's files and parameters as they are given on the command line.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::Path;

use anyhow::Result;
use clickmill_engine::manifest::Manifest;

use crate::exit::mistake;

/// Longest module that is read.
const MAX_WASM_BYTES: u64 = 32 << 20;
/// Longest manifest.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;
const MANIFEST: &str = "SmartModule.toml";

/// NAME=VALUE, for clap.
pub fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a parameter is NAME=VALUE")?;
    match name.is_empty() {
        true => Err("a parameter is NAME=VALUE".to_owned()),
        false => Ok((name.to_owned(), value.to_owned())),
    }
}

/// The values of NAME=FILE.
///
/// # Errors
/// A mistake that names the file which cannot be read.
pub fn params_of_files(files: &[(String, String)]) -> Result<BTreeMap<String, String>> {
    let value = |(name, path): &(String, String)| {
        let text = std::fs::read_to_string(path).map_err(|e| mistake(format!("--param-file {name}: {path}: {e}")))?;
        Ok((name.clone(), text))
    };
    files.iter().map(value).collect()
}

/// A module's bytes.
///
/// # Errors
/// A mistake where they cannot be read or are too many.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    read_at_most(path, MAX_WASM_BYTES)
}

/// A file of bounded length.
///
/// # Errors
/// As [`read`].
pub fn read_at_most(path: &Path, most: u64) -> Result<Vec<u8>> {
    let wrong = |e: io::Error| mistake(format!("{}: {e}", path.display()));
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(wrong)?.take(most + 1).read_to_end(&mut bytes).map_err(wrong)?;
    if bytes.len() as u64 > most {
        return Err(mistake(format!("{} is longer than {most} bytes", path.display())));
    }
    Ok(bytes)
}

/// The text of the SmartModule.toml beside a module, where there is one.
///
/// # Errors
/// A mistake where it is there and cannot be read, or is none.
pub fn manifest_beside(module: &Path) -> Result<Option<String>> {
    match module.with_file_name(MANIFEST) {
        path if path.is_file() => manifest(&path).map(Some),
        _ => Ok(None),
    }
}

/// The text of a manifest.
///
/// # Errors
/// A mistake where it cannot be read, or is none.
pub fn manifest(path: &Path) -> Result<String> {
    let text = read_at_most(path, MAX_MANIFEST_BYTES)?;
    let text = String::from_utf8(text).map_err(|_| mistake(format!("{} is not UTF-8", path.display())))?;
    Manifest::parse(&text).map_err(|e| mistake(format!("{}: {e}", path.display())))?;
    Ok(text)
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
