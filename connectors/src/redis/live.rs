//! The windows that are not final yet, in memory: what the hashes are summed from. Pure.
//!
//! Laws: a window is here with all its parts or not at all; a window that is final is not here and is never taken in
//! again (but for those that wait to be written); when there are too many, the oldest are given up, and from then on are not shown at all rather than wrongly.

use std::collections::{BTreeMap, BTreeSet};

use clickmill_schemas::merge::{Progress, WindowTable};
use clickmill_schemas::output::{Body, Output};
use clickmill_schemas::partial::{Owner, Partial, WindowKey, take_entries};
use clickmill_schemas::{Offset, PartitionId};
use serde::{Deserialize, Serialize};

use super::hash::{Fields, Span};
use crate::letters::UNREADABLE;
use crate::sink::Written;
use crate::windows::{Epochs, Newest, WindowBatch};

/// What has to survive a restart besides the offsets, as of the sink's offset (the epochs: of `rebuild_from`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    pub epochs: Epochs,
    /// The newest commit of each partition.
    pub commits: Vec<Output>,
    /// Windows that end at or before this are final.
    pub final_before_ms: Option<i64>,
    /// Windows that end at or before this were given up.
    pub given_up_before_ms: Option<i64>,
}

/// A change to make in Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// And where the newest of its partials lies.
    Write(Span, Fields, Offset),
    /// Given up.
    Remove(Span),
}

struct Live {
    table: WindowTable,
    /// Reading the log from here on rebuilds it.
    needs: Offset,
    newest: Offset,
    /// Keys, summed over partitions.
    keys: usize,
}

/// See the module.
pub struct LiveWindows {
    partitions: u32,
    most_keys: usize,
    windows: BTreeMap<Span, Live>,
    progress: Progress,
    commits: BTreeMap<PartitionId, Output>,
    final_before_ms: Option<i64>,
    given_up_before_ms: Option<i64>,
    /// Still to be written.
    changed: BTreeSet<Span>,
    /// Given up while rebuilding, still to be taken out of Redis.
    removals: Vec<Change>,
}

impl LiveWindows {
    /// Goes on from what was written down; the windows themselves come from reading the log again.
    #[must_use]
    pub fn new(partitions: u32, most_keys: usize, memory: Memory) -> Self {
        let mut live = Self {
            partitions,
            most_keys,
            windows: BTreeMap::new(),
            progress: Progress::default(),
            commits: BTreeMap::new(),
            final_before_ms: memory.final_before_ms,
            given_up_before_ms: memory.given_up_before_ms,
            changed: BTreeSet::new(),
            removals: Vec::new(),
        };
        memory.commits.iter().for_each(|commit| live.take_commit(commit));
        live
    }

    /// Takes a batch in; its windows wait for [`changes`](Self::changes).
    pub fn take(&mut self, batch: &WindowBatch<'_>, written: &mut Written) {
        if batch.rewound {
            // The commits beside it say what is final from now on.
            self.final_before_ms = None;
        }
        for ((owner, window), newest) in &batch.partials {
            let changed = self.take_partial(owner, window, newest, written);
            self.changed.extend(changed);
        }
        self.partitions = self.partitions.max(batch.partitions);
        batch.commits.values().for_each(|(_, commit)| self.take_commit(commit));
    }

    /// Takes in what was let pass before; its windows, where they are not final, wait for [`changes`](Self::changes) whether it
    /// was new or not. False where there is none.
    pub fn take_again(&mut self, batch: &WindowBatch<'_>, written: &mut Written) -> bool {
        let mut any = false;
        for ((owner, window), newest) in &batch.partials {
            self.take_partial(owner, window, newest, written);
            let span = Span { start_ms: window.start_ms, size_ms: window.size_ms };
            if self.windows.contains_key(&span) {
                self.changed.insert(span);
                any = true;
            }
        }
        any
    }

