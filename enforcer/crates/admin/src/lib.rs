//! What operators reach.
