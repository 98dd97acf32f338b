//! Windows that are taken out of Redis again, found by the names of their keys.

use clickmill_schemas::RunId;
use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue};

use super::hash::version_key;
use super::link::unavailable;
use crate::sink::SinkError;

const DOING: &str = "remove windows";

/// Which windows are removed, by who wrote them.
#[derive(Clone, Copy)]
pub(super) enum Of {
    Run(RunId),
    OthersThan(RunId),
}

impl Of {
    fn wrote(self, version: &str) -> bool {
        match self {
            Self::Run(run) => version.starts_with(&run.to_string()),
            Self::OthersThan(run) => !version.starts_with(&run.to_string()),
        }
    }
}

/// Removes windows by their versions.
pub(super) async fn remove(connection: &mut MultiplexedConnection, of: Of) -> Result<(), SinkError> {
    let mut keys = Keys::matching(version_key("metrics:*"));
    while let Some(found) = keys.next::<String>(connection).await? {
        let versions: Vec<Option<String>> = all(connection, found.iter().map(|key| command("GET", &[key]))).await?;
        let meant = found.iter().zip(versions).filter(|(_, version)| version.as_ref().is_some_and(|v| of.wrote(v)));
        // The hash and its version lie in one slot.
        let gone = meant.filter_map(|(key, _)| {
            let hash = key.split_once('{').and_then(|(_, rest)| rest.strip_suffix('}'))?;
            Some(command("DEL", &[hash, key]))
        });
        let _: Vec<u64> = all(connection, gone).await?;
    }
    Ok(())
}

/// Removes the hashes of all windows and their versions.
pub(super) async fn remove_windows(connection: &mut MultiplexedConnection) -> Result<(), SinkError> {
    for pattern in ["metrics:*min:*".to_owned(), version_key("metrics:*")] {
        let mut keys = Keys::matching(pattern);
        while let Some(found) = keys.next::<Vec<u8>>(connection).await? {
            let _: Vec<u64> = all(connection, found.iter().map(|key| command("DEL", &[key]))).await?;
        }
    }
    Ok(())
}

fn command(name: &str, arguments: &[impl redis::ToRedisArgs]) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(arguments);
    command
}

/// The answers to many commands that are on their way at once, each for itself: in a cluster their keys lie in many slots.
async fn all<T: FromRedisValue>(
    connection: &MultiplexedConnection,
    commands: impl Iterator<Item = Cmd>,
) -> Result<Vec<T>, SinkError> {
    let sent = commands.map(|command| {
        let mut connection = connection.clone();
        async move { command.query_async(&mut connection).await }
    });
    join_all(sent).await.into_iter().collect::<Result<_, _>>().map_err(unavailable(DOING))
}

/// Keys by a pattern, some at a time.
struct Keys {
    pattern: String,
    /// None at the end.
    cursor: Option<u64>,
}

impl Keys {
    const fn matching(pattern: String) -> Self {
        Self { pattern, cursor: Some(0) }
    }

    /// The next ones, which may be none of them; none at the end.
    async fn next<K: FromRedisValue>(
        &mut self,
        connection: &mut MultiplexedConnection,
    ) -> Result<Option<Vec<K>>, SinkError> {
        let Some(cursor) = self.cursor else { return Ok(None) };
        let (next, keys): (u64, Vec<K>) = redis::cmd("SCAN")
            .arg(cursor)
            .arg(&["MATCH", &self.pattern, "COUNT", "1000"])
            .query_async(connection)
            .await
            .map_err(unavailable(DOING))?;
        self.cursor = (next != 0).then_some(next);
        Ok(Some(keys))
    }
}
