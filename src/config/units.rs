//! Durations, sizes and shares as they are written, both ways: `250ms`, `64KiB`, `20%`.

use std::time::Duration;

/// Units of time, the longest first.
const TIME: [(&str, u64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

/// Units of size; those that are written out come first.
const SIZE: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// What people write for a unit of time elsewhere.
const TIME_ELSEWHERE: [(&str, &str); 18] = [
    ("msec", "ms"),
    ("millis", "ms"),
    ("milliseconds", "ms"),
    ("sec", "s"),
    ("secs", "s"),
    ("second", "s"),
    ("seconds", "s"),
    ("S", "s"),
    ("min", "m"),
    ("mins", "m"),
    ("minute", "m"),
    ("minutes", "m"),
    ("M", "m"),
    ("hr", "h"),
    ("hour", "h"),
    ("hours", "h"),
    ("day", "d"),
    ("days", "d"),
];

/// The longest time that may be written: a year. Sums of it stay far within the clock's range.
const LONGEST_MICROS: u64 = 365 * 86_400_000_000;

/// Splits `1.5KiB` into `1.5` and `KiB`.
fn split_number(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    text.split_at(end)
}

/// A decimal number without sign or exponent.
pub(super) fn parse_number(text: &str) -> Option<f64> {
    let (number, rest) = split_number(text);
    let digits_around_dot =
        !number.starts_with('.') && !number.ends_with('.') && !number.is_empty();
    if !rest.is_empty() || !digits_around_dot || number.len() > 20 {
        return None;
    }
    number.parse().ok()
}

/// `number × unit`, exact; fractions of the smallest unit are refused.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    parse_number(number)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    if fraction.is_empty() {
        return Some(whole);
    }
    let denominator = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(unit);
    if part % denominator != 0 {
        return None;
    }
    whole.checked_add(u64::try_from(part / denominator).ok()?)
}

/// Reads `250ms`, `1.5s`, `1m30s`; at most a year.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut micros = 0_u64;
    while !rest.is_empty() {
        let (number, tail) = split_number(rest);
        let end = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let (_, factor) = TIME.into_iter().find(|(name, _)| *name == unit)?;
        micros = micros.checked_add(scaled(number, factor)?)?;
        rest = tail;
    }
    (!text.is_empty() && micros <= LONGEST_MICROS).then(|| Duration::from_micros(micros))
}

/// Writes a duration in the longest unit that needs no fraction.
pub(super) fn write_duration(duration: Duration) -> String {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    if micros == 0 {
        return "0s".to_owned();
    }
    let unit = TIME
        .into_iter()
        .find(|(_, factor)| micros.is_multiple_of(*factor));
    let (name, factor) = unit.unwrap_or(("us", 1));
    match micros / factor {
        1 if name == "m" => "60s".to_owned(),
        days if name == "d" => format!("{}h", days * 24),
        count => format!("{count}{name}"),
    }
}

/// What a duration that could not be read was probably meant to be.
pub(super) fn suggest_duration(text: &str) -> Option<String> {
    let squeezed: String = text
        .chars()
        .filter(|c| !c.is_whitespace() && *c != '_')
        .collect();
    let (number, unit) = split_number(&squeezed);
    parse_number(number)?;
    if unit.is_empty() {
        return Some(format!("{number}s` or `{number}ms"));
    }
    let known = TIME_ELSEWHERE
        .into_iter()
        .find(|(elsewhere, _)| elsewhere.eq_ignore_ascii_case(unit) && unit != "M");
    let candidate = match known {
        Some((_, ours)) => format!("{number}{ours}"),
        None => squeezed.to_lowercase(),
    };
    match parse_duration(&candidate) {
        Some(_) => Some(candidate),
        None => (candidate == text && text.ends_with(['d', 'h'])).then(|| "8760h".to_owned()),
    }
}

/// Reads `64KiB`, `1MB`, `512`.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text);
    let unit = if unit.is_empty() { "B" } else { unit };
    let (_, factor) = SIZE.into_iter().find(|(name, _)| *name == unit)?;
    scaled(number, factor)
}

/// Writes a size in the largest binary unit that needs no fraction.
pub(super) fn write_size(bytes: u64) -> String {
    let binary = SIZE
        .into_iter()
        .take(3)
        .find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor));
    let (name, factor) = binary.unwrap_or(("B", 1));
    format!("{}{name}", bytes / factor)
}

