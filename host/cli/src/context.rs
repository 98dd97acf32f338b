//! Where answers about a data directory come from: the host that runs on it, over HTTP, or its files when none does.
//!
//! Reading verbs ask a [`Place`] and need not know which of the two it is.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use clickmill_broker::{BrokerError, EmbeddedLog, TopicPartition};
use clickmill_connectors::percent_encoded;
use clickmill_pipeline::views::records::{PageLimits, RecordPage, read_exact_page, read_page};
use clickmill_pipeline::views::render::parse_json;
use clickmill_pipeline::views::status::{RunState, Status, TopicView, topics};
use clickmill_pipeline::views::{self, WindowQuery, WindowRow};
use clickmill_schemas::Offset;
use clickmill_schemas::record::RecordSetBuilder;
use clickmill_schemas::round::{RoundBatch, put_batch};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::config::Config;
use crate::exit::mistake;
use crate::stack::place::log_dir;

/// How long a host that has just begun may take to say where it listens.
const ADDRESS_PATIENCE: Duration = Duration::from_secs(5);
/// Longest time for an answer; windows are written as they are read and may take longer in all.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// What to do where a host answers 401.
pub const TOKEN_NEEDED: &str =
    "the host asks for its token: give it in CLICKMILL_TOKEN, or as server.token in clickmill.yaml";
/// Bytes of keys and values of a page, about.
const PAGE_BYTES: usize = 4 << 20;

/// Folder of the log of a data directory that is there.
///
/// # Errors
/// A mistake where there is none.
pub fn existing_log_dir(config: &Config) -> Result<PathBuf> {
    let dir = log_dir(config);
    if dir.is_dir() {
        return Ok(dir);
    }
    Err(mistake(format!(
        "there is nothing of clickmill in {}: name another folder with --data-dir, or begin with `clickmill demo` or \
         `clickmill run`",
        config.data_dir.display()
    )))
}

/// Where answers come from.
pub enum Place {
    /// A running host.
    Host(Host),
    /// The files of a stopped one.
    Folder(EmbeddedLog),
}

impl Place {
    /// Finds who has the data directory; waits a little for a host that is just starting.
    ///
    /// # Errors
    /// A mistake where there is no such data directory, or who has it does not serve HTTP.
    pub fn of(config: &Config) -> Result<Self> {
        let dir = existing_log_dir(config)?;
        let shown = config.data_dir.display();
        let begun = Instant::now();
        loop {
            if let Some(holder) = EmbeddedLog::holder(&dir)? {
                if let Some(address) = address_in(&holder.text) {
                    return Ok(Self::Host(Host::new(address, config)));
                }
                if begun.elapsed() > ADDRESS_PATIENCE {
                    return Err(mistake(format!(
                        "the data directory {shown} is in use by {holder}, which serves no HTTP: wait until it has \
                         ended, or run it with server.enabled"
                    )));
                }
            } else {
                match EmbeddedLog::open_read_only(&dir) {
                    Ok(log) => return Ok(Self::Folder(log)),
                    // Somebody was faster: ask who.
                    Err(BrokerError::Locked { .. }) if begun.elapsed() < ADDRESS_PATIENCE => {}
                    Err(e) => return Err(e.into()),
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The host that runs on the data directory now; none where none does, or it has not said yet where it listens.
    ///
    /// # Errors
    /// As [`Place::of`].
    pub fn running(config: &Config) -> Result<Option<Host>> {
        let holder = EmbeddedLog::holder(&existing_log_dir(config)?)?;
        let address = holder.and_then(|holder| address_in(&holder.text));
        Ok(address.map(|address| Host::new(address, config)))
    }

    pub fn status(&self) -> Result<Status> {
        match self {
            Self::Host(host) => host.get("/api/status"),
            Self::Folder(log) => Ok(views::status(log, RunState::Stopped, Vec::new())?),
        }
    }

    pub fn topics(&self) -> Result<Vec<TopicView>> {
        #[derive(Deserialize)]
        struct Topics {
            topics: Vec<TopicView>,
        }
        match self {
            Self::Host(host) => Ok(host.get::<Topics>("/api/topics")?.topics),
            Self::Folder(log) => Ok(topics(log)?),
        }
    }

    /// Some records from `from` on; at the end, waits up to `wait` where a host runs. `exact`: nothing is decoded.
    pub fn page(
        &self,
        at: &TopicPartition,
        from: Offset,
        limit: usize,
        wait: Duration,
        exact: bool,
    ) -> Result<RecordPage> {
        match self {
            Self::Host(host) => {
                let (topic, partition, wait_ms) = (&at.topic, at.partition, wait.as_millis());
                host.get(&format!(
                    "/api/topics/{topic}/partitions/{partition}/records?offset={from}&limit={limit}&wait_ms={wait_ms}\
                     &exact={exact}"
                ))
            }
            Self::Folder(log) => {
                let read = if exact { read_exact_page } else { read_page };
                let limits = PageLimits { records: limit, bytes: PAGE_BYTES, wait: Duration::ZERO };
                match read(log, at, from, limits) {
                    Err(views::ViewError::Broker(e @ BrokerError::OffsetOutOfRange { .. })) => {
                        Err(mistake(e.to_string()))
                    }
                    page => Ok(page?),
                }
            }
        }
    }

    /// The rows in the order of the contract.
    pub fn windows(&self, query: &WindowQuery) -> Result<WindowRows<'_>> {
        match self {
            Self::Host(host) => host.windows(query),
            Self::Folder(log) => Ok(Box::new(views::windows(log, query)?.into_rows().map(|row| Ok(row?)))),
        }
    }
}

/// Windows, as they are read.
pub type WindowRows<'a> = Box<dyn Iterator<Item = Result<WindowRow>> + 'a>;

fn address_in(text: &str) -> Option<String> {
    let address = text[text.find("http://")?..].split_whitespace().next()?;
    Some(address.trim_end_matches('/').to_owned())
}

/// A running host.
pub struct Host {
    agent: ureq::Agent,
    address: String,
    token: Option<String>,
}

impl Host {
    fn new(address: String, config: &Config) -> Self {
        let settings = ureq::Agent::config_builder()
            // A proxy cannot reach this machine's loopback.
            .proxy(None)
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_recv_response(Some(ANSWER_TIMEOUT))
            .http_status_as_error(false)
            .build();
        let token = config.server.token.as_ref().map(|t| t.expose().to_owned());
        Self { agent: settings.into(), address, token }
    }

    fn call(&self, path: &str) -> Result<impl Read + use<>> {
        self.send("GET", path, &[])
    }

    fn send(&self, method: &str, path: &str, body: &[u8]) -> Result<impl Read + use<>> {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.address));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let asking = || format!("asking the host at {}", self.address);
        let request = request.body(body).with_context(asking)?;
        // A body with DELETE is unusual, and has a meaning here.
        let request = self.agent.configure_request(request).allow_non_standard_methods(true).build();
        let response = self.agent.run(request).map_err(|error| {
            let refused = matches!(&error, ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::ConnectionRefused);
            let unknown = match method == "GET" || refused {
                true => "",
                false => " (it may have been done all the same: look at `clickmill status` and `smartmodule history`)",
            };
            anyhow::Error::new(error).context(format!("{}{unknown}", asking()))
        })?;
        let status = response.status().as_u16();
        let body = response.into_body();
        if status == 200 {
            return Ok(body.into_reader());
        }
        let mut text = String::new();
        // Whatever of it can be read serves for the message.
        let _ = body.into_reader().take(1 << 16).read_to_string(&mut text);
        Err(refusal(status, &message(&text), &self.address))
    }

    /// Sends a JSON body.
    pub fn ask<T: DeserializeOwned>(&self, method: &str, path: &str, body: &impl serde::Serialize) -> Result<T> {
        let answer = BufReader::new(self.send(method, path, &serde_json::to_vec(body)?)?);
        serde_json::from_reader(answer)
            .with_context(|| format!("{}{path} did not answer as clickmill does", self.address))
    }

    /// Appends records to a topic that may be written from outside; the offset of the first.
    pub fn append(&self, at: &TopicPartition, set: &RecordSetBuilder) -> Result<Offset> {
        #[derive(Deserialize)]
        struct Answer {
            base_offsets: [Offset; 1],
        }
        let mut body = Vec::new();
        let (partition, base_timestamp_ms) = (at.partition, set.base_timestamp_ms());
        put_batch(&mut body, &RoundBatch { partition, base_timestamp_ms, set: set.bytes() })?;
        let answer = self.send("POST", &format!("/internal/topics/{}/rounds", at.topic), &body)?;
        let answer: Answer = serde_json::from_reader(BufReader::new(answer))?;
        Ok(answer.base_offsets[0])
    }

    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let body = BufReader::new(self.call(path)?);
        serde_json::from_reader(body)
            .with_context(|| format!("{}{path} did not answer as clickmill does", self.address))
    }

