//! Numbers and times in few characters, as the page writes them, too.

/// A number in few characters: 9.5, 950, 1.2k, 34k, 5.6M.
pub fn short(value: f64) -> String {
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
pub fn percent(share: f64) -> String {
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
pub fn duration(ms: f64) -> String {
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

/// So many of something: `1 request`, `2 requests`.
pub fn plural(count: u64, one: &str, many: &str) -> String {
    let word = if count == 1 { one } else { many };
    format!("{count} {word}")
}

/// The first three of these, and how many more there are: `a`, `a and b`, `a, b, c and 2 more`.
pub fn some_of(all: &[impl AsRef<str>]) -> String {
    let mut shown: Vec<_> = all
        .iter()
        .take(3)
        .map(|one| one.as_ref().to_owned())
        .collect();
    let more = all.len() - shown.len();
    if more > 0 {
        shown.push(format!("{more} more"));
    }
    let last = shown.pop().unwrap_or_default();
    match shown.is_empty() {
        true => last,
        false => format!("{} and {last}", shown.join(", ")),
    }
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
    fn of_many_some_are_named_and_the_rest_is_counted() {
        for (all, wanted) in [
            (&[][..], ""),
            (&["a"], "a"),
            (&["a", "b"], "a and b"),
            (&["a", "b", "c"], "a, b and c"),
            (&["a", "b", "c", "d", "e"], "a, b, c and 2 more"),
        ] {
            assert_eq!(some_of(all), wanted);
        }
        assert_eq!(plural(1, "thing", "things"), "1 thing");
        assert_eq!(plural(0, "thing", "things"), "0 things");
    }
}
