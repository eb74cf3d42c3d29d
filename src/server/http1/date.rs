//! The `date` of answers that come without one, rendered once a second.

use std::cell::RefCell;
use std::io::Write;
use std::time::{Duration, Instant};

use httpdate::HttpDate;

use crate::clock;

/// Bytes of a date, as in `Sun, 06 Nov 1994 08:49:37 GMT`.
const LENGTH: usize = 29;

struct Rendered {
    text: [u8; LENGTH],
    /// When the next second begins.
    until: Option<Instant>,
}

thread_local! {
    static RENDERED: RefCell<Rendered> = const {
        RefCell::new(Rendered {
            text: [b' '; LENGTH],
            until: None,
        })
    };
}

/// Appends the header's line; it is `now`.
pub(super) fn append(now: Instant, to: &mut Vec<u8>) {
    RENDERED.with_borrow_mut(|rendered| {
        if rendered.until.is_none_or(|until| until <= now) {
            rendered.render(now);
        }
        to.extend_from_slice(b"date: ");
        to.extend_from_slice(&rendered.text);
        to.extend_from_slice(b"\r\n");
    });
}

impl Rendered {
    #[cold]
    fn render(&mut self, now: Instant) {
        let date = clock::date();
        // It has always the same length.
        let _ = write!(&mut self.text[..], "{}", HttpDate::from(date));
        let since = date.duration_since(std::time::UNIX_EPOCH);
        let past = since.unwrap_or_default().subsec_nanos();
        self.until = Some(now + (Duration::from_secs(1) - Duration::from_nanos(past.into())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_todays_and_holds_for_its_second() {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let now = clock::now();
        append(now, &mut first);
        let text = std::str::from_utf8(&first).unwrap();
        let date = text
            .strip_prefix("date: ")
            .and_then(|date| date.strip_suffix("\r\n"));
        let date = httpdate::parse_http_date(date.unwrap()).unwrap();
        let age = clock::date().duration_since(date).unwrap();
        assert!(age < Duration::from_secs(3), "{age:?}");
        append(now, &mut second);
        assert_eq!(first, second);
    }
}
