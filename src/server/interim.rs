//! Interim answers (1xx) as bytes of HTTP/1.1. The library can write none but `100 Continue`, which it
//! does by itself when a body is first asked for.

use bytes::{BufMut, BytesMut};
use http::StatusCode;

use crate::live::interim::Head;

/// Appends the heads to what is written next.
pub(super) fn encode(heads: &[Head], to: &mut BytesMut) {
    for head in heads {
        if head.status == StatusCode::CONTINUE {
            continue;
        }
        to.put_slice(b"HTTP/1.1 ");
        to.put_slice(head.status.as_str().as_bytes());
        to.put_slice(b" ");
        to.put_slice(head.status.canonical_reason().unwrap_or("").as_bytes());
        for (name, value) in &head.headers {
            to.put_slice(b"\r\n");
            to.put_slice(name.as_str().as_bytes());
            to.put_slice(b": ");
            to.put_slice(value.as_bytes());
        }
        to.put_slice(b"\r\n\r\n");
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    #[test]
    fn fault_049_interim_answers_are_written_one_behind_the_other() {
        let mut headers = HeaderMap::new();
        headers.append("link", http::HeaderValue::from_static("</a>"));
        headers.append("link", http::HeaderValue::from_static("</b>"));
        let hints = Head::received(StatusCode::EARLY_HINTS, headers).unwrap();
        let odd = Head::received(StatusCode::from_u16(199).unwrap(), HeaderMap::new()).unwrap();
        let mut bytes = BytesMut::new();
        encode(&[hints, Head::go_on(), odd], &mut bytes);
        let text =
            "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nlink: </b>\r\n\r\nHTTP/1.1 199 \r\n\r\n";
        assert_eq!(bytes, text);
    }
}
