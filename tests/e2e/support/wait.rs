//! Waiting without guessing how long.

use std::time::{Duration, Instant};

/// How long anything may take that should be there at once: long, for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Looks until there is something, at most [`PATIENCE`].
pub(crate) fn until<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    within(PATIENCE, &mut look)
}

/// Waits until it holds; panics with `what` after [`PATIENCE`].
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    assert!(until(|| holds().then_some(())).is_some(), "never: {what}");
}

/// Looks until there is something, at most so long.
pub(crate) fn within<T>(patience: Duration, look: &mut impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
