//! The connections of one connector: as many as are asked for, shared by its sinks in turn.

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

/// How often somebody who waits for a place says so.
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
        let place = self.place().await?;
        let mut link = match self.take_idle() {
            Some(link) => link,
            None => Link::open(&inner.endpoint.postgres().await?, &inner.reach).await?,
        };
        link.used_by(&self.progress);
        self.progress.made();
        Ok(Lease { link, pool: self.clone(), _place: place })
    }

    /// Who has the places is given up in its own time: to wait for one is no silence of the server.
    async fn place(&self) -> Result<OwnedSemaphorePermit, SinkError> {
        let mut place = pin!(self.inner.places.clone().acquire_owned());
        loop {
            match tokio::time::timeout(TURN, &mut place).await {
                Ok(place) => return place.map_err(|e| SinkError::unavailable("connect", e)),
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
