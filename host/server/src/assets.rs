//! The live page and the description of the API, embedded: no file to install, nothing loaded from elsewhere.

use axum::http::header;
use axum::response::{IntoResponse, Response};

fn asset(content_type: &'static str, body: &'static str) -> Response {
    ([(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-cache")], body).into_response()
}

pub(crate) async fn page() -> Response {
    asset("text/html; charset=utf-8", include_str!("../assets/index.html"))
}

pub(crate) async fn script() -> Response {
    asset("text/javascript; charset=utf-8", include_str!("../assets/live.js"))
}

pub(crate) async fn style() -> Response {
    asset("text/css; charset=utf-8", include_str!("../assets/style.css"))
}

pub(crate) async fn icon() -> Response {
    asset("image/svg+xml", include_str!("../assets/icon.svg"))
}

/// What every route takes and gives, for programs and for what generates them.
pub(crate) async fn openapi() -> Response {
    asset("application/json", include_str!("../assets/openapi.json"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_is_small_and_needs_nothing_that_its_policy_forbids() {
        let page = include_str!("../assets/index.html");
        let (script, style) = (include_str!("../assets/live.js"), include_str!("../assets/style.css"));
        assert!(page.len() + script.len() + style.len() < 30_000);
        for text in [page, script, style] {
            assert!(!text.contains("http://") && !text.contains("https://"), "loads from elsewhere");
        }
        assert!(!page.contains("style=") && !page.contains("<style") && !page.contains("onclick"));
        assert_eq!(page.matches("<script").count(), 1);
        assert!(!script.contains("innerHTML"), "keys come from producers and must stay text");
    }
}
