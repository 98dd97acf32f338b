//! What PostgreSQL holds of the windows, in order, to be compared with the topic.

use clickmill_schemas::partial::Metrics;
use futures_util::{Stream, StreamExt};

use super::link::{connect, unavailable};
use crate::endpoint::ServerUrl;
use crate::sink::SinkError;
use crate::verify::Value;

/// In the order of the topic's own windows: bytewise. A dimension whose keys were too many in one partition is a lower bound for
/// each of its keys.
const HELD: &str = "SELECT (extract(epoch FROM window_start) * 1000)::bigint, dimension, key, impressions, clicks, conversions, \
    cost_micros, revenue_micros, bool_or(lower_bound) OVER (PARTITION BY window_start, dimension) FROM realtime.window_sums WHERE window_size_ms = $1 AND impressions > 0 \
    ORDER BY window_start, dimension COLLATE \"C\", key COLLATE \"C\"";

/// The windows of a size, of the run that readers take.
///
/// # Errors
/// [`SinkError`] where the server cannot be asked, or has no such tables.
pub async fn held(
    url: &ServerUrl,
    size_ms: i64,
) -> Result<impl Stream<Item = Result<Value, SinkError>> + use<>, SinkError> {
    let client = connect(url).await?;
    let rows = client.query_raw(HELD, [size_ms]).await.map_err(unavailable("read the windows"))?;
    Ok(rows.map(move |row| {
        // The connection ends with its client.
        let _client = &client;
        let row = row.map_err(unavailable("read the windows"))?;
        let metrics = Metrics {
            impressions: row.get(3),
            clicks: row.get(4),
            conversions: row.get(5),
            cost_micros: row.get(6),
            revenue_micros: row.get(7),
        };
        let (start_ms, dimension, key, lower_bound) = (row.get(0), row.get(1), row.get(2), row.get(8));
        Ok(Value { start_ms, dimension, key, metrics, lower_bound })
    }))
}
