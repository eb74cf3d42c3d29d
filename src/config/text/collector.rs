//! The address of a collector of spans.

use http::Uri;

use super::super::kind::Complaint;
use crate::plan::tracing::Collector;

/// Where spans go where the address has no path.
const DEFAULT_PATH: &str = "/v1/traces";

/// Reads `http://127.0.0.1:4318` or `https://collector.example.com/custom/path`.
pub(in crate::config) fn collector(text: &str) -> Result<Collector, Complaint> {
    let (scheme, rest) = match text.split_once("://") {
        Some(("http", rest)) => ("http", rest),
        Some(("https", rest)) => ("https", rest),
        Some((other, rest)) => {
            let message = format!(
                "`{other}://` is no way to a collector: spans are sent as protobuf over HTTP"
            );
            return Err(Complaint::meant(message, &format!("http://{rest}")));
        }
        None => {
            let message = format!("`{text}` does not begin with `http://` or `https://`");
            return Err(Complaint::meant(message, &format!("http://{text}")));
        }
    };
    // Before anything that would repeat it.
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(Complaint {
            message: "a collector has no user name or password in its address".to_owned(),
            help: Some("put them into `headers`, as `authorization`".to_owned()),
        });
    }
    if rest.contains('?') {
        return Err(Complaint {
            message: "a collector's address has no query".to_owned(),
            help: Some("put a key into `headers`".to_owned()),
        });
    }
    let unreadable = || Complaint::new(format!("`{text}` is no address of a collector"));
    let uri: Uri = text.parse().map_err(|_| unreadable())?;
    let (Some(host), Some(authority)) = (uri.host(), uri.authority()) else {
        return Err(unreadable());
    };
    let port = match uri.port() {
        Some(port) if port.as_u16() == 0 => {
            return Err(Complaint::new(format!(
                "`{text}`: a collector's port is from 1 to 65535"
            )));
        }
        Some(port) => port.as_u16(),
        // A port that is no number is not read as one.
        None if authority.as_str().len() > host.len() => return Err(unreadable()),
        None if scheme == "https" => 443,
        None => 80,
    };
    let path = match uri.path() {
        "" | "/" => DEFAULT_PATH,
        path => path,
    };
    Ok(Collector {
        tls: scheme == "https",
        host: host.trim_matches(['[', ']']).into(),
        port,
        authority: authority.as_str().into(),
        path: path.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (text, told, host, port) in [
            (
                "http://127.0.0.1:4318",
                "http://127.0.0.1:4318/v1/traces",
                "127.0.0.1",
                4318,
            ),
            (
                "http://collector/",
                "http://collector/v1/traces",
                "collector",
                80,
            ),
            ("https://[::1]:9/a/b", "https://[::1]:9/a/b", "::1", 9),
            (
                "https://otel.example.com",
                "https://otel.example.com/v1/traces",
                "otel.example.com",
                443,
            ),
        ] {
            let read = collector(text).unwrap();
            assert_eq!(
                (read.to_string().as_str(), &*read.host, read.port),
                (told, host, port)
            );
        }
    }

    #[test]
    fn what_is_no_address_is_refused_and_a_password_not_repeated() {
        for (text, message) in [
            ("127.0.0.1:4318", "does not begin with `http://`"),
            (
                "grpc://a:4317",
                "`grpc://` is no way to a collector: spans are sent as protobuf over HTTP",
            ),
            (
                "http://u:pw@a:4318",
                "a collector has no user name or password",
            ),
            ("http://a?key=pw", "a collector's address has no query"),
            ("http://", "is no address of a collector"),
            ("http://a:0", "a collector's port is from 1 to 65535"),
            ("http://a:x", "is no address of a collector"),
            ("http://a b", "is no address of a collector"),
        ] {
            let complaint = collector(text).unwrap_err();
            assert!(complaint.message.contains(message), "{complaint:?}");
            assert!(!complaint.message.contains("pw"), "{complaint:?}");
        }
    }
}