/// What a size that could not be read was probably meant to be.
pub(super) fn suggest_size(text: &str) -> Option<String> {
    let squeezed: String = text
        .chars()
        .filter(|c| !c.is_whitespace() && *c != '_')
        .collect();
    let (number, unit) = split_number(&squeezed);
    let first = unit.chars().next()?.to_ascii_uppercase();
    let ours = match first {
        'K' => "KiB",
        'M' => "MiB",
        'G' => "GiB",
        'B' => "B",
        _ => return None,
    };
    let candidate = format!("{number}{ours}");
    parse_size(&candidate).map(|_| candidate)
}

/// Reads `20%` as 0.2.
pub(super) fn parse_share(text: &str) -> Option<f64> {
    parse_number(text.strip_suffix('%')?).map(|percent| percent / 100.0)
}

/// Writes 0.2 as `20%`.
pub(super) fn write_share(share: f64) -> String {
    format!("{}%", write_number((share * 1e8).round() / 1e6))
}

/// What a share that could not be read was probably meant to be: `0.2` and `20` are both `20%`.
pub(super) fn suggest_share(text: &str) -> Option<String> {
    let number = parse_number(text.trim().trim_end_matches([' ', '%']))?;
    Some(if number <= 1.0 && !text.contains('%') {
        write_share(number)
    } else {
        format!("{}%", write_number(number))
    })
}

/// Writes a number without a needless fraction.
pub(super) fn write_number(number: f64) -> String {
    format!("{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, micros, written) in [
            ("250ms", 250_000, "250ms"),
            ("1.5s", 1_500_000, "1500ms"),
            ("1m30s", 90_000_000, "90s"),
            ("5m", 300_000_000, "5m"),
            ("0s", 0, "0s"),
            ("1d", 86_400_000_000, "24h"),
            ("500us", 500, "500us"),
        ] {
            let read = parse_duration(text).unwrap();
            assert_eq!(read, Duration::from_micros(micros), "{text}");
            assert_eq!(write_duration(read), written);
            assert_eq!(parse_duration(written), Some(read));
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "5",
            "s",
            "5 s",
            "-1s",
            "1.s",
            ".5s",
            "1e3s",
            "5sec",
            "366d",
            "99999999999999999999s",
            "0.0000001s",
            "5s5",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn durations_of_elsewhere_are_understood() {
        for (text, meant) in [
            ("30", Some("30s` or `30ms")),
            ("30 s", Some("30s")),
            ("30sec", Some("30s")),
            ("2 Minutes", Some("2m")),
            ("10MS", Some("10ms")),
            ("1_000ms", Some("1000ms")),
            ("soon", None),
            ("400d", Some("8760h")),
            ("3 fortnights", None),
        ] {
            assert_eq!(suggest_duration(text).as_deref(), meant, "{text}");
        }
    }

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes, written) in [
            ("64KiB", 65_536, "64KiB"),
            ("1.5KiB", 1_536, "1536B"),
            ("1MB", 1_000_000, "1000000B"),
            ("512", 512, "512B"),
            ("0", 0, "0B"),
            ("2GiB", 2 << 30, "2GiB"),
        ] {
            let read = parse_size(text).unwrap();
            assert_eq!(
                (read, write_size(read).as_str()),
                (bytes, written),
                "{text}"
            );
            assert_eq!(parse_size(written), Some(read));
        }
        for text in ["", "KiB", "64K", "64 KiB", "0.1B", "99999999999GiB", "-1"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_of_elsewhere_are_understood() {
        for (text, meant) in [
            ("64K", Some("64KiB")),
            ("10 mb", Some("10MiB")),
            ("1g", Some("1GiB")),
            ("big", None),
            ("5b", Some("5B")),
            ("x", None),
        ] {
            assert_eq!(suggest_size(text).as_deref(), meant, "{text}");
        }
    }

    #[test]
    fn shares_are_read_and_written() {
        for (text, share) in [
            ("20%", 0.2),
            ("0.5%", 0.005),
            ("100%", 1.0),
            ("33.3%", 0.333),
            ("7%", 0.07),
        ] {
            let read = parse_share(text).unwrap();
            assert!((read - share).abs() < 1e-12, "{text}");
            assert_eq!(write_share(read), text);
        }
        assert_eq!(
            (
                parse_share("0.2"),
                parse_share("%"),
                parse_share("-1%"),
                parse_share("1e1%")
            ),
            (None, None, None, None)
        );
        assert_eq!(suggest_share("0.2").as_deref(), Some("20%"));
        assert_eq!(suggest_share("20").as_deref(), Some("20%"));
        assert_eq!(suggest_share("20 %").as_deref(), Some("20%"));
        assert_eq!(suggest_share("half"), None);
    }
}
