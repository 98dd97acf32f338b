//! [`Event`]: what one event of the live stream says. Plain data for JSON; [`super::store`] makes it.

use bytes::Bytes;
use clickmill_pipeline::views::status::{LedgerView, ModuleView};
use clickmill_schemas::DeploymentId;
use serde::Serialize;

/// The data of a `snapshot` or an `update`: the same, but an update has only the windows and marks that are new.
#[derive(Debug, Serialize)]
pub(crate) struct Event<'a> {
    /// Wall clock.
    pub(crate) at_ms: i64,
    /// False while the topic is still being read from its start.
    pub(crate) caught_up: bool,
    pub(crate) events_per_second: f64,
    pub(crate) log_end: u64,
    pub(crate) processed: u64,
    pub(crate) lag: u64,
    pub(crate) ledger: LedgerView,
    pub(crate) balanced: bool,
    /// Why the workers stand still, if they do.
    pub(crate) paused: Option<&'a str>,
    /// The least of the partitions.
    pub(crate) watermark_ms: Option<i64>,
    /// Windows that end at or before this are final.
    pub(crate) final_before_ms: Option<i64>,
    pub(crate) windows: Sizes,
    pub(crate) marks: Vec<&'a Mark>,
    pub(crate) modules: &'a [ModuleView],
}

/// Windows by size, oldest first.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Sizes {
    #[serde(rename = "1m")]
    pub(crate) minutes: Vec<Window>,
    #[serde(rename = "5m")]
    pub(crate) fives: Vec<Window>,
}

/// The dimension `total` of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Window {
    pub(crate) start_ms: i64,
    pub(crate) impressions: i64,
    pub(crate) clicks: i64,
    pub(crate) conversions: i64,
    pub(crate) cost_micros: i64,
    pub(crate) revenue_micros: i64,
    pub(crate) r#final: bool,
    /// Impressions among them that came after the watermark had passed the window's end.
    pub(crate) corrected: i64,
    /// Events that came too late to be counted.
    pub(crate) late: u64,
}

/// Something that happened, on the axis of event time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Mark {
    /// Of this mark alone while the server runs: one that comes again takes the place of the one before.
    pub(crate) id: u64,
    pub(crate) at_ms: i64,
    pub(crate) wall_ms: i64,
    pub(crate) kind: MarkKind,
    pub(crate) text: String,
    pub(crate) deployment: Option<DeploymentId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MarkKind {
    Deployment,
    Rollback,
    Breaker,
    Verdict,
    Gap,
    Advance,
    Pause,
}

/// How a listener is to take an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Snapshot,
    Update,
}

impl Event<'_> {
    /// As it goes over the wire, the same bytes for every listener.
    pub(crate) fn encode(&self, name: Name) -> Bytes {
        let name: &[u8] = match name {
            Name::Snapshot => b"event: snapshot\ndata: ",
            Name::Update => b"event: update\ndata: ",
        };
        let mut out = name.to_vec();
        // Plain fields: serialization has no failing case, and JSON has no line feeds.
        if serde_json::to_writer(&mut out, self).is_err() {
            return Bytes::new();
        }
        out.extend_from_slice(b"\n\n");
        out.into()
    }
}
