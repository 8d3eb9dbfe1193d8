//! `GET /docs`: a page that shows `openapi.json` and sends its examples. It is part of the binary and names no other
//! host; its policy has the browser load from, and send to, this server only. Open to all, as the description is.

use actix_web::HttpResponse;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};

const PAGE: &str = include_str!("docs/page.html");
const STYLE: &str = include_str!("docs/page.css");
const SCRIPT: &str = include_str!("docs/page.js");

/// What the page may do: run this server's script and style, talk to this server. The empty icon is a `data:` URL, so that
/// no browser asks for another.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn asset(media_type: &str, text: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(media_type)
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((X_FRAME_OPTIONS, "DENY"))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .body(text)
}

pub(super) async fn page() -> HttpResponse {
    asset("text/html; charset=utf-8", PAGE)
}

pub(super) async fn style() -> HttpResponse {
    asset("text/css; charset=utf-8", STYLE)
}

pub(super) async fn script() -> HttpResponse {
    asset("text/javascript; charset=utf-8", SCRIPT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_no_other_host() {
        for (name, text) in [("page.html", PAGE), ("page.css", STYLE), ("page.js", SCRIPT)] {
            for word in ["://", "\"//", "'//", "(//", "=//", "`//", "@import", "url(", "localhost"] {
                assert!(!text.contains(word), "{name} has {word}");
            }
            assert!(!text.contains(&["inner", "HTML"].concat()), "{name}: what a server says is put in as text");
        }
        // Everything that the page loads is one of the routes beside it.
        let loaded: Vec<&str> = PAGE.split(['"', '\'']).filter(|part| part.starts_with('/')).collect();
        assert_eq!(loaded, ["/docs/page.css", "/docs/page.js", "/openapi.json", "/openapi.json"]);
        // Nothing that the policy would refuse: no inline script, style or handler.
        let handler = |word: &str| word.starts_with("on") && word.contains('=');
        assert!(!PAGE.contains("<style") && !PAGE.contains(" style=") && !PAGE.split_whitespace().any(handler));
        assert_eq!(PAGE.matches("<script").count(), PAGE.matches("<script src=").count());
    }
}
