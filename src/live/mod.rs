//! What runs: the state behind a configuration, which outlives it, and the choices made from it.

pub mod age;
pub mod connection;
pub mod frames;
pub mod group;
pub mod hop_by_hop;
pub mod http1;
pub mod http2;
pub mod inbox;
pub mod interim;
pub mod line;
pub mod pool;
pub mod received;
pub mod relay;
pub mod request_body;
pub mod request_head;
pub mod roster;
pub mod router;
pub mod seats;
pub mod slots;
pub mod snapshot;
pub mod sources;
pub mod tls;
pub mod trailers;
pub mod upstream;
pub mod wire;
