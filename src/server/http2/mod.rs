//! Clients that speak HTTP/2. The library `h2` keeps the protocol: frames, header compression, windows
//! and the states of streams. What is here drives it, and does what it leaves to its user:
//!
//! - One task serves a connection with all of its streams; a stream that has nothing to do is not
//!   looked at ([`board`]).
//! - A stream is a request, the handler's future for it, and the sending of its answer ([`stream`]).
//! - The bytes of both directions are followed from frame to frame ([`crate::live::frames`], [`wire`]), so that
//!   floods are seen which the library would serve ([`floods`]), and heads that it refuses by itself
//!   are told like the others.
//! - Time limits of slow clients, the drain, and an end that the client can read ([`connection`]).

mod board;
mod channel;
pub(super) mod connection;
mod floods;
mod head;
mod stream;
mod streams;
mod wire;
