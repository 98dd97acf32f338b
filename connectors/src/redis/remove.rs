//! Windows that are taken out of Redis again, found by the names of their keys.

use clickmill_schemas::RunId;
use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;

use super::hash::version_key;
use super::link::unavailable;
use crate::sink::SinkError;

/// Which windows are removed, by who wrote them.
#[derive(Clone, Copy)]
pub(super) enum Of {
    Run(RunId),
    OthersThan(RunId),
}

/// Removes windows by their versions.
pub(super) async fn remove(connection: &mut MultiplexedConnection, of: Of) -> Result<(), SinkError> {
    const DOING: &str = "remove windows";
    let mut cursor = 0u64;
    loop {
        let (next, keys): (u64, Vec<String>) = redis::cmd("SCAN")
            .arg(cursor)
            .arg(&["MATCH", &version_key("metrics:*"), "COUNT", "1000"])
            .query_async(connection)
            .await
            .map_err(unavailable(DOING))?;
        for key in keys {
            let version: Option<String> =
                redis::cmd("GET").arg(&key).query_async(connection).await.map_err(unavailable(DOING))?;
            let is_meant = version.is_some_and(|version| match of {
                Of::Run(run) => version.starts_with(&run.to_string()),
                Of::OthersThan(run) => !version.starts_with(&run.to_string()),
            });
            let hash = key.split_once('{').and_then(|(_, rest)| rest.strip_suffix('}'));
            if let (true, Some(hash)) = (is_meant, hash) {
                redis::cmd("DEL").arg(&[hash, &key]).exec_async(connection).await.map_err(unavailable(DOING))?;
            }
        }
        cursor = next;
        if cursor == 0 {
            return Ok(());
        }
    }
}

/// Removes the hashes of all windows and their versions.
pub(super) async fn remove_windows(connection: &mut MultiplexedConnection) -> Result<(), SinkError> {
    for pattern in ["metrics:*min:*", "clickmill:version:{metrics:*"] {
        let mut cursor = 0u64;
        loop {
            let (next, keys): (u64, Vec<Vec<u8>>) = redis::cmd("SCAN")
                .arg(cursor)
                .arg(&["MATCH", pattern, "COUNT", "1000"])
                .query_async(connection)
                .await
                .map_err(unavailable("replace"))?;
            // One by one: in a cluster they lie in many slots.
            let gone = keys.into_iter().map(|key| {
                let mut connection = connection.clone();
                async move { redis::cmd("DEL").arg(key).exec_async(&mut connection).await }
            });
            join_all(gone).await.into_iter().collect::<Result<(), _>>().map_err(unavailable("replace"))?;
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
    }
    Ok(())
}
