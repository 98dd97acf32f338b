//! clickmill-server
