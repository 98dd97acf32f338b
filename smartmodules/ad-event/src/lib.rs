//! clickmill-ad-event
