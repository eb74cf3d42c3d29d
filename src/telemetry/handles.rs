//! Handles by their labels: the same labels give the same handle for as long as somebody holds it, and
//! a while longer, so that the last counts of what a reload removed are still scraped (rule 87).

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Scrapes that a handle outlives its last holder: two for each of a pair of Prometheus servers.
pub const SCRAPES: u32 = 4;

/// Handles by label.
#[derive(Debug)]
pub struct Handles<K, V>(BTreeMap<K, Entry<V>>);

#[derive(Debug)]
struct Entry<V> {
    handle: Arc<V>,
    /// Scrapes that found that only this table holds it, since somebody asked for it.
    unheld: u32,
}

impl<K: Ord, V> Default for Handles<K, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord, V> Handles<K, V> {
    /// The handle of these labels; made where there is none.
    pub fn get(&mut self, labels: K, make: impl FnOnce() -> V) -> Arc<V> {
        let entry = self.0.entry(labels).or_insert_with(|| Entry {
            handle: Arc::new(make()),
            unheld: 0,
        });
        entry.unheld = 0;
        entry.handle.clone()
    }

    /// The handle of these labels, where there is one; asked for as by [`Handles::get`].
    pub fn known(&mut self, labels: &K) -> Option<Arc<V>> {
        let entry = self.0.get_mut(labels)?;
        entry.unheld = 0;
        Some(entry.handle.clone())
    }

    /// Every handle, by label, for whoever reads them without the table. It is no scrape.
    pub fn all(&self) -> Vec<Arc<V>> {
        self.0.values().map(|entry| entry.handle.clone()).collect()
    }

    /// Whether there is a handle of these labels.
    pub fn has<Q: Ord + ?Sized>(&self, labels: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.contains_key(labels)
    }

    /// Takes note of a scrape: returns every handle, by label, and forgets what nobody has held for
    /// [`SCRAPES`] of them, each once `last` has seen it. Where scrapes overlap, what one has got counts as
    /// held for the other.
    pub fn scraped(&mut self, mut last: impl FnMut(&V)) -> Vec<Arc<V>> {
        let mut all = Vec::with_capacity(self.0.len());
        self.0.retain(|_, entry| {
            if Arc::strong_count(&entry.handle) == 1 {
                entry.unheld += 1;
            }
            all.push(entry.handle.clone());
            let stays = entry.unheld < SCRAPES;
            if !stays {
                last(&entry.handle);
            }
            stays
        });
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_labels_give_the_same_handle() {
        let mut handles = Handles::default();
        let first = handles.get("a", || 1);
        let again = handles.get("a", || 2);
        assert!(Arc::ptr_eq(&first, &again));
    }

    #[test]
    fn rule_87_what_nobody_holds_is_forgotten_after_some_scrapes_and_not_before() {
        let mut handles = Handles::default();
        let held = handles.get("held", || 1);
        drop(handles.get("removed", || 2));
        for _ in 1..SCRAPES {
            handles.scraped(|_| ());
            assert_eq!(handles.all().len(), 2);
        }
        handles.scraped(|_| ());
        assert_eq!(handles.all(), [held]);
    }

    #[test]
    fn what_comes_back_in_time_goes_on_counting() {
        let mut handles = Handles::default();
        drop(handles.get("a", || 1));
        (1..SCRAPES).for_each(|_| drop(handles.scraped(|_| ())));
        let back = handles.get("a", || 2);
        (0..SCRAPES).for_each(|_| drop(handles.scraped(|_| ())));
        assert_eq!(*back, 1);
        assert_eq!(handles.all().len(), 1);
    }

    #[test]
    fn rule_87_scrapes_that_overlap_forget_a_little_later() {
        let mut handles = Handles::default();
        drop(handles.get("removed", || 1));
        let slow = handles.scraped(|_| ());
        (0..2 * SCRAPES).for_each(|_| drop(handles.scraped(|_| ())));
        assert_eq!(handles.all().len(), 1);
        drop(slow);
        (1..SCRAPES).for_each(|_| assert_eq!(handles.scraped(|_| ()).len(), 1));
        assert_eq!(handles.scraped(|_| ()).len(), 0);
    }
}
