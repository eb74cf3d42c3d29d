//! What listens: the doors where requests come in, the workers that serve them, and the admin
//! interface with its page.

pub mod admin;
mod alarm;
mod answering;
pub mod connection;
pub mod door;
mod exchange;
pub mod handler;
mod http2;
mod interim;
pub mod limit;
pub mod listener;
mod redirected;
mod scan;
pub mod socket;
pub mod status;
pub mod tls;
pub mod transport;
mod wire;
pub mod worker;
