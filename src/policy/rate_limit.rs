//! How many requests may come in a time: a token bucket.

use std::time::{Duration, Instant};

/// The bucket's measures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Tokens that come back in a second; above 0.
    pub per_second: f64,
    /// Tokens that the bucket holds; at least 1.
    pub burst: f64,
}

/// Tokens below this are rounding, not tokens: a request that comes after the time that it was told
/// must not be refused for the last bit of a sum.
const ROUNDING: f64 = 1e-9;

/// What is left in a bucket. A reload changes the measures at the next call: tokens are kept, up to
/// the new `burst`; a larger one fills at the new rate.
#[derive(Debug, Clone)]
pub struct Bucket {
    tokens: f64,
    /// Until when tokens have been added. Never goes back.
    filled_to: Instant,
}

impl Bucket {
    /// A full bucket.
    pub fn new(s: &Settings, now: Instant) -> Self {
        Self {
            tokens: s.burst,
            filled_to: now,
        }
    }

    /// Takes a token, or says how long it takes until there is one.
    pub fn take(&mut self, s: &Settings, now: Instant) -> Result<(), Duration> {
        let missing = 1.0 - self.tokens(s, now);
        if missing <= ROUNDING {
            self.tokens = (self.tokens - 1.0).max(0.0);
            return Ok(());
        }
        // Rounded up, so that whoever waits as long as it was told is not sent off again.
        let wait = Duration::try_from_secs_f64(missing / s.per_second).unwrap_or(Duration::MAX);
        Err(wait.saturating_add(Duration::from_nanos(1)))
    }

    /// The tokens that are there now, parts of one included.
    pub fn tokens(&mut self, s: &Settings, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.filled_to);
        self.filled_to += elapsed;
        self.tokens = (self.tokens + elapsed.as_secs_f64() * s.per_second).min(s.burst);
        self.tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings {
        per_second: 100.0,
        burst: 20.0,
    };

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn take_many(bucket: &mut Bucket, s: &Settings, now: Instant) -> usize {
        std::iter::repeat_with(|| bucket.take(s, now))
            .take_while(Result::is_ok)
            .count()
    }

    #[test]
    fn a_full_bucket_gives_its_burst_and_then_the_rate() {
        let start = crate::clock::now();
        let mut bucket = Bucket::new(&SETTINGS, start);
        // 0 burst, then one token for each 10 ms; an hour of silence is worth no more than the burst
        for (at, taken) in [(0, 20), (5, 0), (10, 1), (40, 3), (45, 0), (3_600_000, 20)] {
            assert_eq!(
                take_many(&mut bucket, &SETTINGS, start + ms(at)),
                taken,
                "at {at} ms"
            );
        }
    }

    #[test]
    fn a_refusal_says_when_the_next_token_comes_and_keeps_its_word() {
        let start = crate::clock::now();
        let slow = Settings {
            per_second: 0.3,
            burst: 1.0,
        };
        let mut bucket = Bucket::new(&slow, start);
        let mut now = start;
        for _ in 0..100 {
            assert_eq!(bucket.take(&slow, now), Ok(()));
            let wait = bucket.take(&slow, now).unwrap_err();
            assert!(wait > ms(3_333) && wait < ms(3_334), "{wait:?}");
            assert!(bucket.take(&slow, now + wait - ms(1)).is_err());
            now += wait;
        }
    }

    #[test]
    fn a_rate_too_small_for_a_duration_waits_for_ever() {
        let start = crate::clock::now();
        let never = Settings {
            per_second: 1e-300,
            burst: 1.0,
        };
        let mut bucket = Bucket::new(&never, start);
        assert_eq!(bucket.take(&never, start), Ok(()));
        assert_eq!(bucket.take(&never, start), Err(Duration::MAX));
    }

    #[test]
    fn fault_072_time_that_goes_back_gives_no_token() {
        let start = crate::clock::now();
        let mut bucket = Bucket::new(&SETTINGS, start + ms(1000));
        assert_eq!(take_many(&mut bucket, &SETTINGS, start + ms(1000)), 20);
        // A caller whose reading of the clock is older must not have the second counted twice.
        assert_eq!(take_many(&mut bucket, &SETTINGS, start), 0);
        assert_eq!(take_many(&mut bucket, &SETTINGS, start + ms(1000)), 0);
    }

    #[test]
    fn rule_81_a_reload_keeps_the_tokens_up_to_the_new_burst() {
        let start = crate::clock::now();
        let mut bucket = Bucket::new(&SETTINGS, start);
        let smaller = Settings {
            burst: 5.0,
            ..SETTINGS
        };
        assert_eq!(bucket.tokens(&smaller, start), 5.0);
        // A larger burst is no present: it fills at the rate.
        assert_eq!(bucket.tokens(&SETTINGS, start), 5.0);
        assert_eq!(bucket.tokens(&SETTINGS, start + ms(50)), 10.0);
        let faster = Settings {
            per_second: 1000.0,
            ..SETTINGS
        };
        assert_eq!(bucket.tokens(&faster, start + ms(55)), 15.0);
    }

    #[test]
    fn walk_no_span_gives_more_than_its_burst_and_its_rate() {
        let mut rng = fastrand::Rng::with_seed(63);
        for round in 0..50 {
            let s = Settings {
                per_second: 0.5 + rng.f64() * 500.0,
                burst: 1.0 + rng.f64() * 30.0,
            };
            let mut now = crate::clock::now();
            let mut bucket = Bucket::new(&s, now);
            let mut taken: Vec<Instant> = Vec::new();
            for _ in 0..400 {
                now += Duration::from_micros(rng.u64(..20_000));
                match bucket.take(&s, now) {
                    Ok(()) => taken.push(now),
                    Err(wait) => {
                        let mut later = bucket.clone();
                        assert_eq!(later.take(&s, now + wait), Ok(()), "round {round}");
                    }
                }
                assert!((0.0..=s.burst).contains(&bucket.tokens(&s, now)));
            }
            for (first, from) in taken.iter().enumerate() {
                for (last, to) in taken.iter().enumerate().skip(first) {
                    let allowed = s.burst + (*to - *from).as_secs_f64() * s.per_second;
                    assert!((last - first + 1) as f64 <= allowed + 1e-6, "round {round}");
                }
            }
        }
    }
}
