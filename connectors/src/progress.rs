//! That a server answers: told by who hears it to who waits for it.
//!
//! A server that takes seconds for each of many answers is slow, one that has stopped to answer is away: only the second is a
//! reason to give an attempt up.

use std::sync::Arc;

use tokio::sync::Notify;

/// Of one sink. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Notify>);

impl Progress {
    /// Something came from the server, or goes to it.
    pub fn made(&self) {
        self.0.notify_one();
    }

    /// Done once some was made since it was last done.
    pub async fn seen(&self) {
        self.0.notified().await;
    }
}
