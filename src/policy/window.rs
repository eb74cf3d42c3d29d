//! Counts of outcomes over a sliding time.
