//! [`Hub`]: where listeners get a snapshot and, without a hole between, the updates after it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::broadcast;

/// Updates that a listener may be behind before it gets a new snapshot: 1.6 s at the fastest, 8 s when nothing happens.
const UPDATES_AHEAD: usize = 16;

/// Shared by the thread that reads and the listeners.
#[derive(Debug)]
pub(crate) struct Hub(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Empty before the first one.
    snapshot: Bytes,
    /// None once there will be no more.
    updates: Option<broadcast::Sender<Bytes>>,
}

impl Hub {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(State { snapshot: Bytes::new(), updates: Some(broadcast::Sender::new(UPDATES_AHEAD)) }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change under this lock is whole: a panic between leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends an event to all who listen; `snapshot` is for those who come after it.
    pub(super) fn publish(&self, snapshot: Bytes, event: Bytes) {
        let mut state = self.state();
        state.snapshot = snapshot;
        if let Some(updates) = &state.updates {
            // Nobody listens: nobody misses it.
            let _ = updates.send(event);
        }
    }

    /// The newest snapshot, and what will come after it; none where nothing will.
    pub(super) fn join(&self) -> Option<(Bytes, broadcast::Receiver<Bytes>)> {
        let state = self.state();
        Some((state.snapshot.clone(), state.updates.as_ref()?.subscribe()))
    }

    /// Ends every listener's stream.
    pub(super) fn close(&self) {
        self.state().updates = None;
    }
}
