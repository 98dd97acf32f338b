//! The connections of one connector: as many as are asked for, shared by its sinks in turn.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Reach;
use super::link::Link;
use crate::endpoint::Endpoint;
use crate::sink::SinkError;

/// Cheap to clone.
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

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
        Self(Arc::new(Inner { endpoint, reach, places, idle: Mutex::default() }))
    }

    /// A connection, as soon as one may be had.
    ///
    /// # Errors
    /// As [`Link::open`], and [`SinkError::Server`] where the private server cannot be had.
    pub async fn get(&self) -> Result<Lease, SinkError> {
        let place = self.0.places.clone().acquire_owned().await.map_err(|e| SinkError::unavailable("connect", e))?;
        self.lease(place).await
    }

    /// A connection, unless all of them are in use.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_if_free(&self) -> Result<Option<Lease>, SinkError> {
        match self.0.places.clone().try_acquire_owned() {
            Ok(place) => self.lease(place).await.map(Some),
            Err(_) => Ok(None),
        }
    }

    async fn lease(&self, place: OwnedSemaphorePermit) -> Result<Lease, SinkError> {
        let link = match self.take_idle() {
            Some(link) => link,
            None => Link::open(&self.0.endpoint.postgres().await?, &self.0.reach).await?,
        };
        Ok(Lease { link, pool: self.clone(), _place: place })
    }

    fn take_idle(&self) -> Option<Link> {
        let mut idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|link| !link.client.is_closed());
        idle.pop()
    }
}

impl Lease {
    /// All went well: the next one may have the connection.
    pub fn give_back(self) {
        let Self { link, pool, _place } = self;
        pool.0.idle.lock().unwrap_or_else(PoisonError::into_inner).push(link);
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
