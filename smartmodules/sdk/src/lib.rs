//! clickmill-sdk
