//! JSON objects written by hand into a buffer: for an access line and for an error body, where a
//! serializer's tree or formatter would cost more than the rest.

use std::cell::Cell;
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

    /// A member whose value the caller writes. The key has 28 bytes at most.
    // Inlined, since where the key is known all of it is a handful of stores.
    #[inline(always)]
    pub fn member(&mut self, key: &'static str) -> &mut Vec<u8> {
        let (mut text, length) = ([0; 32], key.len());
        text[..2].copy_from_slice(b",\"");
        text[2..length + 2].copy_from_slice(key.as_bytes());
        text[length + 2..length + 4].copy_from_slice(b"\":");
        if self.is_empty {
            self.is_empty = false;
            self.to.extend_from_slice(&text[1..length + 4]);
        } else {
            self.to.extend_from_slice(&text[..length + 4]);
        }
        self.to
    }

    /// Where the member that was begun last goes on.
    pub fn value(&mut self) -> &mut Vec<u8> {
        self.to
    }

    /// A text member. Bytes that are not UTF-8 become U+FFFD.
    #[inline(always)]
    pub fn text(&mut self, key: &'static str, value: impl AsRef<[u8]>) {
        text(self.member(key), value.as_ref());
    }

    /// A text member whose value is known to need no escaping: a name of ours, or digits.
    #[inline(always)]
    pub fn plain(&mut self, key: &'static str, value: impl AsRef<[u8]>) {
        let to = self.member(key);
        to.push(b'"');
        to.extend_from_slice(value.as_ref());
        to.push(b'"');
    }

    /// A number member.
    #[inline(always)]
    pub fn number(&mut self, key: &'static str, value: u64) {
        number(self.member(key), value);
    }

    /// A duration member in milliseconds with three decimals.
    #[inline(always)]
    pub fn milliseconds(&mut self, key: &'static str, value: Duration) {
        milliseconds(self.member(key), value);
    }

    /// A truth member.
    #[inline(always)]
    pub fn truth(&mut self, key: &'static str, value: bool) {
        let word: &[u8] = if value { b"true" } else { b"false" };
        self.member(key).extend_from_slice(word);
    }
}

/// Writes a number in decimal.
pub fn number(to: &mut Vec<u8>, value: u64) {
    // Many are that small.
    if value < 10 {
        to.push(b'0' + value as u8);
        return;
    }
    let mut text = [0; 20];
    let start = put(&mut text, value);
    to.extend_from_slice(&text[start..]);
}

/// Writes a duration in milliseconds with three decimals.
fn milliseconds(to: &mut Vec<u8>, value: Duration) {
    let microseconds = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
    let mut text = [b'.'; 24];
    last_digits(&mut text[21..], microseconds % 1000);
    let start = put(&mut text[..20], microseconds / 1000);
    to.extend_from_slice(&text[start..]);
}

/// Puts a number's digits at the end of the text, and gives where they begin.
fn put(text: &mut [u8], mut value: u64) -> usize {
    let mut start = text.len();
    loop {
        start -= 1;
        text[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return start;
        }
    }
}

/// Fills the text with the last decimal digits of a number.
fn last_digits(text: &mut [u8], mut value: u64) {
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Bytes that are not written as they are, or only together with others.
static SPECIAL: [bool; 256] = {
    let mut special = [true; 256];
    let mut byte = b' ';
    while byte <= b'~' {
        special[byte as usize] = matches!(byte, b'"' | b'\\');
        byte += 1;
    }
    special
};

/// Writes a string with its quotes. Bytes that are not UTF-8 become U+FFFD.
pub fn text(to: &mut Vec<u8>, value: &[u8]) {
    to.push(b'"');
    let special = |any, byte: &u8| any | SPECIAL[usize::from(*byte)];
    if !value.iter().fold(false, special) {
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

thread_local! {
    /// The second whose date was written last, and that date.
    static LAST: Cell<(u64, Date)> = const { Cell::new((0, *b"1970-01-01T00:00:00")) };
}

/// A date down to the second, as text.
type Date = [u8; 19];

/// Writes a time since 1970 as RFC 3339 in UTC with milliseconds, without quotes.
pub fn date(to: &mut Vec<u8>, since_epoch: Duration) {
    let second = since_epoch.as_secs();
    let (last, mut date) = LAST.get();
    if last != second {
        date = date_of(second);
        LAST.set((second, date));
    }
    let mut text = *b"1970-01-01T00:00:00.000Z";
    text[..19].copy_from_slice(&date);
    last_digits(&mut text[20..23], u64::from(since_epoch.subsec_millis()));
    to.extend_from_slice(&text);
}

fn date_of(seconds: u64) -> Date {
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
    let mut text = *b"0000-00-00T00:00:00";
    last_digits(&mut text[..4], era * 400 + year + next);
    last_digits(&mut text[5..7], month);
    last_digits(&mut text[8..10], day);
    last_digits(&mut text[11..13], second / 3600);
    last_digits(&mut text[14..16], second / 60 % 60);
    last_digits(&mut text[17..], second % 60);
    text
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
