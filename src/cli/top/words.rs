//! Numbers and times in few characters, as the page writes them.

use serde_json::Value;

/// A number of the status; 0 where it is absent.
pub(super) fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

/// A number in few characters: 9.5, 950, 1.2k, 34k, 5.6M.
pub(super) fn short(value: f64) -> String {
    let scaled = |by: f64, unit: char| {
        let scaled = value / by;
        let digits = usize::from(scaled < 10.0);
        format!("{scaled:.digits$}{unit}")
    };
    if value < 10.0 && value.fract() > 0.0 {
        format!("{value:.1}")
    } else if value < 1_000.0 {
        format!("{value:.0}")
    } else if value < 999_500.0 {
        scaled(1e3, 'k')
    } else {
        scaled(1e6, 'M')
    }
}

/// A share in percent; 100 % only where it is all, 0 % only where it is nothing.
pub(super) fn percent(share: f64) -> String {
    let value = share * 100.0;
    if share <= 0.0 {
        "0 %".to_owned()
    } else if share >= 1.0 {
        "100 %".to_owned()
    } else if value > 99.0 {
        format!("{:.2} %", (value * 100.0).floor() / 100.0)
    } else if value < 1.0 {
        format!("{:.2} %", value.max(0.01))
    } else {
        format!("{value:.1} %")
    }
}

/// Milliseconds with the two units that matter.
pub(super) fn duration(ms: f64) -> String {
    if ms < 10.0 {
        return format!("{ms:.1} ms");
    }
    if ms < 1_000.0 {
        return format!("{ms:.0} ms");
    }
    if ms < 10_000.0 {
        return format!("{:.1} s", ms / 1_000.0);
    }
    let seconds = (ms / 1_000.0) as u64;
    let units = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
    ];
    let from = units.iter().position(|(count, _)| *count > 0).unwrap_or(3);
    let shown = units.iter().skip(from).take(2);
    let parts = shown
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count} {unit}"));
    parts.collect::<Vec<_>>().join(" ")
}

/// The time of day of a stamp such as `2026-11-21T20:30:00.123Z`.
pub(super) fn clock(stamp: &Value) -> &str {
    let stamp = stamp.as_str().unwrap_or_default();
    stamp.get(11..19).unwrap_or(stamp)
}

/// The Unix time of a stamp in milliseconds.
pub(super) fn millis(stamp: &Value) -> Option<i64> {
    let stamp: jiff::Timestamp = stamp.as_str()?.parse().ok()?;
    Some(stamp.as_millisecond())
}

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The newest so many points as a line of bars; a point without a value is a space.
pub(super) fn bars(points: &[Option<f64>], width: usize) -> String {
    let newest = &points[points.len().saturating_sub(width)..];
    let highest = newest.iter().flatten().copied().fold(0.0, f64::max);
    let bar = |point: &Option<f64>| match point {
        Some(value) if highest > 0.0 => {
            let step = (value / highest * 7.0).round().clamp(0.0, 7.0);
            BARS[step as usize]
        }
        Some(_) => BARS[0],
        None => ' ',
    };
    let bars: String = newest.iter().map(bar).collect();
    format!("{bars:>width$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_never_say_all_or_nothing_where_it_is_not() {
        for (value, wanted) in [
            (0.0, "0"),
            (9.5, "9.5"),
            (950.0, "950"),
            (1_240.0, "1.2k"),
            (34_000.0, "34k"),
            (5_600_000.0, "5.6M"),
        ] {
            assert_eq!(short(value), wanted);
        }
        for (share, wanted) in [
            (1.0, "100 %"),
            (0.999_999, "99.99 %"),
            (0.5, "50.0 %"),
            (0.000_001, "0.01 %"),
            (0.0, "0 %"),
        ] {
            assert_eq!(percent(share), wanted);
        }
        for (ms, wanted) in [
            (0.41, "0.4 ms"),
            (250.0, "250 ms"),
            (3_140.0, "3.1 s"),
            (65_000.0, "1 min 5 s"),
            (7_200_000.0, "2 h"),
            (90_061_000.0, "1 d 1 h"),
        ] {
            assert_eq!(duration(ms), wanted);
        }
    }

    #[test]
    fn the_newest_points_are_at_the_right() {
        assert_eq!(bars(&[Some(1.0), None, Some(7.0)], 4), " ▂ █");
        assert_eq!(bars(&[Some(9.0), Some(0.0), Some(0.0)], 2), "▁▁");
        assert_eq!(bars(&[], 3), "   ");
    }
}
