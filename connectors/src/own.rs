//! What of a connector's own settings is never printed, whether it was written as a secret or not: logins, keys, headers, and
//! an endpoint's path. What of them a server sends back is found in its answers by [`Hidden`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::connector::Connector;
use crate::hidden::percent_decoded;
use crate::http::{HeaderLine, PLACEHOLDERS};
use crate::{HttpOptions, ParquetOptions, PostgresOptions, RedisOptions, ServerUrl};

/// A shorter step of an endpoint's path is a word, and no key.
const LEAST_STEP: usize = 8;
/// Headers that say what is sent, and nothing of who sends it.
const PLAIN_HEADERS: [&str; 7] =
    ["accept", "accept-encoding", "accept-language", "cache-control", "content-encoding", "content-type", "user-agent"];

impl Connector {
    /// With all that it is never to print of its settings as they are now.
    #[must_use]
    pub fn hiding_its_own(mut self) -> Self {
        let own = match &self {
            Self::Postgres(PostgresOptions { url, .. }) | Self::Redis(RedisOptions { url, .. }) => {
                url.iter().flat_map(of_url).collect()
            }
            Self::Parquet(options) => of_store(options),
            Self::Http(HttpOptions { endpoint, headers, .. }) => {
                endpoint.iter().flat_map(of_url).chain(headers.iter().flat_map(of_header)).collect::<Vec<_>>()
            }
        };
        let hidden = self.hidden().and(&own);
        match &mut self {
            Self::Postgres(options) => options.hidden = hidden,
            Self::Redis(options) => options.hidden = hidden,
            Self::Parquet(options) => options.hidden = hidden,
            Self::Http(options) => options.hidden = hidden,
        }
        self
    }
}

/// The login of an address, passwords among its parameters, and of an endpoint all behind the host.
pub(crate) fn of_url(url: &ServerUrl) -> Vec<String> {
    let Some((scheme, rest)) = url.0.split_once("://") else { return Vec::new() };
    let is_http = scheme == "http" || scheme == "https";
    let (authority, behind) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    // A database's password may have such a sign in it, not encoded, and goes on behind it.
    let login = if is_http { authority } else { rest };
    let mut own = login.rsplit_once('@').map(|(login, _)| of_login(login, is_http)).unwrap_or_default();
    let (path, query) = behind.split_once('?').unwrap_or((behind, ""));
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        if is_http || name.contains("pass") {
            own.extend([value.to_owned(), percent_decoded(value)]);
        }
    }
    if is_http && behind.len() > 1 {
        let steps = path.split('/').filter(|step| step.len() >= LEAST_STEP);
        own.extend(steps.flat_map(|step| [step.to_owned(), percent_decoded(step)]));
        own.extend([behind.to_owned(), path.to_owned()]);
    }
    own
}

/// `user:password` in every form that it takes; a user alone where that may be a token.
fn of_login(login: &str, is_http: bool) -> Vec<String> {
    let decoded = percent_decoded(login);
    let mut own: Vec<String> = match login.split_once(':') {
        Some((_, password)) => vec![password.to_owned(), percent_decoded(password), login.to_owned(), decoded.clone()],
        None if is_http => vec![login.to_owned(), decoded.clone()],
        None => return Vec::new(),
    };
    let pair = if login.contains(':') { decoded } else { format!("{decoded}:") };
    own.push(STANDARD.encode(pair));
    own
}

/// What a header holds beside placeholders; of `Bearer` and the like also the token by itself, of `Basic` the login.
fn of_header(line: &HeaderLine) -> Vec<String> {
    let Some((name, value)) = line.0.split_once(':') else { return Vec::new() };
    if PLAIN_HEADERS.contains(&name.trim().to_ascii_lowercase().as_str()) {
        return Vec::new();
    }
    let text = PLACEHOLDERS.iter().fold(value.to_owned(), |text, word| text.replace(&format!("{{{word}}}"), "\0"));
    let mut own = Vec::new();
    for part in text.split('\0').map(str::trim) {
        own.push(part.to_owned());
        let Some((scheme, token)) = part.split_once(' ') else { continue };
        own.push(token.trim().to_owned());
        if scheme.eq_ignore_ascii_case("basic")
            && let Some(login) = STANDARD.decode(token.trim()).ok().and_then(|login| String::from_utf8(login).ok())
        {
            own.extend(login.split_once(':').map(|(_, password)| password.to_owned()));
            own.push(login);
        }
    }
    own
}

fn of_store(options: &ParquetOptions) -> Vec<String> {
    let ParquetOptions { access_key_id, secret_access_key, endpoint, service_account_key, .. } = options;
    let mut own: Vec<String> = endpoint.iter().flat_map(|url| of_url(&ServerUrl(url.clone()))).collect();
    own.extend([access_key_id, secret_access_key, service_account_key].into_iter().flatten().cloned());
    let account = service_account_key.as_deref().and_then(|key| serde_json::from_str(key).ok());
    let account: serde_json::Value = account.unwrap_or_default();
    for key in ["private_key", "private_key_id"] {
        let lines = account[key].as_str().unwrap_or_default().lines();
        // Without the lines that every key begins and ends with.
        own.extend(lines.filter(|line| !line.starts_with("-----")).map(str::to_owned));
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_hidden_in_every_form_that_a_server_may_send_back() {
        for (url, text, shown) in [
            ("https://me:s3cr%24t@h/p", "Basic bWU6czNjciR0 of me:s3cr$t, s3cr%24t", "Basic *** of ***, ***"),
            ("https://t0ken@h", "user t0ken, dDBrZW46", "user ***, ***"),
            ("https://h/hooks/T0KEN-123?key=abc1", "POST /hooks/T0KEN-123 key: abc1", "POST *** key: ***"),
            ("postgres://me:s3/c?r3t@h/db", "s3/c?r3t of me", "*** of me"),
            ("postgres://me:s3/cr3t@h/db?sslmode=require", "require s3/cr3t for me", "require *** for me"),
            ("postgres://me@h/db?password=s3cr3t", "s3cr3t of me at h", "*** of me at h"),
            ("redis://:s3cr3t@h:6379/0", "redis h:6379/0 s3cr3t", "redis h:6379/0 ***"),
        ] {
            let hidden = crate::Hidden::new(&of_url(&ServerUrl(url.to_owned())));
            assert_eq!(hidden.redact(text), shown, "{url}");
        }
    }

    #[test]
    fn headers_and_keys_are_hidden_however_they_were_written() {
        let headers = ["Authorization: Basic bWU6czNjcjN0", "X-Key: k3y-{topic}-3nd", "Accept: text/plain"];
        let headers = headers.map(|line| HeaderLine(line.to_owned())).to_vec();
        let http = Connector::Http(HttpOptions { headers, ..HttpOptions::default() }).hiding_its_own();
        let echo = "Basic bWU6czNjcjN0 me:s3cr3t s3cr3t k3y-ad_events-3nd text/plain";
        assert_eq!(http.hidden().redact(echo), "*** *** *** ***ad_events*** text/plain");
        let key = "{\"private_key\": \"-----BEGIN-----\\nMIIEabc\\n-----END-----\"}";
        let options = ParquetOptions {
            access_key_id: Some("AKIA1".to_owned()),
            secret_access_key: Some("83716254839".to_owned()),
            service_account_key: Some(key.to_owned()),
            ..ParquetOptions::default()
        };
        let files = Connector::Parquet(options).hiding_its_own();
        assert_eq!(files.hidden().redact("AKIA1/2014 83716254839 MIIEabc"), "***/2014 *** ***");
    }
}
