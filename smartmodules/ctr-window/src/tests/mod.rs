//! Tests of the crate as a whole.

mod against_model;
mod model;
mod module;
