//! The connection to Redis, and what its errors mean for a sink.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, TlsCertificates};

use super::RedisOptions;
use crate::endpoint::ServerUrl;
use crate::sink::SinkError;
use crate::tls;

/// What is wrong with an address that [`goes_without_tls`] where authorities are named.
pub(crate) const WITHOUT_TLS: &str =
    "only rediss:// goes over TLS, and tls_ca_file says whose certificate to ask for: name one of them";

/// Whether nobody is asked for a certificate.
pub(crate) fn goes_without_tls(url: &str) -> bool {
    !url.starts_with("rediss://")
}

pub(super) fn unavailable(doing: &'static str) -> impl Fn(RedisError) -> SinkError {
    move |e| match e.code() {
        Some("MOVED" | "ASK") => SinkError::Config(format!(
            "{doing}: Redis is one node of a cluster of several ({e}); name a proxy, or a node that has all slots"
        )),
        _ => SinkError::unavailable(doing, e),
    }
}

/// Whether the driver can read an address.
///
/// # Errors
/// Why it cannot.
pub(crate) fn check_address(url: &str) -> Result<(), String> {
    Client::open(url).map(drop).map_err(|e| e.to_string())
}

/// Whether the server takes us in.
///
/// # Errors
/// As a session's.
pub(crate) async fn answers(url: &ServerUrl, options: &RedisOptions) -> Result<(), SinkError> {
    let mut connection = connect(url, options).await?;
    redis::cmd("PING").exec_async(&mut connection).await.map_err(unavailable("ask Redis"))
}

pub(super) async fn connect(url: &ServerUrl, options: &RedisOptions) -> Result<MultiplexedConnection, SinkError> {
    let client = match (goes_without_tls(&url.0), &options.tls_ca_file) {
        (true, Some(_)) => return Err(SinkError::Config(format!("{url}: {WITHOUT_TLS}"))),
        (true, None) => Client::open(url.0.as_str()),
        (false, file) => {
            tls::install();
            let root_cert = file.as_deref().map(tls::read).transpose()?;
            Client::build_with_tls(url.0.as_str(), TlsCertificates { client_tls: None, root_cert })
        }
    };
    let client = client.map_err(|e| SinkError::Config(format!("{url} is no address of a Redis server: {e}")))?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(10)))
        .set_response_timeout(Some(Duration::from_secs(30)));
    client.get_multiplexed_async_connection_with_config(&config).await.map_err(unavailable("connect to Redis"))
}
