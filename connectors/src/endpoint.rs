//! Which server a sink writes to: one that somebody named, or a private one. Keeps passwords out of what is printed.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::servers::{ServerError, Servers};

/// An address that may hold a password: printed without it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServerUrl(pub String);

impl ServerUrl {
    /// `scheme://user:***@host/…`; what is no such address, or may hide a password elsewhere, as `***`.
    #[must_use]
    pub fn masked(&self) -> String {
        let Some((scheme, rest)) = self.0.split_once("://") else {
            return "***".to_owned();
        };
        // What stands behind a webhook's host is often all that protects it.
        let hides_path = scheme == "http" || scheme == "https";
        let (authority, behind) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        // A password with such a sign in it, not encoded, begins before it and ends behind it.
        if behind.contains('@') {
            return format!("{scheme}://***");
        }
        // Nor is what stands for a port.
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        if host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']') && port.parse::<u16>().is_err()) {
            return format!("{scheme}://***");
        }
        let path = match behind.split(['?', '#']).next().unwrap_or_default() {
            path if hides_path && path.len() > 1 => "/***",
            path => path,
        };
        match authority.rsplit_once('@') {
            None => format!("{scheme}://{authority}{path}"),
            Some((login, host)) => {
                let user = login.split(':').next().unwrap_or_default();
                let hidden = if login.contains(':') { ":***" } else { "" };
                format!("{scheme}://{user}{hidden}@{host}{path}")
            }
        }
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

/// Folder of the Parquet files in the data directory, where no other is named.
const WINDOWS_FOLDER: &str = "processed/windows";

/// Where a sink finds its server, asked again at every connection.
#[derive(Clone)]
pub enum Endpoint {
    /// One that somebody named.
    Named(ServerUrl),
    /// A private one, started where it does not run.
    Private(Servers),
}

impl Endpoint {
    /// # Errors
    /// [`ServerError`] where the private one cannot be had.
    pub async fn postgres(&self) -> Result<ServerUrl, ServerError> {
        match self {
            Self::Named(url) => Ok(url.clone()),
            Self::Private(servers) => servers.postgres().await.map(ServerUrl),
        }
    }

    /// # Errors
    /// [`ServerError`] where the private one cannot be had.
    pub async fn redis(&self) -> Result<ServerUrl, ServerError> {
        match self {
            Self::Named(url) => Ok(url.clone()),
            Self::Private(servers) => servers.redis().await.map(ServerUrl),
        }
    }

    /// Where files of windows go; the private place is a folder of the data directory.
    #[must_use]
    pub fn windows_folder(&self) -> ServerUrl {
        match self {
            Self::Named(url) => url.clone(),
            Self::Private(servers) => {
                ServerUrl(format!("file://{}", servers.data_dir().join(WINDOWS_FOLDER).display()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_printed() {
        for (url, shown) in [
            ("postgres://me:s3cr3t@host:5/db", "postgres://me:***@host:5/db"),
            ("postgres://me@host/db?password=s3cr3t", "postgres://me@host/db"),
            ("postgres://me:s3@cr3t@host/db", "postgres://me:***@host/db"),
            ("redis://:s3cr3t@host", "redis://:***@host"),
            ("redis://host:6379/0", "redis://host:6379/0"),
            ("host=h password=s3cr3t", "***"),
            ("postgres://me:s3cr3t", "postgres://***"),
            ("postgres://me:s3cr3t@[::1]:5432/db", "postgres://me:***@[::1]:5432/db"),
            ("postgres://me:s3cr3t@[::1]/db", "postgres://me:***@[::1]/db"),
            ("postgres://me:s3cr3t@a:1,b:2/db", "postgres://me:***@a:1,b:2/db"),
            ("postgres://me:s3#cr3t@host/db", "postgres://***"),
            ("postgres://me:s3?cr3t@host/db", "postgres://***"),
            ("postgres://me:s3/cr3t@host/db", "postgres://***"),
            ("https://hooks.example/T0/s3cr3t", "https://hooks.example/***"),
            ("http://127.0.0.1:80/", "http://127.0.0.1:80/"),
            ("file:///data/windows", "file:///data/windows"),
        ] {
            assert_eq!(ServerUrl(url.to_owned()).masked(), shown);
            assert!(!format!("{:?}", ServerUrl(url.to_owned())).contains("cr3t"));
        }
    }
}
