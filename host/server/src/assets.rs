//! The pages and the description of the API, embedded: no file to install, nothing loaded from elsewhere.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::error::ApiError;

/// A file under `/assets/`.
struct Asset {
    path: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! assets {
    ($($path:literal: $content_type:ident),* $(,)?) => {
        &[$(Asset { path: $path, content_type: $content_type, bytes: include_bytes!(concat!("../assets/", $path)) }),*]
    };
}

/// All that the pages load, a line a file.
const ASSETS: &[Asset] = assets![
    "api.js": JAVASCRIPT,
    "app.js": JAVASCRIPT,
    "chart-draw.js": JAVASCRIPT,
    "chart-parts.js": JAVASCRIPT,
    "chart.js": JAVASCRIPT,
    "csv.js": JAVASCRIPT,
    "format.js": JAVASCRIPT,
    "health.js": JAVASCRIPT,
    "icon.svg": SVG,
    "ledger.js": JAVASCRIPT,
    "letters/history.js": JAVASCRIPT,
    "letters/one.js": JAVASCRIPT,
    "letters/page.js": JAVASCRIPT,
    "letters/view.js": JAVASCRIPT,
    "live/compare.js": JAVASCRIPT,
    "live/dimension.js": JAVASCRIPT,
    "live/feed.js": JAVASCRIPT,
    "live/page.js": JAVASCRIPT,
    "live/spark.js": JAVASCRIPT,
    "live/tiles.js": JAVASCRIPT,
    "live/times.js": JAVASCRIPT,
    "live/total.js": JAVASCRIPT,
    "live/view.js": JAVASCRIPT,
    "marks.js": JAVASCRIPT,
    "pipeline/page.js": JAVASCRIPT,
    "pipeline/rates.js": JAVASCRIPT,
    "pipeline/shadow.js": JAVASCRIPT,
    "pipeline/tables.js": JAVASCRIPT,
    "pipeline/topology.js": JAVASCRIPT,
    "reports/breakdown.js": JAVASCRIPT,
    "reports/columns.js": JAVASCRIPT,
    "reports/page.js": JAVASCRIPT,
    "reports/trend.js": JAVASCRIPT,
    "reports/view.js": JAVASCRIPT,
    "statistics.js": JAVASCRIPT,
    "stream.js": JAVASCRIPT,
    "style.css": CSS,
    "text.js": JAVASCRIPT,
    "url.js": JAVASCRIPT,
    "vendor/htm/standalone.module.js": JAVASCRIPT,
    "vendor/uplot/uPlot.esm.js": JAVASCRIPT,
    "vendor/uplot/uPlot.min.css": CSS,
];

const PAGE: &str = include_str!("../assets/index.html");

/// One tag for all: they belong together, and change together.
static TAG: LazyLock<HeaderValue> = LazyLock::new(|| {
    let all = ASSETS.iter().map(|asset| asset.bytes).chain([PAGE.as_bytes()]);
    let hash = all
        .flatten()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    HeaderValue::from_str(&format!("\"{hash:016x}\"")).unwrap_or(HeaderValue::from_static("\"none\""))
});

/// With its tag: a browser asks each time, and gets it only where it has another one.
fn tagged(headers: &HeaderMap, content_type: &'static str, body: &'static [u8]) -> Response {
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|tag| tag == *TAG);
    let head = [
        (header::ETAG, TAG.clone()),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
    ];
    if known { (StatusCode::NOT_MODIFIED, head).into_response() } else { (head, body).into_response() }
}

/// The shell of every page: its script looks at the address.
pub(crate) async fn page(headers: HeaderMap) -> Response {
    tagged(&headers, "text/html; charset=utf-8", PAGE.as_bytes())
}

pub(crate) async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Result<Response, ApiError> {
    let asset = ASSETS.iter().find(|asset| asset.path == path);
    let asset = asset.ok_or_else(|| ApiError::NotFound(format!("there is no asset {path:?}")))?;
    Ok(tagged(&headers, asset.content_type, asset.bytes))
}

/// What every route takes and gives, for programs and for what generates them.
pub(crate) async fn openapi() -> Response {
    let head = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")];
    (head, include_str!("../assets/openapi.json")).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// Files of the folder that are not for browsers: licences and lists of what is vendored.
    fn is_for_browsers(path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        let ends = [".js", ".css", ".svg", ".png", ".woff2"];
        ends.iter().any(|end| name.ends_with(end)) && !path.contains("node_modules/")
    }

    fn files(folder: &Path, below: &str, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{below}{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                files(&entry.path(), &format!("{path}/"), found);
            } else if is_for_browsers(&path) {
                found.insert(path);
            }
        }
    }

    #[test]
    fn every_file_for_browsers_is_in_the_table_and_no_other() {
        let mut found = BTreeSet::new();
        files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("assets"), "", &mut found);
        assert_eq!(ASSETS.iter().map(|asset| asset.path.to_owned()).collect::<BTreeSet<_>>(), found);
    }

    #[test]
    fn the_page_needs_nothing_that_its_policy_forbids() {
        assert!(!PAGE.contains("style=") && !PAGE.contains("<style") && !PAGE.contains("onclick"));
        assert!(!PAGE.contains("http://") && !PAGE.contains("https://"), "loads from elsewhere");
        assert_eq!(PAGE.matches("<script").count(), PAGE.matches("<script src=\"/assets/").count() + modules(PAGE));
        for asset in ASSETS.iter().filter(|asset| !asset.path.starts_with("vendor/")) {
            let text = String::from_utf8_lossy(asset.bytes);
            assert!(!text.contains("innerHTML"), "keys come from producers and must stay text: {}", asset.path);
        }
    }

    fn modules(page: &str) -> usize {
        page.matches("<script type=\"module\" src=\"/assets/").count()
    }
}
