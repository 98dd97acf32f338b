//! What every request passes before its handler: other sites kept out, the token, limits, and what goes on the record.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::error::ApiError;
use crate::options::{Options, Token};
use crate::routes::App;

/// The page may load from and talk to this server only.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Refuses a request without the token, where there is one.
pub(crate) async fn token(State(app): State<Arc<App>>, request: Request<Body>, next: Next) -> Response {
    match app.options.token.as_ref() {
        Some(token) if !carries(token, request.headers()) => ApiError::Unauthorized.into_response(),
        _ => next.run(request).await,
    }
}

fn carries(token: &Token, headers: &HeaderMap) -> bool {
    let Some(given) = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes) else {
        return false;
    };
    let Some((scheme, secret)) = given.split_at_checked("Bearer ".len()) else {
        return false;
    };
    scheme.eq_ignore_ascii_case(b"Bearer ") && token.matches(secret)
}

/// Refuses what a page of another site may make a browser send.
pub(crate) async fn same_site(State(app): State<Arc<App>>, request: Request<Body>, next: Next) -> Response {
    match foreign(&app.options, request.method(), request.headers()) {
        Some(refusal) => refusal.into_response(),
        None => next.run(request).await,
    }
}

fn foreign(options: &Options, method: &Method, headers: &HeaderMap) -> Option<ApiError> {
    let text = |name: HeaderName| headers.get(name).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
    let host = text(header::HOST).unwrap_or_default();
    // A name that an attacker points at 127.0.0.1 (DNS rebinding) shows in `Host`. With a token it gains nothing.
    if options.token.is_none() && !host.is_empty() && !is_loopback_name(&host) {
        return Some(ApiError::ForeignHost(host));
    }
    if method == Method::GET || method == Method::HEAD {
        return None;
    }
    let origin = text(header::ORIGIN);
    let own =
        |origin: &str| origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(&host));
    if let Some(origin) = origin.filter(|o| !own(o)) {
        return Some(ApiError::ForeignOrigin(origin));
    }
    let site = text(HeaderName::from_static("sec-fetch-site")).filter(|s| s == "cross-site" || s == "same-site");
    site.map(ApiError::ForeignOrigin)
}

/// Whether `Host` (with or without a port) names this machine.
fn is_loopback_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// At most so many requests at once, each at most so long.
pub(crate) async fn limits(State(app): State<Arc<App>>, request: Request<Body>, next: Next) -> Response {
    let Ok(_permit) = app.in_flight.try_acquire() else {
        return ApiError::Overloaded.into_response();
    };
    match tokio::time::timeout(app.options.request_timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::Timeout.into_response(),
    }
}

/// Counts and times the request, and sets the headers that every answer has.
pub(crate) async fn record(State(app): State<Arc<App>>, request: Request<Body>, next: Next) -> Response {
    let began = Instant::now();
    let path = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    let mut response = next.run(request).await;
    let route = path.as_ref().map_or("other", MatchedPath::as_str);
    app.http.observe(&method, route, response.status(), began.elapsed());
    let headers = response.headers_mut();
    let mut set = |name, value| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    set(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    set(header::CACHE_CONTROL, "no-store");
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(options: &Options, method: &Method, headers: &[(&'static str, &'static str)]) -> Option<u16> {
        let headers = headers
            .iter()
            .map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v)))
            .collect::<HeaderMap>();
        foreign(options, method, &headers).map(|e| e.status().as_u16())
    }

    #[test]
    fn a_name_that_is_not_this_machine_is_refused_on_loopback_without_a_token() {
        let open = Options::default();
        for own in ["localhost", "LOCALHOST:8088", "127.0.0.1:8088", "127.1.2.3", "[::1]:8088"] {
            assert_eq!(refused(&open, &Method::GET, &[("host", own)]), None, "{own}");
        }
        for foreign in ["evil.example:8088", "localhost.evil.example", "192.168.0.7", "[::2]"] {
            assert_eq!(refused(&open, &Method::GET, &[("host", foreign)]), Some(421), "{foreign}");
        }
        let guarded = Options { token: Token::new("0123456789abcdef").ok(), ..Options::default() };
        assert_eq!(refused(&guarded, &Method::GET, &[("host", "ads.example")]), None);
    }

    #[test]
    fn another_sites_page_cannot_post() {
        let open = Options::default();
        let host = ("host", "127.0.0.1:8088");
        let post = |origin| refused(&open, &Method::POST, &[host, ("origin", origin)]);
        assert_eq!(post("http://127.0.0.1:8088"), None);
        assert_eq!(post("http://evil.example"), Some(403));
        assert_eq!(post("http://127.0.0.1:9999"), Some(403));
        assert_eq!(post("null"), Some(403));
        assert_eq!(refused(&open, &Method::POST, &[host, ("sec-fetch-site", "cross-site")]), Some(403));
        assert_eq!(refused(&open, &Method::POST, &[host]), None);
        assert_eq!(refused(&open, &Method::GET, &[host, ("origin", "http://evil.example")]), None);
    }

    #[test]
    fn only_the_bearer_of_the_token_passes() {
        let token = Token::new("0123456789abcdef").unwrap();
        let with = |value| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static(value));
            carries(&token, &headers)
        };
        assert!(with("Bearer 0123456789abcdef") && with("bearer 0123456789abcdef"));
        assert!(!with("Bearer 0123456789abcdee") && !with("Basic 0123456789abcdef") && !with("Bearer"));
        assert!(!carries(&token, &HeaderMap::new()));
    }
}
