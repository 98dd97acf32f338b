//! What a deployment sets: the parameters that come with `init`, as text.
//!
//! This module must not know which parameters a module has.

use std::fmt::Display;
use std::str::FromStr;

/// Set by Clickmill's host to `true` for the first stage of a chain, where a record's key is its producer's own.
pub const FIRST: &str = "clickmill.first";

/// Parameters of this prefix are the host's business and allowed for every module.
const HOST_PREFIX: &str = "clickmill.";

/// Names and values, in the order in which they came; of equal names the last one counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Parameters from names and values.
    #[must_use]
    pub fn new(params: &[(&str, &str)]) -> Self {
        Self(params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    /// Reads the input of `init`: `u16 count`, then names and values, each `u16 length` and UTF-8 (all big-endian).
    /// What comes after them (Fluvio's look-back) is not for us.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (count, mut rest) = bytes.split_first_chunk::<2>()?;
        let mut text = || {
            let (len, body) = rest.split_first_chunk::<2>()?;
            let (text, after) = body.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
            rest = after;
            Some(std::str::from_utf8(text).ok()?.to_owned())
        };
        (0..u16::from_be_bytes(*count)).map(|_| Some((text()?, text()?))).collect::<Option<_>>().map(Self)
    }

    /// The value of a parameter, if it is set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether `clickmill.first` is set to `true`.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.get(FIRST) == Some("true")
    }

    /// The value of a parameter as a number or the like, or the default where it is not set.
    ///
    /// # Errors
    /// Names the parameter and the value that does not parse.
    pub fn parse<T: FromStr<Err: Display>>(&self, name: &str, default: T) -> Result<T, String> {
        let Some(value) = self.get(name) else {
            return Ok(default);
        };
        value.trim().parse().map_err(|e| format!("parameter `{name}`: `{value}`: {e}"))
    }

    /// Refuses every parameter that is not in `known`, since a misspelt one would be without effect.
    ///
    /// # Errors
    /// Names the unknown parameter and the known ones.
    pub fn only(&self, known: &[&str]) -> Result<(), String> {
        let stranger = self.0.iter().find(|(name, _)| !known.contains(&&**name) && !name.starts_with(HOST_PREFIX));
        match stranger {
            None => Ok(()),
            Some((name, _)) if known.is_empty() => Err(format!("unknown parameter `{name}`: this module has none")),
            Some((name, _)) => Err(format!("unknown parameter `{name}`; known are: {}", known.join(", "))),
        }
    }

    /// Appends the encoding that [`Params::decode`] reads, with no look-back. Texts past 65,535 bytes are cut.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.0.len() as u16).to_be_bytes());
        for text in self.0.iter().flat_map(|(name, value)| [name, value]) {
            crate::guest::put_string(out, text);
        }
        out.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn params_read_back_and_no_cut_of_them_does() {
        let params = Params::new(&[("max", "12"), ("clickmill.first", "true"), ("é", "")]);
        let mut bytes = Vec::new();
        params.encode(&mut bytes);
        assert_eq!(Params::decode(&bytes), Some(params));
        for cut in 0..bytes.len() - 1 {
            assert_eq!(Params::decode(&bytes[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn errors_name_the_parameter() {
        let params = Params::new(&[("max", "12x"), ("clickmill.first", "true")]);
        assert!(params.parse::<u32>("max", 1).unwrap_err().contains("parameter `max`: `12x`"));
        assert_eq!(params.parse::<u32>("min", 1), Ok(1));
        assert!(params.only(&["max"]).is_ok());
        assert!(params.only(&["min"]).unwrap_err().contains("`max`; known are: min"));
        assert!(params.is_first());
    }
}
