//! Traces as examples of a histogram's buckets: for each bucket the last request whose spans are exported,
//! so that from a slow bucket there is a way to a trace that shows why.

use std::time::Duration;

use parking_lot::Mutex;

use super::histogram::{BOUNDS, bucket_of};

/// One example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Example {
    /// The trace.
    pub trace_id: u128,
    /// How long the request took, in nanoseconds.
    pub nanoseconds: u64,
    /// The date, as the time since 1970.
    pub at: Duration,
}

/// An example for each bucket; memory is taken with the first.
#[derive(Debug, Default)]
pub struct Examples(Mutex<Option<Box<[Option<Example>; BOUNDS.len() + 1]>>>);

impl Examples {
    /// Keeps an example in its bucket, in the place of the one before.
    pub fn keep(&self, example: Example) {
        let mut all = self.0.lock();
        let all = all.get_or_insert_default();
        all[bucket_of(example.nanoseconds)] = Some(example);
    }

    /// The example of a bucket.
    pub fn of(&self, bucket: usize) -> Option<Example> {
        *self.0.lock().as_ref()?.get(bucket)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bucket_has_its_last_example() {
        let examples = Examples::default();
        assert_eq!(examples.of(0), None);
        let example = |trace_id, nanoseconds| Example {
            trace_id,
            nanoseconds,
            at: Duration::ZERO,
        };
        for (id, nanoseconds) in [(1, 500_000), (2, 500_001), (3, 400_000), (4, u64::MAX)] {
            examples.keep(example(id, nanoseconds));
        }
        let ids = [0, 1, 2, BOUNDS.len(), BOUNDS.len() + 1];
        let ids = ids.map(|bucket| examples.of(bucket).map(|one| one.trace_id));
        assert_eq!(ids, [Some(3), Some(2), None, Some(4), None]);
    }
}
