//! The connections of one connector: as many as are asked for, shared by its sinks in turn.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Reach;
use super::link::Link;
use crate::endpoint::Endpoint;
use crate::progress::Progress;
use crate::sink::SinkError;

/// How often somebody who waits says so.
const TURN: Duration = Duration::from_millis(100);

/// Cheap to clone.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
    /// Of who has this one.
    progress: Progress,
}

struct Inner {
    endpoint: Endpoint,
    reach: Reach,
    places: Arc<Semaphore>,
    idle: Mutex<Vec<Link>>,
}

/// A connection in use. Closed where it is dropped: in the middle of something nobody knows what it is still doing.
pub struct Lease {
    link: Link,
    pool: Pool,
    _place: OwnedSemaphorePermit,
}

impl Pool {
    pub(super) fn new(endpoint: Endpoint, reach: Reach, most: usize) -> Self {
        let places = Arc::new(Semaphore::new(most.max(1)));
        let inner = Arc::new(Inner { endpoint, reach, places, idle: Mutex::default() });
        Self { inner, progress: Progress::default() }
    }

    /// The same connections for one of those who share them, with a progress of its own.
    #[must_use]
    pub(super) fn for_one(&self) -> Self {
        Self { inner: self.inner.clone(), progress: Progress::default() }
    }

    /// Made by whatever moves on a connection that was got here.
    #[must_use]
    pub(super) const fn progress(&self) -> &Progress {
        &self.progress
    }

    /// A connection, as soon as one may be had.
    ///
    /// # Errors
    /// As [`Link::open`], and [`SinkError::Server`] where the private server cannot be had.
    pub async fn get(&self) -> Result<Lease, SinkError> {
        let inner = &self.inner;
        let place = self.patiently(inner.places.clone().acquire_owned()).await;
        let place = place.map_err(|e| SinkError::unavailable("connect", e))?;
        let mut link = match self.take_idle() {
            Some(link) => link,
            None => {
                let url = self.patiently(inner.endpoint.postgres()).await?;
                self.patiently(Link::open(&url, &inner.reach)).await?
            }
        };
        link.used_by(&self.progress);
        self.progress.made();
        Ok(Lease { link, pool: self.clone(), _place: place })
    }

    /// What has a limit of its own, as who holds a place has, is no silence of the server.
    async fn patiently<T>(&self, wait: impl Future<Output = T>) -> T {
        let mut wait = pin!(wait);
        loop {
            match tokio::time::timeout(TURN, &mut wait).await {
                Ok(done) => return done,
                Err(_) => self.progress.made(),
            }
        }
    }

    fn take_idle(&self) -> Option<Link> {
        let mut idle = self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|link| !link.client.is_closed());
        idle.pop()
    }
}

impl Lease {
    /// All went well: the next one may have the connection.
    pub fn give_back(self) {
        let Self { link, pool, _place } = self;
        pool.inner.idle.lock().unwrap_or_else(PoisonError::into_inner).push(link);
    }
}

impl Deref for Lease {
    type Target = Link;

    fn deref(&self) -> &Link {
        &self.link
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Link {
        &mut self.link
    }
}
