//! Reading `retry-after`: how long the upstream asks us to stay away (RFC 9110, section 10.2.3).

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::RETRY_AFTER;

/// The first `retry-after` among the headers that can be read, as a time from `now`.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let values = headers.get_all(RETRY_AFTER);
    values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .find_map(|value| parse(value, now))
}

/// Reads seconds or a date. More seconds than can be counted are as many as can; a date in the past
/// is now. `None` for anything else: signs, fractions, words.
pub fn parse(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim_ascii();
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    if digits {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT.
    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)
    }

    #[test]
    fn rule_24_fault_055_seconds_and_dates_are_read_and_garbage_is_not() {
        for (value, seconds) in [
            ("0", Some(0)),
            ("1", Some(1)),
            (" 3600 ", Some(3600)),
            ("007", Some(7)),
            ("18446744073709551616", Some(u64::MAX)),
            ("99999999999999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sunday, 06-Nov-94 08:49:47 GMT", Some(10)),
            ("Sun Nov  6 08:49:38 1994", Some(1)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Sun, 06 Nov 1994 07:00:00 GMT", Some(0)),
            (
                "Fri, 31 Dec 9999 23:59:59 GMT",
                Some(253_402_300_799 - 784_111_777),
            ),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("1, 2", None),
            ("12 34", None),
            ("", None),
            (" ", None),
            ("soon", None),
            ("٣", None),
            ("Sun, 06 Nov 1994", None),
        ] {
            assert_eq!(
                parse(value, now()),
                seconds.map(Duration::from_secs),
                "{value}"
            );
        }
    }

    #[test]
    fn fault_055_of_several_headers_the_first_that_can_be_read_counts() {
        let mut headers = HeaderMap::new();
        assert_eq!(retry_after(&headers, now()), None);
        for value in [&b"soon"[..], b"\xff", b"7", b"9"] {
            headers.append(RETRY_AFTER, value.try_into().unwrap());
        }
        assert_eq!(retry_after(&headers, now()), Some(Duration::from_secs(7)));
    }
}
