//! What a file's values mean: addresses, authorities, keys and headers that have the right shape and would never work.
//!
//! Addresses are read by those who connect to them. Nothing is connected to.

use std::path::Path;

use reqwest::Url;
use serde_json::{Map, Value as Json};

use super::fields::Type;
use super::node::{Node, Place, Value};
use super::{Problem, get};
use crate::endpoint::ServerUrl;
use crate::own::of_url;
use crate::tls::{self, Trust};
use crate::{BatchOptions, Hidden, PostgresOptions, postgres, redis};

/// Headers that are made for each request, whatever a file says.
const OWN_HEADERS: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "idempotency-key",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// What is wrong with a file, `described` as its JSON, as far as that is of the right shape.
pub fn check(file: &Node, described: &Json, problems: &mut Vec<Problem>) {
    for kind in Type::ALL {
        let name = kind.section();
        let (Some(node), Some(Json::Object(values))) = (get(file, name), described.get(name)) else { continue };
        let mut section = Section { name, node, values, problems: &mut *problems };
        match kind {
            Type::PostgresSink => section.postgres(&described["meta"]["consumer"]["timeout_ms"]),
            Type::RedisSink => section.redis(),
            Type::ParquetSink => section.parquet(),
            Type::HttpSink => section.http(),
        }
    }
}

/// Where the address of a file's server stands.
pub fn address_at(file: &Node, kind: Type) -> Option<Place> {
    let key = if kind == Type::HttpSink { "endpoint" } else { "url" };
    Some(get(get(file, kind.section())?, key)?.at)
}

/// The section of a type.
struct Section<'a> {
    name: &'static str,
    node: &'a Node,
    values: &'a Map<String, Json>,
    problems: &'a mut Vec<Problem>,
}

impl Section<'_> {
    fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key)?.as_str()
    }

    fn problem(&mut self, key: &str, what: &str) {
        let at = get(self.node, key).map_or(self.node.at, |node| node.at);
        self.problems.push(Problem { at, message: format!("`{}.{key}`: {what}", self.name) });
    }

    /// An address, as whoever connects reads it; what they say of it without what it hides.
    fn address(&mut self, key: &str, read: impl FnOnce(&str) -> Result<(), String>) {
        let Some(url) = self.text(key) else { return };
        if let Err(why) = read(url) {
            let why = Hidden::new(&of_url(&ServerUrl(url.to_owned()))).redact(&why);
            self.problem(key, &format!("it is no address that can be used: {why}"));
        }
    }

    fn authorities(&mut self) {
        let Some(file) = self.text("tls_ca_file") else { return };
        if let Err(why) = tls::client(Trust::Authority(Some(Path::new(file)))) {
            self.problem("tls_ca_file", &why.to_string());
        }
    }

    fn postgres(&mut self, timeout_ms: &Json) {
        self.address("url", postgres::check_address);
        self.authorities();
        let timeout_ms = timeout_ms.as_u64().unwrap_or(BatchOptions::default().timeout_ms);
        let statement_ms = self.values.get("statement_timeout_ms").and_then(Json::as_u64);
        if let Some(statement_ms) = statement_ms.filter(|ms| *ms >= timeout_ms) {
            let what = format!(
                "{statement_ms} is not less than the {timeout_ms} of `meta.consumer.timeout_ms`, after which an answer is not waited for \
                 any more, and the server still works on the statement"
            );
            self.problem("statement_timeout_ms", &what);
        }
    }

    fn redis(&mut self) {
        self.address("url", redis::check_address);
        self.authorities();
    }

    fn parquet(&mut self) {
        self.address("endpoint", is_url);
        for (key, other) in [("access_key_id", "secret_access_key"), ("secret_access_key", "access_key_id")] {
            if self.values.contains_key(key) && !self.values.contains_key(other) {
                self.problem(key, &format!("without `{other}` it is not used: set both, or none"));
            }
        }
        let allows_http = self.values.get("allow_http") == Some(&Json::Bool(true));
        if !allows_http && self.text("endpoint").is_some_and(|url| url.starts_with("http://")) {
            self.problem(
                "endpoint",
                "it goes without TLS, which is refused unless `allow_http: true` stands beside it",
            );
        }
        if let Some(key) = self.text("service_account_key")
            && serde_json::from_str::<Map<String, Json>>(key).is_err()
        {
            self.problem("service_account_key", "it is no key of a service account, which is a JSON object");
        }
    }

    fn http(&mut self) {
        self.address("endpoint", is_url);
        let Some(Node { value: Value::List(lines), .. }) = get(self.node, "headers") else { return };
        for (i, Node { at, value }) in lines.iter().enumerate() {
            let Value::Text(line) = value else { continue };
            let name = line.split(':').next().unwrap_or_default().trim().to_ascii_lowercase();
            if OWN_HEADERS.contains(&name.as_str()) {
                let message = format!("`http.headers[{i}]`: {name} is set for each request by itself: leave it out");
                self.problems.push(Problem { at: *at, message });
            }
        }
    }
}

fn is_url(text: &str) -> Result<(), String> {
    Url::parse(text).map(drop).map_err(|e| e.to_string())
}

/// Time that a statement may take where a file does not say: less than its answer is waited for.
pub fn statement_timeout_ms(timeout_ms: u64) -> u64 {
    PostgresOptions::default().statement_timeout_ms.min(timeout_ms / 2)
}
