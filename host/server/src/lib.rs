//! The HTTP edge of a host: health, metrics, status, windows, topics, what is live, and the pages.
//!
//! This crate owns routes, limits, the token and what the pages are fed with. Everything it tells it reads from the
//! topics through `clickmill_pipeline::views`; what only the running host knows comes in through the trait [`Host`].
//! It must not know workers, sinks or modules. Start with [`Server`], then `routes`.

mod append;
mod assets;
mod blame;
mod budget;
mod checkpoints;
mod clock;
mod connectors;
mod dlq;
mod dlq_rate;
mod error;
mod guard;
mod health;
mod host;
mod json;
mod live;
mod metrics;
mod options;
mod reprocess;
mod rounds;
mod routes;
mod serve;
mod shadow;
mod smartmodules;
mod sources;
mod stall;
mod status_metrics;
mod topics;
mod windows;

pub use host::{ConnectorChange, ConnectorRefusal, Host, Limit};
pub use options::{BadToken, Options, Token};
pub use serve::{BindError, ServeError, Server};