    /// An answer of lines, as they come.
    pub fn lines(&self, path: &str) -> Result<impl BufRead + use<>> {
        Ok(BufReader::with_capacity(1 << 16, self.call(path)?))
    }

    fn windows(&self, query: &WindowQuery) -> Result<WindowRows<'static>> {
        let mut path = format!("/api/windows?format=jsonl&size={}", views::windows::size_name(query.size_ms));
        for (name, value) in [
            ("dimension", query.dimension.as_deref().map(percent_encoded)),
            ("from", query.from_ms.map(|ms| ms.to_string())),
            ("to", query.to_ms.map(|ms| ms.to_string())),
        ] {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={value}"));
            }
        }
        let lines = self.lines(&path)?.lines();
        let address = self.address.clone();
        Ok(Box::new(lines.map(move |line| {
            let line = line.with_context(|| format!("reading windows from {address}"))?;
            parse_json(&line).map_err(|e| anyhow!("{address} did not answer as clickmill does: {e}"))
        })))
    }
}

fn refusal(status: u16, message: &str, address: &str) -> anyhow::Error {
    match status {
        400 | 404 => mistake(message),
        401 => mistake(TOKEN_NEEDED),
        // Sound requests whose time has not come, or whose module is not fit: the host says it all.
        409 | 422 => anyhow!("{message}"),
        _ => anyhow!("{address} answers {status}: {message}"),
    }
}

/// The message of an error's JSON body, else the body itself.
fn message(body: &str) -> String {
    let parsed: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let message = parsed.as_ref().and_then(|v| v.pointer("/error/message")?.as_str());
    message.unwrap_or(body).trim().chars().take(2_000).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_what_a_host_says_of_itself() {
        assert_eq!(address_in("http://127.0.0.1:8088/").as_deref(), Some("http://127.0.0.1:8088"));
        assert_eq!(address_in("clickmill run, http://[::1]:9 since 10:00").as_deref(), Some("http://[::1]:9"));
        assert_eq!(address_in("clickmill produce"), None);
    }

    #[test]
    fn what_the_host_refuses_for_the_users_sake_is_the_users_mistake() {
        assert_eq!(crate::exit::code_of(&refusal(400, "no", "here")), 2);
        assert_eq!(crate::exit::code_of(&refusal(401, "no", "here")), 2);
        assert_eq!(crate::exit::code_of(&refusal(503, "no", "here")), 1);
        assert_eq!(message(r#"{"error":{"message":"why"}}"#), "why");
        assert_eq!(message("plain\n"), "plain");
    }
}
