//! enforcer.
fn main() {}