    /// Windows that wait to be written.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.changed.len()
    }

    /// What to do in Redis, oldest window first; then forgets what is final.
    pub fn changes(&mut self, written: &mut Written) -> Vec<Change> {
        let mut changes = std::mem::take(&mut self.removals);
        for span in std::mem::take(&mut self.changed) {
            if let Some(live) = self.windows.get_mut(&span) {
                let fields = Fields::of(&live.table);
                live.keys = fields.pairs.len();
                changes.push(Change::Write(span, fields, live.newest));
            }
        }
        if let Some(before) = self.final_before_ms {
            self.windows.retain(|span, _| span.end_ms() > before);
        }
        self.give_up(&mut changes, written);
        changes
    }

    /// What was taken so far is in Redis already: only removals are left to do, with the next changes.
    pub fn rebuilt(&mut self, written: &mut Written) {
        let mut changes = self.changes(written);
        changes.retain(|change| matches!(change, Change::Remove(_)));
        self.removals = changes;
    }

    /// The window, where the partial is new to it.
    fn take_partial(
        &mut self,
        owner: &Owner,
        window: &WindowKey,
        newest: &Newest<'_>,
        written: &mut Written,
    ) -> Option<Span> {
        let span = Span { start_ms: window.start_ms, size_ms: window.size_ms };
        if self.final_before_ms.is_some_and(|t| span.end_ms() <= t) {
            return None;
        }
        if span.key().is_none() {
            let message = format!("the window at {} ms has no four-digit year", span.start_ms);
            written.refuse(newest.offset, UNREADABLE, message);
            return None;
        }
        if self.given_up_before_ms.is_some_and(|t| span.end_ms() <= t) {
            written.skip(given_up(span));
            return None;
        }
        let entries = match take_entries(newest.entries) {
            Ok(entries) => entries,
            Err(e) => {
                written.refuse(newest.offset, UNREADABLE, e.to_string());
                return None;
            }
        };
        let partial = Partial {
            owner: *owner,
            window: window.clone(),
            version: newest.version,
            lower_bound: newest.lower_bound,
            entries,
        };
        let live = self.windows.entry(span).or_insert_with(|| Live {
            table: WindowTable::default(),
            needs: newest.offset,
            newest: newest.offset,
            keys: 0,
        });
        live.needs = live.needs.min(newest.offset);
        live.newest = live.newest.max(newest.offset);
        live.table.apply(partial).then_some(span)
    }

    fn take_commit(&mut self, output: &Output) {
        self.progress.apply(output);
        let partition = output.stamp.partition;
        let newest = self.progress.commit(partition);
        if matches!((&output.body, newest), (Body::Commit(this), Some(newest)) if this == newest) {
            self.commits.insert(partition, output.clone());
        }
        self.final_before_ms = self.final_before_ms.max(self.progress.final_before_ms(self.partitions));
    }

    fn give_up(&mut self, changes: &mut Vec<Change>, written: &mut Written) {
        let mut keys: usize = self.windows.values().map(|live| live.keys).sum();
        let mut before = None;
        for (span, live) in &self.windows {
            if keys <= self.most_keys {
                break;
            }
            keys -= live.keys;
            before = before.max(Some(span.end_ms()));
        }
        let Some(before) = before else { return };
        self.given_up_before_ms = self.given_up_before_ms.max(Some(before));
        let gone: Vec<Span> = self.windows.keys().copied().filter(|span| span.end_ms() <= before).collect();
        for span in gone {
            self.windows.remove(&span);
            changes.retain(|change| !matches!(change, Change::Write(written, ..) if *written == span));
            changes.push(Change::Remove(span));
            written.skip(given_up(span));
        }
    }

    /// The least offset that a restart has to read again; `end` where there is nothing to rebuild.
    #[must_use]
    pub fn rebuild_from(&self, end: Offset) -> Offset {
        self.windows.values().map(|live| live.needs).min().unwrap_or(end)
    }

    /// What to write down.
    #[must_use]
    pub fn memory(&self, epochs: Epochs) -> Memory {
        Memory {
            epochs,
            commits: self.commits.values().cloned().collect(),
            final_before_ms: self.final_before_ms,
            given_up_before_ms: self.given_up_before_ms,
        }
    }
}

fn given_up(span: Span) -> String {
    format!("the window at {} ms was given up: too many are open at once", span.start_ms)
}

#[cfg(test)]
mod tests;
