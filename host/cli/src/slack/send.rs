//! Posts to a Slack webhook. The address is a secret: nothing here prints it.

use std::time::Duration;

use serde_json::json;

use crate::config::Secret;

/// Longest time for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest `Retry-After` that is obeyed.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// Why a message was not taken.
#[derive(Debug, PartialEq, Eq)]
pub struct NotSent {
    pub why: String,
    /// How long to wait at least.
    pub wait: Option<Duration>,
    /// It is this message that is refused, and would be each time.
    pub for_good: bool,
}

/// The webhook of a channel.
pub struct Webhook {
    agent: ureq::Agent,
    url: Secret,
}

impl Webhook {
    pub fn new(url: Secret) -> Self {
        let settings = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            // The address is the secret: it goes to nobody else.
            .max_redirects(0)
            .build();
        Self { agent: settings.into(), url }
    }

    /// Returns once Slack has taken it.
    ///
    /// # Errors
    /// [`NotSent`]
    pub fn post(&self, text: &str) -> Result<(), NotSent> {
        // Whatever the client says of a failure may name the address.
        let failed = |e: ureq::Error| NotSent {
            why: e.to_string().replace(self.url.expose(), "***"),
            wait: None,
            for_good: false,
        };
        // As bytes: this client has no encoder but for JSON of its own.
        let body = json!({"text": text}).to_string();
        let request = self.agent.post(self.url.expose()).header("Content-Type", "application/json");
        let response = request.send(body).map_err(failed)?;
        let status = response.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(());
        }
        let asked = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let wait = asked.map(|seconds| Duration::from_secs(seconds).min(LONGEST_WAIT));
        // Any other refusal is of the channel, or of the moment.
        Err(NotSent { why: format!("it answers {status}"), wait, for_good: matches!(status, 400 | 413 | 422) })
    }
}
