//! x
use super::Keys;
pub(super) const KEYS: Keys = &[];
