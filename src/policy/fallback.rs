//! Which failures a fallback stands in for.

use super::outcome::StatusSet;

/// The failures that a fallback stands in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conditions {
    /// Bit `reason as u8` for each of our reasons.
    pub reasons: u32,
    /// Statuses of the upstream's answers.
    pub statuses: StatusSet,
}
