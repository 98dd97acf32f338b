//! [`Options`]: every limit of the server, with its unit in its name; and the token.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Settings of a server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 takes a free one. Default: 127.0.0.1:8088.
    pub listen: SocketAddr,
    /// Required beyond loopback. Default: none.
    pub token: Option<Token>,
    /// Longest body of a request. Default: 8 MiB.
    pub max_body_bytes: usize,
    /// Longest line of a body of records. Default: 4 MiB.
    pub max_record_bytes: usize,
    /// Bytes of request bodies that may be in memory at once; further requests get 429. Default: 48 MiB.
    pub max_body_bytes_in_flight: usize,
    /// How long a request may take; the live stream is not bound by it. Default: 30 s.
    pub request_timeout: Duration,
    /// How long the head of a request may take to come in. Default: 10 s.
    pub header_timeout: Duration,
    /// Requests at work at once; further ones get 503. Default: 64.
    pub max_in_flight_requests: usize,
    /// Open connections; further ones wait to be accepted. Default: 768.
    pub max_connections: usize,
    /// Listeners of the live stream; three quarters of the connections at most. Default: 512.
    pub max_live_clients: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8088)),
            token: None,
            max_body_bytes: 8 << 20,
            max_record_bytes: 4 << 20,
            max_body_bytes_in_flight: 48 << 20,
            request_timeout: Duration::from_secs(30),
            header_timeout: Duration::from_secs(10),
            max_in_flight_requests: 64,
            max_connections: 768,
            max_live_clients: 512,
        }
    }
}

impl Options {
    /// Listeners that there may be: others must get through beside them.
    #[must_use]
    pub(crate) const fn live_clients(&self) -> usize {
        let most = self.max_connections.saturating_mul(3).div_ceil(4);
        if self.max_live_clients < most { self.max_live_clients } else { most }
    }
}

/// A shared secret. Shown nowhere: its `Debug` is masked.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// A text that cannot be a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a token has at least {} visible ASCII characters and no spaces; `openssl rand -hex 32` makes a good one",
    Token::MIN_LEN
)]
pub struct BadToken;

impl Token {
    /// Least length, characters.
    pub const MIN_LEN: usize = 16;

    /// # Errors
    /// [`BadToken`] for a text that is short or cannot stand in a header.
    pub fn new(text: impl Into<String>) -> Result<Self, BadToken> {
        let text = text.into();
        let sound = text.len() >= Self::MIN_LEN && text.bytes().all(|b| b.is_ascii_graphic());
        if sound { Ok(Self(text)) } else { Err(BadToken) }
    }

    /// Whether `given` is this token; takes as long wherever the two differ.
    #[must_use]
    pub fn matches(&self, given: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let differing = own.iter().zip(given).fold(0, |seen, (a, b)| std::hint::black_box(seen | (a ^ b)));
        differing == 0 && own.len() == given.len()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_printed_and_matches_only_itself() {
        let token = Token::new("0123456789abcdef").unwrap();
        let options = Options { token: Some(token.clone()), ..Options::default() };
        assert!(!format!("{options:?}").contains("0123456789abcdef"));
        assert!(token.matches(b"0123456789abcdef"));
        for other in [&b""[..], b"0123456789abcde", b"0123456789abcdeg", b"0123456789abcdef0"] {
            assert!(!token.matches(other));
        }
    }

    #[test]
    fn listeners_leave_connections_for_others() {
        let of =
            |max_connections, max_live_clients| Options { max_connections, max_live_clients, ..Options::default() };
        let listeners = [of(768, 512), of(512, 512), of(1, 512), of(512, 1)].map(|options| options.live_clients());
        assert_eq!(listeners, [512, 384, 1, 1]);
    }

    #[test]
    fn a_short_or_unprintable_token_is_refused() {
        for bad in ["", "short", "0123456789 abcdef", "0123456789abcdeé", "0123456789abcdef\n"] {
            assert_eq!(Token::new(bad), Err(BadToken), "{bad:?}");
        }
    }
}
