//! The files of the status page. They are part of the program: nothing comes from outside, so that the
//! page works in a locked-down network.

/// A file of the page.
pub(super) struct File {
    pub(super) path: &'static str,
    pub(super) content_type: &'static str,
    pub(super) body: &'static str,
}

/// Every file of the page.
pub(super) const FILES: [File; 4] = [
    File {
        path: "/",
        content_type: "text/html; charset=utf-8",
        body: include_str!("../page.html"),
    },
    File {
        path: "/page.js",
        content_type: "text/javascript; charset=utf-8",
        body: include_str!("../page.js"),
    },
    File {
        path: "/page.css",
        content_type: "text/css; charset=utf-8",
        body: include_str!("../page.css"),
    },
    File {
        path: "/page.svg",
        content_type: "image/svg+xml",
        body: include_str!("../page.svg"),
    },
];
