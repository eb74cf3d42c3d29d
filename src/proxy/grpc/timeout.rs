//! `grpc-timeout`: up to 8 digits and a unit, `H M S m u n`.

use std::time::Duration;

use http::HeaderValue;

/// The units from the smallest, in nanoseconds.
const UNITS: [(u8, u128); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60_000_000_000),
    (b'H', 3_600_000_000_000),
];

/// What 8 digits can say.
const MOST: u128 = 99_999_999;

/// Reads a value; `None` if it is none.
pub(super) fn read(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    let (_, unit) = UNITS.iter().find(|(letter, _)| letter == unit)?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = std::str::from_utf8(digits).ok()?.parse::<u128>().ok()?;
    let nanos = number * unit;
    let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
    let rest = u32::try_from(nanos % 1_000_000_000).ok()?;
    Some(Duration::new(seconds, rest))
}

/// The value for a time: never longer than it, as exact as 8 digits are, and above 0, which servers
/// need not take.
pub(super) fn write(time: Duration) -> HeaderValue {
    let nanos = time.as_nanos().max(1);
    let fits = UNITS.iter().find(|(_, unit)| nanos / unit <= MOST);
    let (letter, unit) = fits.copied().unwrap_or((b'H', 3_600_000_000_000));
    let number = (nanos / unit).min(MOST);
    let text = format!("{number}{}", char::from(letter));
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("1n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_6_a_timeout_is_8_digits_at_most_and_a_unit() {
        let seconds = Duration::from_secs_f64;
        for (value, time) in [
            ("1H", Some(seconds(3600.0))),
            ("2M", Some(seconds(120.0))),
            ("3S", Some(seconds(3.0))),
            ("250m", Some(seconds(0.25))),
            ("5u", Some(Duration::from_micros(5))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("00000001S", Some(seconds(1.0))),
            ("0S", Some(Duration::ZERO)),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("", None),
            ("S", None),
            ("1", None),
            ("1s", None),
            ("1h", None),
            ("123456789n", None),
            ("-1S", None),
            ("+1S", None),
            ("1.5S", None),
            (" 1S", None),
            ("1S ", None),
            ("1 S", None),
        ] {
            assert_eq!(read(value.as_bytes()), time, "{value}");
        }
    }

    #[test]
    fn rule_6_what_is_written_is_exact_while_that_fits_and_never_longer() {
        for (time, value) in [
            (Duration::ZERO, "1n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_nanos(100_000_999), "100000u"),
            (Duration::from_secs(99), "99000000u"),
            (Duration::from_micros(100_000_999), "100000m"),
            (Duration::from_secs(3600), "3600000m"),
            (Duration::from_secs(100_000), "100000S"),
            (Duration::from_secs(100_000_059), "1666667M"),
            (Duration::from_secs(6_000_000_000), "1666666H"),
            (Duration::MAX, "99999999H"),
        ] {
            let written = write(time);
            assert_eq!(written, value, "{time:?}");
            assert!(
                read(written.as_bytes())
                    .is_some_and(|read| read <= time.max(Duration::from_nanos(1)))
            );
        }
        let mut rng = fastrand::Rng::with_seed(6);
        for _ in 0..10_000 {
            let time =
                Duration::from_nanos(rng.u64(1..) >> rng.u32(..64)).max(Duration::from_nanos(1));
            let written = write(time);
            assert!(written.len() <= 9, "{written:?}");
            let read = read(written.as_bytes()).unwrap();
            assert!(
                read <= time && time - read <= time / 100_000,
                "{time:?} {written:?}"
            );
        }
    }
}
