//! `GET /api/live/top`: the keys of a dimension over a range of windows, from memory where it has them, else from the topic.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use clickmill_pipeline::views::WindowQuery;
use clickmill_pipeline::views::time::{iso8601, parse_time};
use clickmill_pipeline::views::top::{Order, Question, Top, top};
use clickmill_pipeline::views::windows::{parse_size, size_name, slices};
use serde::{Deserialize, Serialize};

use super::follower::locked;
use crate::clock::now_ms;
use crate::error::ApiError;
use crate::routes::App;

/// Windows of a range: 25 hours of 1 minute, five days of 5. A hundred keys in each are 5 MB of answer.
const MAX_WINDOWS: i64 = 1_500;
/// Windows of a range that is not named.
const DEFAULT_WINDOWS: i64 = 60;
/// Keys of an answer.
const MAX_KEYS: usize = 100;
/// Longest name of a dimension, and longest search, bytes.
const MAX_TEXT_BYTES: usize = 256;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    size: String,
    dimension: String,
    from: Option<String>,
    to: Option<String>,
    #[serde(default = "ten")]
    limit: usize,
    search: Option<String>,
    #[serde(default)]
    order: Order,
}

const fn ten() -> usize {
    10
}

/// Where the windows of an answer were read.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Source {
    Memory,
    Topic,
}

#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    size: String,
    dimension: String,
    from_ms: i64,
    to_ms: i64,
    source: Source,
    #[serde(flatten)]
    top: Top,
}

/// What is asked for, checked.
#[derive(Debug)]
struct Asked {
    size_ms: i64,
    dimension: String,
    from_ms: i64,
    to_ms: i64,
    question: Question,
}

fn refused(why: String) -> ApiError {
    ApiError::BadRequest(why)
}

impl Asked {
    /// `newest`: where the newest window of a size starts.
    fn of(params: Params, newest: impl FnOnce(i64) -> i64) -> Result<Self, ApiError> {
        let Params { size, dimension, from, to, limit, search, order } = params;
        let size_ms = parse_size(&size).map_err(refused)?;
        let texts = [("dimension", Some(&dimension)), ("search", search.as_ref())];
        for (name, text) in texts.into_iter().filter_map(|(name, text)| Some((name, text?))) {
            if text.len() > MAX_TEXT_BYTES {
                let bytes = text.len();
                return Err(refused(format!("`{name}` has {bytes} bytes, and may have {MAX_TEXT_BYTES}")));
            }
        }
        if !(1..=MAX_KEYS).contains(&limit) {
            return Err(refused(format!("`limit` is {limit}, and must be from 1 to {MAX_KEYS}")));
        }
        let time = |text: Option<String>| text.as_deref().map(parse_time).transpose().map_err(refused);
        let (from, to) = (time(from)?, time(to)?);
        let default_ms = DEFAULT_WINDOWS * size_ms;
        let to_ms = to
            .or_else(|| from.map(|from| from.saturating_add(default_ms)))
            .unwrap_or_else(|| newest(size_ms).saturating_add(size_ms));
        let from_ms = from.unwrap_or(to_ms.saturating_sub(default_ms));
        if from_ms >= to_ms {
            let (from, to) = (iso8601(from_ms), iso8601(to_ms));
            return Err(refused(format!("`from` is {from} and must lie before `to`, which is {to}")));
        }
        let windows = to_ms.saturating_sub(from_ms).div_euclid(size_ms);
        if windows > MAX_WINDOWS {
            let what = format!("the range has {windows} windows of {size}, and may have {MAX_WINDOWS}");
            return Err(refused(format!("{what}: take a shorter one, or larger windows")));
        }
        let search = search.filter(|text| !text.is_empty());
        Ok(Self { size_ms, dimension, from_ms, to_ms, question: Question { order, limit, search } })
    }
}

