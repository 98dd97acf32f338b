//! clickmill-broker
