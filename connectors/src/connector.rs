//! [`Connector`]: one connector as it is wanted, whatever its type; checked, and not running.
//!
//! Knows the types and what they have in common. What runs them is [`crate::set`].

use crate::endpoint::ServerUrl;
use crate::file::Type;
use crate::transform::TransformSpec;
use crate::{Hidden, HttpOptions, ParquetOptions, PostgresOptions, RedisOptions, SinkError};

/// The topic of windows.
pub(crate) const CTR_WINDOWS: &str = "ctr_windows";

/// One connector, as it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connector {
    Postgres(PostgresOptions),
    Redis(RedisOptions),
    Parquet(ParquetOptions),
    Http(HttpOptions),
}

impl Connector {
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Postgres(options) => &options.name,
            Self::Redis(options) => &options.name,
            Self::Parquet(options) => &options.name,
            Self::Http(options) => &options.name,
        }
    }

    #[must_use]
    pub const fn r#type(&self) -> Type {
        match self {
            Self::Postgres(_) => Type::PostgresSink,
            Self::Redis(_) => Type::RedisSink,
            Self::Parquet(_) => Type::ParquetSink,
            Self::Http(_) => Type::HttpSink,
        }
    }

    /// Why it runs nothing, where nothing is set for it to do.
    #[must_use]
    pub const fn off(&self) -> Option<&'static str> {
        match self {
            Self::Http(HttpOptions { endpoint: None, .. }) => {
                Some("no endpoint: set http.endpoint in its file, or sinks.http.url in the config")
            }
            _ => None,
        }
    }

    /// Where it writes to; none where that is a private server, a folder of the data directory, or nowhere.
    #[must_use]
    pub const fn url(&self) -> Option<&ServerUrl> {
        match self {
            Self::Postgres(options) => options.url.as_ref(),
            Self::Redis(options) => options.url.as_ref(),
            Self::Parquet(options) => options.url.as_ref(),
            Self::Http(options) => options.endpoint.as_ref(),
        }
    }

    /// What must not be printed of it.
    #[must_use]
    pub const fn hidden(&self) -> &Hidden {
        match self {
            Self::Postgres(options) => &options.hidden,
            Self::Redis(options) => &options.hidden,
            Self::Parquet(options) => &options.hidden,
            Self::Http(options) => &options.hidden,
        }
    }

    /// What the records of a topic go through on their way to the server.
    #[must_use]
    pub fn transforms(&self, topic: &str) -> &[TransformSpec] {
        match self {
            // Partials are for those who merge them: no module has a place there.
            Self::Postgres(options) if topic != CTR_WINDOWS => &options.transforms,
            Self::Http(options) if topic != CTR_WINDOWS => &options.transforms,
            Self::Postgres(_) | Self::Redis(_) | Self::Parquet(_) | Self::Http(_) => &[],
        }
    }

    /// Whether its server takes us in; the server, without secrets. A private one is not asked: it is started when it is
    /// needed.
    ///
    /// # Errors
    /// [`SinkError`].
    pub async fn answers(&self) -> Result<String, SinkError> {
        let Some(url) = self.url() else {
            return Ok(match self {
                Self::Postgres(_) | Self::Redis(_) => "a private server".to_owned(),
                Self::Parquet(_) => "a folder of the data directory".to_owned(),
                Self::Http(_) => "off".to_owned(),
            });
        };
        match self {
            Self::Postgres(options) => crate::postgres::answers(url, &options.reach()).await?,
            Self::Redis(options) => crate::redis::answers(url, options).await?,
            Self::Parquet(options) => options.answers(url).await?,
            Self::Http(options) => options.answers(url).await?,
        }
        Ok(url.masked())
    }
}