pub(crate) async fn keys(
    State(app): State<Arc<App>>,
    params: Result<Query<Params>, QueryRejection>,
) -> Result<Json<Answer>, ApiError> {
    let Query(params) = params?;
    let newest = |size_ms| locked(&app.store).as_ref().and_then(|s| s.newest_start(size_ms)).unwrap_or_else(now_ms);
    let asked = Asked::of(params, newest)?;
    let held = Arc::clone(&app.streamed_answers).acquire_owned().await.map_err(|_| ApiError::Overloaded)?;
    app.blocking(move |app| {
        let _held = held;
        answer(app, asked).map(Json)
    })
    .await
}

fn answer(app: &App, asked: Asked) -> Result<Answer, ApiError> {
    let Asked { size_ms, dimension, from_ms, to_ms, question } = asked;
    let here = locked(&app.store).as_ref().and_then(|store| store.slices(size_ms, &dimension, from_ms, to_ms));
    let (source, windows) = match here {
        Some(windows) => (Source::Memory, windows),
        None => {
            let (dimension, from_ms, to_ms) = (Some(dimension.clone()), Some(from_ms), Some(to_ms));
            (Source::Topic, slices(&*app.broker, &WindowQuery { size_ms, dimension, from_ms, to_ms })?)
        }
    };
    let top = top(&windows, &question).map_err(|e| ApiError::Internal(format!("a window cannot be read: {e}")))?;
    Ok(Answer { size: size_name(size_ms), dimension, from_ms, to_ms, source, top })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(change: impl FnOnce(&mut Params)) -> Result<Asked, String> {
        let mut params = Params {
            size: "1m".into(),
            dimension: "site_category".into(),
            from: None,
            to: None,
            limit: 10,
            search: None,
            order: Order::default(),
        };
        change(&mut params);
        Asked::of(params, |size_ms| 100 * size_ms).map_err(|e| e.to_string())
    }

    #[test]
    fn without_a_range_it_is_the_newest_sixty_windows() {
        let range = |asked: Asked| (asked.from_ms / 60_000, asked.to_ms / 60_000);
        assert_eq!(range(ask(|_| {}).unwrap()), (41, 101));
        assert_eq!(range(ask(|p| p.from = Some("0".into())).unwrap()), (0, 60));
        assert_eq!(range(ask(|p| p.to = Some("1970-01-01T02:00:00Z".into())).unwrap()), (60, 120));
        assert_eq!(range(ask(|p| p.size = "5m".into()).unwrap()), (41 * 5, 101 * 5));
    }

    #[test]
    fn impossible_questions_are_refused_in_words() {
        let text = |text: &str| Some(text.to_owned());
        let far = i64::MAX / 4;
        for (needle, asked) in [
            ("not a window size", ask(|p| p.size = "2m".into())),
            ("`limit` is 0", ask(|p| p.limit = 0)),
            ("`limit` is 101", ask(|p| p.limit = 101)),
            ("`search` has 257 bytes", ask(|p| p.search = Some("x".repeat(257)))),
            ("`dimension` has 300 bytes", ask(|p| p.dimension = "x".repeat(300))),
            ("must lie before `to`", ask(|p| (p.from, p.to) = (text("5"), text("5")))),
            ("must lie before `to`", ask(|p| (p.from, p.to) = (text("2015-01-01"), text("2014-01-01")))),
            ("is not a time", ask(|p| p.from = text("yesterday"))),
            ("is no time", ask(|p| p.to = Some(i64::MIN.to_string()))),
            ("may have 1500", ask(|p| (p.from, p.to) = (text("2014-10-21"), text("2014-10-23")))),
            ("may have 1500", ask(|p| (p.from, p.to) = (Some((-far).to_string()), Some(far.to_string())))),
        ] {
            let refusal = asked.unwrap_err();
            assert!(refusal.contains(needle), "{refusal}");
        }
        for edge in [far, -far] {
            ask(|p| p.from = Some(edge.to_string())).unwrap();
            ask(|p| p.to = Some(edge.to_string())).unwrap();
        }
    }
}
