//! How many requests may come in a time: a token bucket.

/// The bucket's measures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Tokens that come back in a second; above 0.
    pub per_second: f64,
    /// Tokens that the bucket holds; at least 1.
    pub burst: f64,
}
