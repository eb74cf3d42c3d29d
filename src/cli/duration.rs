//! A time on the command line.

use std::time::Duration;

/// Reads `250ms`, `30s`, `1h 30m`.
pub(super) fn any(text: &str) -> Result<Duration, String> {
    let wanted = "write it as a number with a unit, such as 250ms, 30s or 5m";
    humantime::parse_duration(text).map_err(|_| wanted.to_owned())
}

/// The same, but not zero.
pub(super) fn some(text: &str) -> Result<Duration, String> {
    match any(text)? {
        Duration::ZERO => Err("it must be longer than zero".to_owned()),
        duration => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_or_it_is_said_how_to_write_it() {
        assert_eq!(some("1h 30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(any("0s"), Ok(Duration::ZERO));
        for (text, words) in [("5", "30s"), ("abc", "30s"), ("0ms", "longer than zero")] {
            assert!(some(text).unwrap_err().contains(words), "{text}");
        }
    }
}
