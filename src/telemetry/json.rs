//! JSON objects written by hand into a buffer: for an access line and for an error body, where a
//! serializer's tree or formatter would cost more than the rest.

use std::time::Duration;

/// One object, written member by member.
#[derive(Debug)]
pub struct Object<'a> {
    to: &'a mut Vec<u8>,
    is_empty: bool,
}

impl<'a> Object<'a> {
    /// Opens an object at the end of the buffer. It is complete after [`Object::end`].
    pub fn begin(to: &'a mut Vec<u8>) -> Self {
        to.push(b'{');
        Self { to, is_empty: true }
    }

    /// Closes it.
    pub fn end(self) {
        self.to.push(b'}');
    }

    /// A member whose value the caller writes.
    pub fn member(&mut self, key: &'static str) -> &mut Vec<u8> {
        if !self.is_empty {
            self.to.push(b',');
        }
        self.is_empty = false;
        self.to.push(b'"');
        self.to.extend_from_slice(key.as_bytes());
        self.to.extend_from_slice(b"\":");
        self.to
    }

    /// Where the member that was begun last goes on.
    pub fn value(&mut self) -> &mut Vec<u8> {
        self.to
    }

    /// A text member. Bytes that are not UTF-8 become U+FFFD.
    pub fn text(&mut self, key: &'static str, value: impl AsRef<[u8]>) {
        text(self.member(key), value.as_ref());
    }

    /// A number member.
    pub fn number(&mut self, key: &'static str, value: u64) {
        number(self.member(key), value);
    }

    /// A duration member in milliseconds with three decimals.
    pub fn milliseconds(&mut self, key: &'static str, value: Duration) {
        let microseconds = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        let to = self.member(key);
        number(to, microseconds / 1000);
        to.push(b'.');
        digits::<3>(to, microseconds % 1000);
    }

    /// A truth member.
    pub fn truth(&mut self, key: &'static str, value: bool) {
        let word: &[u8] = if value { b"true" } else { b"false" };
        self.member(key).extend_from_slice(word);
    }
}

/// Writes a number in decimal.
pub fn number(to: &mut Vec<u8>, mut value: u64) {
    let mut text = [0; 20];
    let mut start = text.len();
    loop {
        start -= 1;
        text[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    to.extend_from_slice(&text[start..]);
}

/// Writes the last `COUNT` decimal digits of a number.
fn digits<const COUNT: usize>(to: &mut Vec<u8>, mut value: u64) {
    let mut text = [b'0'; COUNT];
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
    to.extend_from_slice(&text);
}

/// Writes a string with its quotes. Bytes that are not UTF-8 become U+FFFD.
pub fn text(to: &mut Vec<u8>, value: &[u8]) {
    to.push(b'"');
    if value
        .iter()
        .all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\'))
    {
        to.extend_from_slice(value);
    } else {
        for chunk in value.utf8_chunks() {
            escape(to, chunk.valid());
            if !chunk.invalid().is_empty() {
                to.extend_from_slice("\u{fffd}".as_bytes());
            }
        }
    }
    to.push(b'"');
}

fn escape(to: &mut Vec<u8>, value: &str) {
    for byte in value.bytes() {
        match byte {
            b'"' => to.extend_from_slice(b"\\\""),
            b'\\' => to.extend_from_slice(b"\\\\"),
            b'\n' => to.extend_from_slice(b"\\n"),
            b'\r' => to.extend_from_slice(b"\\r"),
            b'\t' => to.extend_from_slice(b"\\t"),
            0..=0x1f | 0x7f => {
                to.extend_from_slice(b"\\u00");
                to.push(b"0123456789abcdef"[usize::from(byte >> 4)]);
                to.push(b"0123456789abcdef"[usize::from(byte & 0xf)]);
            }
            other => to.push(other),
        }
    }
}

/// Writes a time since 1970 as RFC 3339 in UTC with milliseconds, without quotes.
pub fn date(to: &mut Vec<u8>, since_epoch: Duration) {
    let seconds = since_epoch.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // The year begins in March here, so that the day that not every year has is its last one.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    digits::<4>(to, era * 400 + year + next);
    to.push(b'-');
    digits::<2>(to, month);
    to.push(b'-');
    digits::<2>(to, day);
    to.push(b'T');
    digits::<2>(to, second / 3600);
    to.push(b':');
    digits::<2>(to, second / 60 % 60);
    to.push(b':');
    digits::<2>(to, second % 60);
    to.push(b'.');
    digits::<3>(to, u64::from(since_epoch.subsec_millis()));
    to.push(b'Z');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut buffer = Vec::new();
        write(&mut buffer);
        String::from_utf8(buffer).unwrap()
    }

    #[test]
    fn any_bytes_become_a_string_that_a_parser_reads_back() {
        let mut chance = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let length = chance.usize(..24);
            let plain = chance.bool();
            let bytes: Vec<u8> = (0..length)
                .map(|_| {
                    if plain {
                        chance.u8(b' '..0x80)
                    } else {
                        chance.u8(..)
                    }
                })
                .collect();
            let json = written(|to| text(to, &bytes));
            let read: String = serde_json::from_str(&json).unwrap();
            assert_eq!(read, String::from_utf8_lossy(&bytes));
            assert!(
                !json.bytes().any(|byte| byte < b' ' || byte == 0x7f),
                "{json:?}"
            );
        }
    }

    #[test]
    fn members_are_separated() {
        let json = written(|to| {
            let mut object = Object::begin(to);
            object.text("a", "x\u{1}\"ü");
            object.number("b", u64::MAX);
            object.milliseconds("c", Duration::from_micros(41_007));
            object.truth("d", true);
            Object::begin(object.member("e")).end();
            object.end();
        });
        let expected = r#"{"a":"x\u0001\"ü","b":18446744073709551615,"c":41.007,"d":true,"e":{}}"#;
        assert_eq!(json, expected);
    }

    #[test]
    fn a_date_is_the_one_that_the_calendar_has() {
        let mut chance = fastrand::Rng::with_seed(2);
        let mut seconds: Vec<u64> = (0..5000).map(|_| chance.u64(..253_402_300_800)).collect();
        seconds.extend([0, 951_782_399, 951_782_400, 4_107_542_399, 4_107_542_400]);
        for seconds in seconds {
            let time = Duration::new(seconds, 123_999_999);
            let expected = jiff::Timestamp::from_second(seconds as i64).unwrap();
            let expected = expected.to_string().replace('Z', ".123Z");
            assert_eq!(written(|to| date(to, time)), expected);
        }
    }
}
