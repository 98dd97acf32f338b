//! `clickmill bench`: what the project claims about speed and memory, measured in one run against a native reference.

pub mod reference;
