//! The connection to Redis, and what its errors mean for a sink.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, TlsCertificates};

use super::RedisOptions;
use crate::endpoint::ServerUrl;
use crate::sink::SinkError;
use crate::tls;

pub(super) fn unavailable(doing: &'static str) -> impl Fn(RedisError) -> SinkError {
    move |e| match e.code() {
        Some("MOVED" | "ASK") => SinkError::Config(format!(
            "{doing}: Redis is one node of a cluster of several ({e}); name a proxy, or a node that has all slots"
        )),
        _ => SinkError::unavailable(doing, e),
    }
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
    let client = if url.0.starts_with("rediss://") {
        tls::install();
        let root_cert = options.tls_ca_file.as_deref().map(tls::read).transpose()?;
        Client::build_with_tls(url.0.as_str(), TlsCertificates { client_tls: None, root_cert })
    } else {
        Client::open(url.0.as_str())
    };
    let client = client.map_err(|e| SinkError::Config(format!("{url} is no address of a Redis server: {e}")))?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(10)))
        .set_response_timeout(Some(Duration::from_secs(30)));
    client.get_multiplexed_async_connection_with_config(&config).await.map_err(unavailable("connect to Redis"))
}
