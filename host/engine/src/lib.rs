//! clickmill-engine
