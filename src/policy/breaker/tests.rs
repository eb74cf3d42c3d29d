//! Scripts, one step a line, and random walks.
