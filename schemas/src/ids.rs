//! Newtypes for positions and identities, so that an offset is never taken for a partition.

use std::fmt;
use std::str::FromStr;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "host", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                s.parse().map(Self)
            }
        }
    };
}

number! {
    /// Position of a record in a partition, from 0. An exclusive end is the next offset to be written.
    Offset(u64)
}
number! {
    /// Number of a partition within its topic, from 0.
    PartitionId(u32)
}
number! {
    /// Term of a worker's ownership of a partition, from 1; a higher epoch fences the lower ones.
    Epoch(u64)
}
number! {
    /// Number of times that the window state of a run was reset; generations cover disjoint offsets.
    Generation(u32)
}
number! {
    /// A deployment: the offset of its record in the `deployments` topic.
    DeploymentId(u64)
}

impl Offset {
    /// The offset `n` records further on; the greatest there is where somebody asks for one behind it, which no log reaches.
    #[must_use]
    pub const fn plus(self, n: u64) -> Self {
        Self(self.0.saturating_add(n))
    }
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident[$len:literal]) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl FromStr for $name {
            type Err = BadHex;
            fn from_str(s: &str) -> Result<Self, BadHex> {
                let bytes = s.as_bytes();
                if bytes.len() != $len * 2 {
                    return Err(BadHex { expected: $len * 2, text: s.to_owned() });
                }
                let mut out = [0u8; $len];
                for (i, pair) in bytes.chunks_exact(2).enumerate() {
                    let digit = |b: u8| (b as char).to_digit(16);
                    match (digit(pair[0]), digit(pair[1])) {
                        (Some(h), Some(l)) => out[i] = (h * 16 + l) as u8,
                        _ => return Err(BadHex { expected: $len * 2, text: s.to_owned() }),
                    }
                }
                Ok(Self(out))
            }
        }

        #[cfg(feature = "host")]
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        #[cfg(feature = "host")]
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = String::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// A text that should have been lower-case hex of a known length.
#[derive(Debug, thiserror::Error)]
#[error("expected {expected} hex digits, found {text:?}")]
pub struct BadHex {
    expected: usize,
    text: String,
}

hex_id! {
    /// Random identity of a run, made with its input topic. Sinks know whose rows they hold by it.
    RunId[16]
}
hex_id! {
    /// SHA-256 of a module's bytes.
    ModuleDigest[32]
}
hex_id! {
    /// Hash of the contents of what `produce` was given: two files of one name are two sources.
    SourceId[8]
}

impl From<u64> for SourceId {
    fn from(hash: u64) -> Self {
        Self(hash.to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_ids_read_what_they_write_and_refuse_the_rest() {
        let id = RunId([0xab; 16]);
        assert_eq!(id.to_string().parse::<RunId>().unwrap(), id);
        assert!("xy".parse::<RunId>().is_err());
        assert!("zz".repeat(16).parse::<RunId>().is_err());
        assert!("é".repeat(16).parse::<RunId>().is_err());
    }
}
