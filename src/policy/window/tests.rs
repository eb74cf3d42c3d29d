//! What counts, and for how long.
