//! What runs: the state behind a configuration, which outlives it, and the choices made from it.

pub mod router;
