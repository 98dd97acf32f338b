//! What is live: one thread follows `ctr_windows`, all listeners get the same bytes, and questions are answered from memory.
//!
//! [`store`] is what has been read (pure, as are [`table`], [`marks`] and [`rate`]), [`follower`] the thread that reads, [`hub`] where
//! listeners get their bytes, [`event`] the shapes of these. The handlers are in [`stream`] and [`top`].

mod deployments;
mod event;
mod follower;
mod hub;
mod marks;
mod rate;
mod store;
pub(crate) mod stream;
mod table;
#[cfg(test)]
mod tests;
pub(crate) mod top;

pub(crate) use follower::Follower;
pub(crate) use hub::Hub;
pub(crate) use store::Shared;
