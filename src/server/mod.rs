//! What listens: the doors where requests come in, the workers that serve them, and the admin
//! interface with its page.

pub mod admin;
mod alarm;
mod answering;
pub mod connection;
mod deadline;
pub mod door;
mod episode;
pub mod handler;
mod http1;
mod http2;
pub mod limit;
pub mod listener;
mod redirected;
pub mod socket;
pub mod status;
pub mod tls;
pub mod transport;
pub mod worker;
