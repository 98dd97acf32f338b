//! What PostgreSQL holds of the windows, in order, to be compared with the topic.

use clickmill_schemas::partial::Metrics;
use futures_util::{Stream, StreamExt};
use tokio_postgres::types::Type;

use super::Reach;
use super::link::{Link, unavailable};
use crate::endpoint::ServerUrl;
use crate::sink::SinkError;
use crate::verify::{HOUR_MS, Value};

/// In the order of the topic's own windows: bytewise.
const HELD: &str = "SELECT (extract(epoch FROM window_start) * 1000)::bigint, dimension, key, impressions, clicks, conversions, \
    cost_micros, revenue_micros, lower_bound FROM realtime.window_sums WHERE window_size_ms = $1 AND impressions > 0 \
    ORDER BY window_start, dimension COLLATE \"C\", key COLLATE \"C\"";

/// The same of hours.
const HELD_HOURS: &str = "SELECT (extract(epoch FROM h.hour) * 1000)::bigint, h.dimension, k.key, k.impressions, k.clicks, \
    k.conversions, k.cost_micros, k.revenue_micros, h.lower_bound FROM realtime.hours h CROSS JOIN LATERAL \
    unnest(h.keys, h.impressions, h.clicks, h.conversions, h.cost_micros, h.revenue_micros) \
    AS k (key, impressions, clicks, conversions, cost_micros, revenue_micros) \
    WHERE h.run = (SELECT run FROM realtime.runs WHERE is_current) \
    ORDER BY h.hour, h.dimension COLLATE \"C\", k.key COLLATE \"C\"";

/// The windows of a size, or the hours, of the run that readers take.
///
/// # Errors
/// [`SinkError`] where the server cannot be asked, or has no such tables.
pub async fn held(
    url: &ServerUrl,
    reach: &Reach,
    size_ms: i64,
) -> Result<impl Stream<Item = Result<Value, SinkError>> + use<>, SinkError> {
    let link = Link::open(url, reach).await?;
    let rows = match size_ms {
        HOUR_MS => link.client.query_typed_raw(HELD_HOURS, None::<(i64, Type)>).await,
        _ => link.client.query_typed_raw(HELD, [(size_ms, Type::INT8)]).await,
    };
    let rows = rows.map_err(unavailable("read the windows"))?;
    Ok(rows.map(move |row| {
        // The connection ends with its client.
        let _link = &link;
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
