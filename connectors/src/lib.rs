//! clickmill-connectors
