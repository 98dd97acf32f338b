//! clickmill-pipeline
