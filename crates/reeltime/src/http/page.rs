//! The streams as a plain page, without scripts.

use std::fmt::Write;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::AppState;
use super::api::{Listing, listing};
use crate::printable::printable;
use crate::text_table::{percent, size};
use crate::view::StreamView;

/// Streams on one page; all are in the API.
const SHOWN: usize = 200;

const HEAD: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
<meta name=\"viewport\" content=\"width=device-width\"><meta http-equiv=\"refresh\" content=\"5\">\
<title>reeltime</title><style>\
body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:72em;padding:0 1em;color-scheme:light dark}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3em .8em .3em 0;\
border-bottom:1px solid #8884;vertical-align:top}td.n,th.n{text-align:right}td.p{overflow-wrap:anywhere}\
.failed{color:#c33}.note{color:#c33}</style><h1>reeltime</h1>";

/// `GET /`
pub(super) async fn page(State(state): State<AppState>) -> Response {
    let html = html(&listing(&state, None).await);
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, html).into_response()
}

fn html(listing: &Listing) -> String {
    let mut page = HEAD.to_owned();
    if let Some(why) = &listing.incomplete {
        let _ = write!(page, "<p class=note>Remembered streams are missing here: {}", escaped(why));
    }
    let streams = &listing.streams;
    if streams.is_empty() {
        page.push_str("<p>No recordings yet.");
        return page;
    }
    page.push_str("<table><tr><th>State<th class=n>Size<th class=n>Uploaded<th class=n>Parts<th>Started<th>Recording");
    for stream in streams.iter().rev().take(SHOWN) {
        row(&mut page, stream);
    }
    page.push_str("</table>");
    if streams.len() > SHOWN {
        let _ = write!(page, "<p>The newest {SHOWN} of {} streams; all are in /api/streams.", streams.len());
    }
    page
}

fn row(page: &mut String, stream: &StreamView) {
    let _ = write!(
        page,
        "<tr><td class=\"{state}\">{state}<td class=n>{}<td class=n>{}<td class=n>{}/{}<td>{}<td class=p>{}",
        size(stream.size_bytes),
        percent(stream),
        stream.parts_sent,
        stream.parts_total,
        escaped(&stream.started_at),
        escaped(&stream.path),
        state = escaped(&stream.state),
    );
    if let Some(reason) = &stream.reason {
        let _ = write!(page, "<br><span class=note>{}</span>", escaped(reason));
    }
}

/// Text as HTML that shows it.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for character in printable(text).chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            character => html.push(character),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_and_never_run() {
        assert_eq!(escaped("<img src=x onerror='a()'>&\"\n"), "&lt;img src=x onerror=&#39;a()&#39;&gt;&amp;&quot;\\n");
    }
}
