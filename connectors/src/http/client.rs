//! One request: what is sent, and what its answer means.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Response, StatusCode, Url};

use super::{HttpOptions, Method, PLACEHOLDERS};
use crate::endpoint::ServerUrl;
use crate::hidden::Hidden;
use crate::sink::SinkError;
use crate::tls;

const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Longest wait that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// What is told of an answer's body, bytes.
const TOLD: usize = 200;

/// Sends batches to one endpoint.
pub struct Client {
    client: reqwest::Client,
    endpoint: Url,
    method: reqwest::Method,
    headers: Vec<(HeaderName, String)>,
    hidden: Hidden,
}

/// What became of a batch.
pub enum Answer {
    Accepted,
    /// The endpoint takes others, but not this: the status, and why.
    Refused(StatusCode, String),
    /// It takes none now: why, and for how long at least.
    NotNow(SinkError, Duration),
}

impl Client {
    /// # Errors
    /// [`SinkError::Config`] for what is no address, or no header.
    pub fn new(options: &HttpOptions, endpoint: &ServerUrl) -> Result<Self, SinkError> {
        let bad = |what: String| SinkError::Config(format!("connector {}: {what}", options.name));
        let url = Url::parse(&endpoint.0).map_err(|e| bad(format!("{endpoint} is no address of an endpoint: {e}")))?;
        let mut headers = Vec::new();
        for line in &options.headers {
            let (name, value) = line.0.split_once(':').ok_or_else(|| bad(format!("{line:?} is no header")))?;
            let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|e| bad(format!("{line:?}: {e}")))?;
            headers.push((name, value.trim().to_owned()));
        }
        tls::install();
        let client = reqwest::Client::builder()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIME)
            .timeout(Duration::from_millis(options.batch.timeout_ms))
            .user_agent(concat!("clickmill/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| SinkError::unavailable("set up HTTP", e))?;
        let method = match options.method {
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
        };
        Ok(Self { client, endpoint: url, method, headers, hidden: options.hidden.clone() })
    }

    /// Sends a body; `values` are those of [`PLACEHOLDERS`], in their order.
    ///
    /// # Errors
    /// [`SinkError::Config`] where a header comes out as none.
    pub async fn send(&self, body: String, key: &str, values: &[String; 6]) -> Result<Answer, SinkError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let bad =
            |name: &HeaderName| SinkError::Config(format!("what stands for the header {name} is no header's value"));
        for (name, value) in &self.headers {
            let value = HeaderValue::from_bytes(filled(value, values).as_bytes()).map_err(|_| bad(name))?;
            headers.insert(name, value);
        }
        let name = HeaderName::from_static("idempotency-key");
        headers.insert(&name, HeaderValue::from_str(key).map_err(|_| bad(&name))?);
        let request = self.client.request(self.method.clone(), self.endpoint.clone()).headers(headers).body(body);
        match request.send().await {
            Ok(response) => Ok(judged(response, &self.hidden).await),
            Err(e) => Ok(Answer::NotNow(SinkError::unavailable("send a batch", e.without_url()), Duration::ZERO)),
        }
    }

    /// # Errors
    /// [`SinkError::Unavailable`] where nobody answers, or not to us.
    pub async fn answers(&self) -> Result<(), SinkError> {
        const DOING: &str = "ask the endpoint";
        let mut headers = HeaderMap::new();
        for (name, value) in self.headers.iter().filter(|(_, value)| !value.contains('{')) {
            headers.insert(name, HeaderValue::from_str(value).map_err(|e| SinkError::unavailable(DOING, e))?);
        }
        let asked = self.client.head(self.endpoint.clone()).headers(headers).send().await;
        let status = asked.map_err(|e| SinkError::unavailable(DOING, e.without_url()))?.status();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(SinkError::unavailable(DOING, status.to_string())),
            _ => Ok(()),
        }
    }
}

