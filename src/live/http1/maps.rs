//! Maps for the headers of requests and answers, used again: each costs three allocations, and large ones.

use std::cell::RefCell;

use http::HeaderMap;

/// Maps that each worker keeps.
const MAX_MAPS: usize = 8;

/// The headers that a new map has room for: those of usual requests and answers.
const ROOM: usize = 12;

/// The headers that a map has room for which is kept: not those of the largest heads.
const KEPT: std::ops::RangeInclusive<usize> = ROOM..=48;

thread_local! {
    static MAPS: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
}

/// An empty map; a new one has room for so many headers.
pub fn take(room: usize) -> HeaderMap {
    let used = MAPS.with_borrow_mut(Vec::pop);
    used.unwrap_or_else(|| HeaderMap::with_capacity(room.max(ROOM)))
}

/// Takes back a map that is not needed any more.
pub fn give_back(mut map: HeaderMap) {
    if !KEPT.contains(&map.capacity()) {
        return;
    }
    MAPS.with_borrow_mut(|maps| {
        if maps.len() < MAX_MAPS {
            map.clear();
            maps.push(map);
        }
    });
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_map_that_is_used_again_is_empty_and_few_are_kept() {
        let mut used = HeaderMap::with_capacity(12);
        used.append("x-old", HeaderValue::from_static("1"));
        used.append("x-old", HeaderValue::from_static("2"));
        let room = used.capacity();
        give_back(used);
        let again = take(1);
        assert!(again.is_empty() && again.get("x-old").is_none());
        assert_eq!(again.capacity(), room);
        for capacity in [0, 1, 100] {
            give_back(HeaderMap::with_capacity(capacity));
            assert_eq!(MAPS.with_borrow(Vec::len), 0);
        }
        for _ in 0..2 * MAX_MAPS {
            give_back(HeaderMap::with_capacity(12));
        }
        assert_eq!(MAPS.with_borrow(Vec::len), MAX_MAPS);
    }
}
