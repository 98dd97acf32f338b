//! The HTTP edge of a host: health, metrics, status, windows, topics, and the live page.
//!
//! This crate owns routes, limits, the token and what the live page is fed with. Everything it tells it reads from the
//! topics through `clickmill_pipeline::views`; what only the running host knows comes in through the trait [`Host`].
//! It must not know workers, sinks or modules. Start with [`Server`], then `routes`.

mod append;
mod assets;
mod blame;
mod budget;
mod clock;
mod connectors;
mod dlq;
mod dlq_rate;
mod error;
mod feed;
mod frame;
mod guard;
mod health;
mod host;
mod json;
mod live;
mod metrics;
mod options;
mod reports;
mod reprocess;
mod rounds;
mod routes;
mod serve;
mod shadow;
mod smartmodules;
mod sources;
mod stall;
mod tail;
mod topics;
mod windows;

pub use host::{ConnectorChange, ConnectorRefusal, Host, Hours, HoursAnswer};
pub use options::{BadToken, Options, Token};
pub use serve::{BindError, ServeError, Server};