/// A header's value with what stands for its placeholders.
fn filled(value: &str, values: &[String; 6]) -> String {
    PLACEHOLDERS
        .iter()
        .zip(values)
        .fold(value.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
}

async fn judged(response: Response, hidden: &Hidden) -> Answer {
    let status = response.status();
    let after = wait(response.headers(), Timestamp::now());
    if status.is_success() {
        return Answer::Accepted;
    }
    let why = format!("the endpoint answers {status}{}", told(response, hidden).await);
    match status {
        // What is wrong is in the body; all others would come back for any body.
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => {
            Answer::Refused(status, why)
        }
        _ => Answer::NotNow(SinkError::unavailable("send a batch", why), after),
    }
}

/// `Retry-After`, which is seconds or a date.
fn wait(headers: &HeaderMap, now: Timestamp) -> Duration {
    let text = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).unwrap_or_default().trim();
    let seconds = text.parse().ok().map(Duration::from_secs);
    let until = || DateTimeParser::new().parse_timestamp(text).ok()?.duration_since(now).try_into().ok();
    seconds.or_else(until).unwrap_or_default().min(LONGEST_WAIT)
}

/// The begin of an answer's body. What an endpoint sends back of a request is hidden while all of it is there to be found.
async fn told(mut response: Response, hidden: &Hidden) -> String {
    let most = TOLD + hidden.longest();
    let mut begin = Vec::new();
    while begin.len() < most {
        match response.chunk().await {
            Ok(Some(chunk)) => begin.extend_from_slice(&chunk[..chunk.len().min(most - begin.len())]),
            Ok(None) | Err(_) => break,
        }
    }
    let is_cut = begin.len() == most;
    shown(&String::from_utf8_lossy(&begin), is_cut, hidden)
}

/// Where the text is cut, its last bytes may be a part of what is hidden.
fn shown(text: &str, is_cut: bool, hidden: &Hidden) -> String {
    let text = hidden.redact(text);
    let end = if is_cut { text.len().saturating_sub(hidden.longest()) } else { text.len() }.min(TOLD);
    let text = text[..text.floor_char_boundary(end)].split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() { text } else { format!(": {text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_says_how_long_to_wait_in_seconds_or_by_a_date() {
        let now: Timestamp = "1994-11-06T08:49:30Z".parse().unwrap();
        for (said, seconds) in [
            ("3", 3),
            (" 0 ", 0),
            ("86400", 600),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 7),
            ("Sun, 06 Nov 1994 08:49:00 GMT", 0),
            ("soon", 0),
            ("-1", 0),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(said))]);
            assert_eq!(wait(&headers, now), Duration::from_secs(seconds), "{said}");
        }
        assert_eq!(wait(&HeaderMap::new(), now), Duration::ZERO);
    }

    #[test]
    fn of_an_answer_no_part_of_what_is_hidden_is_told_wherever_it_is_cut() {
        let hidden = Hidden::new(&["s3cr3t-t0ken".to_owned()]);
        let most = TOLD + hidden.longest();
        for before in 0..most + 2 {
            let body = format!("{}s3cr3t-t0ken and more of it{}", "x".repeat(before), "y".repeat(most));
            let told = shown(&body[..most], true, &hidden);
            assert!(
                !told.contains("s3c") && told.starts_with(if before == 0 { ": ***" } else { ": x" }),
                "{before} {told}"
            );
            assert!(told.len() <= TOLD + 2);
        }
        assert_eq!(shown(" it was\n s3cr3t-t0ken ", false, &hidden), ": it was ***");
        assert_eq!(shown("", false, &hidden), "");
    }

    #[test]
    fn placeholders_are_filled_and_nothing_else() {
        let values = ["t", "0", "10", "19", "10", "c"].map(str::to_owned);
        assert_eq!(filled("{topic}/{partition}: {first_offset}-{last_offset} {records}", &values), "t/0: 10-19 10");
        assert_eq!(filled("Bearer abc", &values), "Bearer abc");
    }
}
