//! A changed file, SIGHUP or an order becomes the next generation, or the old one stays and it is said
//! why.

pub mod watch;
