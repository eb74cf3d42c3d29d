//! What listens: the admin interface with its page, and what they show.

pub mod admin;
pub mod status;
