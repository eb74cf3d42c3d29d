//! Which endpoint a request goes to, among those that may be used.

/// How an endpoint is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Settings {
    /// The less loaded of two chosen by chance.
    #[default]
    LeastRequest,
    /// Each in turn, by weight.
    RoundRobin,
    /// By chance, by weight.
    Random,
    /// By the hash of a header (lower-case name); by chance where it is absent.
    Hash {
        /// The header's name.
        header: Box<str>,
    },
}
