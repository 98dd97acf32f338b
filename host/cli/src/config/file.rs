//! Reads clickmill.yaml; its errors name file, line, column, the key, and what would be valid there.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::error::ConfigError;
use super::{Config, DEFAULT_FILE};

/// A config file's text, kept to find places in it.
pub struct ConfigFile {
    path: PathBuf,
    text: String,
}

/// Reads a file that must be there.
pub fn read(path: &Path) -> Result<ConfigFile, ConfigError> {
    read_if_present(path)?.ok_or_else(|| {
        ConfigError::one(format!(
            "there is no config file {}: leave --config out to use the defaults (and ./{DEFAULT_FILE} when there is one)",
            path.display()
        ))
    })
}

/// Reads a file that may be missing.
pub fn read_if_present(path: &Path) -> Result<Option<ConfigFile>, ConfigError> {
    match fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8(bytes).map_err(|error| {
                let at = error.utf8_error().valid_up_to();
                ConfigError::one(format!("{}: byte {at} is not valid UTF-8", path.display()))
            })?;
            Ok(Some(ConfigFile { path: path.to_path_buf(), text }))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ConfigError::one(format!("cannot read the config file {}: {error}", path.display()))),
    }
}

impl ConfigFile {
    /// The file's values over the defaults.
    pub fn parse(&self) -> Result<Config, ConfigError> {
        // A file of comments alone is one without values.
        let is_blank = |line: &str| matches!(line.trim_start().chars().next(), None | Some('#'));
        if self.text.trim_start_matches('\u{feff}').lines().all(is_blank) {
            return Ok(Config::default());
        }
        let mut key = String::new();
        let parsed = serde_saphyr::with_deserializer_from_str(&self.text, |yaml| {
            serde_path_to_error::deserialize::<_, Config>(yaml).map_err(|error| {
                key = error.path().to_string();
                error.into_inner()
            })
        });
        parsed.map_err(|error| ConfigError::one(self.explain(&error, &key)))
    }

    fn explain(&self, error: &serde_saphyr::Error, key: &str) -> String {
        // Without the lines around it: they may hold a password.
        let error = error.without_snippet();
        let place = match error.location() {
            Some(at) if at.line() > 0 => {
                format!("{}:{}:{}", self.path.display(), at.line(), at.column())
            }
            _ => self.path.display().to_string(),
        };
        if let serde_saphyr::Error::SerdeUnknownField { field, expected, .. } = error {
            let parent = key.strip_suffix(field.as_str()).unwrap_or(key).trim_end_matches('.');
            let within =
                if parent.is_empty() || parent == "." { "at the top".to_owned() } else { format!("in `{parent}`") };
            return format!("{place}: unknown key `{field}` {within}; valid keys: {}", expected.join(", "));
        }
        let message = plain_message(error);
        // serde_path_to_error's names for the top and for a key that it could not tell.
        match key {
            "" | "." | "?" => format!("{place}: {message}"),
            _ => format!("{place}: `{key}`: {message}"),
        }
    }

    /// `file:line:column` of the key's value, when the file sets it.
    pub fn place(&self, key: &str) -> Option<String> {
        let segments: Vec<&str> = key.split(['.', '[', ']']).filter(|part| !part.is_empty()).collect();
        let found =
            serde_saphyr::with_deserializer_from_str(&self.text, |yaml| Finder { rest: &segments }.deserialize(yaml));
        let (line, column) = found.ok()??;
        Some(format!("{}:{line}:{column}", self.path.display()))
    }
}

/// The parser's message in a user's words, and without the place that it appends: ours stands in front.
fn plain_message(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error;
    match error {
        Error::SerdeInvalidType { unexpected, expected, .. }
        | Error::SerdeInvalidValue { unexpected, expected, .. } => format!("{unexpected} is not {expected}"),
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            format!("unknown value `{variant}`; valid values: {}", expected.join(", "))
        }
        Error::SerdeMissingField { field, .. } => format!("the key `{field}` is missing"),
        Error::DuplicateMappingKey { key, .. } => {
            format!("the key `{}` is there twice", key.as_deref().unwrap_or_default())
        }
        Error::InvalidScalar { ty: "boolean", .. } => "must be true or false".to_owned(),
        Error::InvalidScalar { ty: "u32" | "u64", .. } => "must be a whole number, 0 or more, in digits".to_owned(),
        Error::NullIntoString { .. } => "must have a value".to_owned(),
        Error::Unexpected { expected: "mapping start", .. } => "must be a mapping of keys".to_owned(),
        Error::Unexpected { expected: "sequence start", .. } => "must be a list".to_owned(),
        Error::Unexpected { expected: "string scalar", .. } => "must be a single value".to_owned(),
        Error::Message { msg, .. } => msg.clone(),
        other => {
            let text = other.to_string();
            let first = text.lines().next().unwrap_or_default();
            first.split(" at line ").next().unwrap_or(first).trim_start_matches("error: ").to_owned()
        }
    }
}

/// Walks down a path of keys and list positions to the place of its value.
struct Finder<'a> {
    rest: &'a [&'a str],
}

type Place = Option<(u64, u64)>;

impl<'de> DeserializeSeed<'de> for Finder<'_> {
    type Value = Place;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Place, D::Error> {
        match self.rest.first() {
            None => {
                let here = Spanned::<IgnoredAny>::deserialize(deserializer)?.referenced;
                Ok(Some((here.line(), here.column())))
            }
            Some(segment) if segment.bytes().all(|byte| byte.is_ascii_digit()) => deserializer.deserialize_seq(self),
            Some(_) => deserializer.deserialize_map(self),
        }
    }
}

impl<'de> Visitor<'de> for Finder<'_> {
    type Value = Place;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a mapping or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Place, A::Error> {
        let Some((wanted, rest)) = self.rest.split_first() else {
            return Ok(None);
        };
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == *wanted {
                found = map.next_value_seed(Finder { rest })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Place, A::Error> {
        let Some((wanted, rest)) = self.rest.split_first() else {
            return Ok(None);
        };
        let mut found = None;
        for index in 0_usize.. {
            let is_it = wanted.parse() == Ok(index);
            let item = if is_it {
                list.next_element_seed(Finder { rest })?
            } else {
                list.next_element::<IgnoredAny>()?.map(|_| None)
            };
            match item {
                None => break,
                Some(place) if is_it => found = place,
                Some(_) => {}
            }
        }
        Ok(found)
    }
}
