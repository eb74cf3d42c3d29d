//! The files of the operator's page. They are part of the program: nothing comes from outside, so that the
//! page works in a locked-down network.

/// A file of the page.
pub(super) struct File {
    pub(super) path: &'static str,
    pub(super) content_type: &'static str,
    pub(super) body: &'static str,
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! file {
    ($path:literal, $content_type:expr, $file:literal) => {
        File {
            path: $path,
            content_type: $content_type,
            body: include_str!(concat!("../page/", $file)),
        }
    };
}

/// Every file of the page.
pub(super) const FILES: [File; 12] = [
    file!("/", "text/html; charset=utf-8", "index.html"),
    file!("/page.js", SCRIPT, "page.js"),
    file!("/page.css", "text/css; charset=utf-8", "page.css"),
    file!("/page.svg", "image/svg+xml", "page.svg"),
    file!("/page/charts.js", SCRIPT, "charts.js"),
    file!("/page/dom.js", SCRIPT, "dom.js"),
    file!("/page/link.js", SCRIPT, "link.js"),
    file!("/page/requests.js", SCRIPT, "requests.js"),
    file!("/page/rest.js", SCRIPT, "rest.js"),
    file!("/page/trouble.js", SCRIPT, "trouble.js"),
    file!("/page/upstreams.js", SCRIPT, "upstreams.js"),
    file!("/page/words.js", SCRIPT, "words.js"),
];
