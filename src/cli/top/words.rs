//! What stands in a status, as values and in few characters.

use serde_json::Value;

/// A number of the status; 0 where it is absent.
pub(super) fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
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
    fn the_newest_points_are_at_the_right() {
        assert_eq!(bars(&[Some(1.0), None, Some(7.0)], 4), " ▂ █");
        assert_eq!(bars(&[Some(9.0), Some(0.0), Some(0.0)], 2), "▁▁");
        assert_eq!(bars(&[], 3), "   ");
    }
}
