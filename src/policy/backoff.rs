//! How long to wait before another try.

use std::time::Duration;

/// How the wait grows and is spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How it grows.
    pub kind: Kind,
    /// The first wait, before jitter.
    pub base: Duration,
    /// The longest wait.
    pub max: Duration,
    /// How it is spread.
    pub jitter: Jitter,
}

/// The shortest wait that is one: below it, timers do not tell a wait from none.
const SHORTEST: Duration = Duration::from_millis(1);

impl Settings {
    /// The wait before retry number `retry` (1: before the second try). `chance` is 0 to below 1.
    /// Never above `max`; at least 1 ms unless `base` or `max` is below that.
    pub fn wait(&self, retry: u32, chance: f64) -> Duration {
        let longest = self.longest(retry);
        let spread = match self.jitter {
            Jitter::Full => share(longest, chance),
            Jitter::Equal => longest / 2 + share(longest - longest / 2, chance),
            Jitter::None => longest,
        };
        spread.max(SHORTEST.min(longest))
    }

    /// The longest wait that jitter can make of retry number `retry`: the wait itself, up to `max`.
    pub fn longest(&self, retry: u32) -> Duration {
        let base = self.base.as_nanos();
        let steps = retry.saturating_sub(1);
        let nanos = match self.kind {
            Kind::Exponential => base.saturating_mul(1 << steps.min(127)),
            Kind::Linear => base.saturating_mul(u128::from(steps) + 1),
            Kind::Fixed => base,
        };
        Duration::from_nanos_u128(nanos.min(self.max.as_nanos()))
    }
}

/// `chance` of `whole`; a chance that is none counts as the nearest end.
fn share(whole: Duration, chance: f64) -> Duration {
    if chance > 0.0 {
        // The product cannot be above `whole` but by rounding at the far end of `Duration`.
        Duration::try_from_secs_f64(whole.as_secs_f64() * chance).map_or(whole, |d| d.min(whole))
    } else {
        Duration::ZERO
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            kind: Kind::Exponential,
            base: Duration::from_millis(25),
            max: Duration::from_secs(1),
            jitter: Jitter::Full,
        }
    }
}

/// How the wait grows from one try to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// base, base×2, base×4 …
    Exponential,
    /// base, base×2, base×3 …
    Linear,
    /// base each time.
    Fixed,
}

/// How the wait is spread, so that clients do not come back all at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jitter {
    /// Anything from nothing to the wait.
    Full,
    /// Half the wait, and anything up to the other half.
    Equal,
    /// The wait.
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn settings(kind: Kind, jitter: Jitter) -> Settings {
        Settings {
            kind,
            base: Duration::from_millis(25),
            max: Duration::from_secs(1),
            jitter,
        }
    }

    fn waits(settings: &Settings, chance: f64) -> Vec<u128> {
        (1..=8)
            .map(|retry| settings.wait(retry, chance).as_millis())
            .collect()
    }

    #[test]
    fn without_jitter_the_first_wait_is_the_base() {
        for (kind, expected) in [
            (Kind::Exponential, [25, 50, 100, 200, 400, 800, 1000, 1000]),
            (Kind::Linear, [25, 50, 75, 100, 125, 150, 175, 200]),
            (Kind::Fixed, [25; 8]),
        ] {
            assert_eq!(waits(&settings(kind, Jitter::None), 0.9), expected);
        }
    }

    #[test]
    fn rule_23_full_jitter_spreads_from_nothing_equal_jitter_from_the_half() {
        let full = settings(Kind::Exponential, Jitter::Full);
        assert_eq!(waits(&full, 0.5), [12, 25, 50, 100, 200, 400, 500, 500]);
        let equal = settings(Kind::Exponential, Jitter::Equal);
        assert_eq!(waits(&equal, 0.0), [12, 25, 50, 100, 200, 400, 500, 500]);
        assert_eq!(waits(&equal, 0.5), [18, 37, 75, 150, 300, 600, 750, 750]);
    }

    #[test]
    fn rule_23_a_wait_is_at_least_a_millisecond_where_there_is_one() {
        let mut settings = settings(Kind::Exponential, Jitter::Full);
        assert_eq!(settings.wait(1, 0.0), Duration::from_millis(1));
        settings.base = Duration::ZERO;
        assert_eq!(settings.wait(3, 0.9), Duration::ZERO);
        settings.base = Duration::from_millis(25);
        settings.max = Duration::from_micros(10);
        assert_eq!(settings.wait(3, 0.0), Duration::from_micros(10), "max");
    }

    #[test]
    fn rule_23_no_number_of_retries_overflows() {
        for kind in [Kind::Exponential, Kind::Linear, Kind::Fixed] {
            for jitter in [Jitter::Full, Jitter::Equal, Jitter::None] {
                let mut settings = settings(kind, jitter);
                settings.base = Duration::MAX;
                settings.max = Duration::MAX;
                for retry in [0, 1, 2, 63, 64, 128, 129, u32::MAX] {
                    for chance in [-1.0, 0.0, 1.0 - f64::EPSILON, 1.0, 7.0, f64::NAN] {
                        assert!(settings.wait(retry, chance) <= settings.max);
                    }
                }
            }
        }
        let full = settings(Kind::Exponential, Jitter::Full);
        for chance in [-1.0, f64::NAN] {
            assert_eq!(full.wait(9, chance), full.wait(9, 0.0), "{chance}");
        }
        let mut tiny = settings(Kind::Exponential, Jitter::None);
        tiny.base = Duration::from_nanos(1);
        tiny.max = Duration::from_secs(1 << 40);
        assert_eq!(tiny.wait(200, 0.0), tiny.max);
    }

    #[test]
    fn walk_every_wait_lies_between_its_bounds() {
        let mut rng = fastrand::Rng::with_seed(23);
        for _ in 0..20_000 {
            let settings = Settings {
                kind: [Kind::Exponential, Kind::Linear, Kind::Fixed][rng.usize(..3)],
                base: Duration::from_micros(rng.u64(1..2_000_000)),
                max: Duration::from_micros(rng.u64(1..20_000_000)),
                jitter: [Jitter::Full, Jitter::Equal, Jitter::None][rng.usize(..3)],
            };
            let retry = rng.u32(..40);
            let wait = settings.wait(retry, rng.f64());
            let longest = settings.longest(retry);
            assert!(longest <= settings.max && longest <= settings.longest(retry + 1));
            assert!(wait <= longest && wait >= longest.min(SHORTEST));
            match settings.jitter {
                Jitter::Full => {}
                Jitter::Equal => assert!(wait >= longest / 2),
                Jitter::None => assert_eq!(wait, longest),
            }
        }
    }
}
