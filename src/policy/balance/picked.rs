//! Why an endpoint was chosen, as small values: the sentence is made when somebody asks for it.

/// The candidate that was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pick {
    /// Its place among the candidates.
    pub place: usize,
    /// What decided.
    pub how: How,
}

/// What decided between candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// There was only one.
    Only,
    /// The less loaded of two that were drawn by chance, for their weights and recent failures.
    LessLoaded {
        /// Its requests in flight.
        load: u32,
        /// Those of the other.
        other: u32,
    },
    /// It was its turn.
    Turn,
    /// By chance.
    Chance,
    /// The hash of the header that the upstream's balance names.
    Hash,
}

/// How an endpoint came to be tried: what decided, and what had narrowed the choice before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Picked {
    /// What decided between those that were left.
    pub how: How,
    /// Endpoints that the upstream had.
    pub endpoints: u16,
    /// Those that were left aside since the request had tried them already.
    pub tried: u16,
    /// Those that were left aside since their breakers let nothing through then.
    pub shut: u16,
    /// Those that were left aside since their health checks fail.
    pub unhealthy: u16,
    /// Those that are only asked where no other can be: not checked yet, or no longer named by their source.
    pub later: u16,
    /// It is a probe of a breaker that is half-open.
    pub probe: bool,
    /// Nothing could be sent to any, and it was sent all the same (`when_all_open: send_anyway`).
    pub anyway: bool,
    /// The share of its traffic that the endpoint got then, above 0 to 1: less than 1 while it warms up.
    pub share: f32,
}

impl Picked {
    /// The only endpoint that there is.
    pub const ONLY: Self = Self {
        how: How::Only,
        endpoints: 1,
        tried: 0,
        shut: 0,
        unhealthy: 0,
        later: 0,
        probe: false,
        anyway: false,
        share: 1.0,
    };
}
