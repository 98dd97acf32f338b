//! How many windows are not final: of what workers have committed, counted when somebody asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use clickmill_schemas::PartitionId;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};

use crate::views::windows::{SIZES_MS, size_name};

/// A window, of all dimensions: its size and start, milliseconds.
pub(crate) type Window = (i64, i64);

/// The windows that each partition has had a record in and may still change. Bounded as the module's open panes are.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenWindows(Arc<Mutex<BTreeMap<PartitionId, Open>>>);

#[derive(Debug, Default)]
struct Open {
    closed_before_ms: Option<i64>,
    windows: BTreeSet<Window>,
}

impl OpenWindows {
    /// Takes in what a commit has written.
    pub(crate) fn committed(&self, partition: PartitionId, written: BTreeSet<Window>, closed_before_ms: Option<i64>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open = all.entry(partition).or_default();
        open.closed_before_ms = closed_before_ms;
        open.windows.extend(written);
        // A window is final for all once the last partition has closed it: until then the others wait for that one.
        let before = all.values().map(|open| open.closed_before_ms).min().flatten();
        if let Some(before) = before {
            all.values_mut().for_each(|open| open.windows.retain(|(size, start)| start.saturating_add(*size) > before));
        }
    }

    /// What a partition that is recovered has had open is told anew by its first commit.
    pub(crate) fn forget(&self, partition: PartitionId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&partition);
    }

    /// Windows by size; none before the first commit.
    fn count(&self) -> BTreeMap<i64, usize> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts = BTreeMap::new();
        if !all.is_empty() {
            counts.extend(SIZES_MS.map(|size| (size, 0)));
        }
        let windows: BTreeSet<&Window> = all.values().flat_map(|open| &open.windows).collect();
        windows.into_iter().for_each(|(size, _)| *counts.entry(*size).or_default() += 1);
        counts
    }
}

/// The collector.
pub(super) struct OpenWindowsGauge {
    windows: OpenWindows,
    gauge: IntGaugeVec,
}

impl OpenWindowsGauge {
    pub(super) fn new(windows: OpenWindows) -> prometheus::Result<Self> {
        let opts = Opts::new("clickmill_open_windows", "Windows with a record in them that are not final");
        Ok(Self { windows, gauge: IntGaugeVec::new(opts, &["size"])? })
    }
}

impl Collector for OpenWindowsGauge {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for (size, n) in self.windows.count() {
            self.gauge.with_label_values(&[size_name(size)]).set(i64::try_from(n).unwrap_or(i64::MAX));
        }
        self.gauge.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_counts_once_whatever_the_partitions_and_until_the_last_of_them_has_closed_it() {
        let windows = OpenWindows::default();
        assert!(windows.count().is_empty(), "nothing is known yet");
        let minutes = |minutes: &[i64]| minutes.iter().map(|m| (60_000, m * 60_000)).collect::<BTreeSet<_>>();
        windows.committed(PartitionId(0), minutes(&[0, 1, 2]), None);
        windows.committed(PartitionId(1), minutes(&[2, 3]), Some(120_000));
        assert_eq!(windows.count()[&60_000], 4, "partition 0 has closed none");
        windows.committed(PartitionId(0), minutes(&[]), Some(60_000));
        assert_eq!(windows.count()[&60_000], 3);
        windows.committed(PartitionId(0), minutes(&[]), Some(240_000));
        assert_eq!(windows.count()[&60_000], 2, "partition 1 is at the second minute");
        assert_eq!(windows.count()[&300_000], 0);
        windows.forget(PartitionId(1));
        windows.committed(PartitionId(0), minutes(&[5]), Some(240_000));
        assert_eq!(windows.count()[&60_000], 1);
    }
}
