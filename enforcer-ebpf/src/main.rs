//! The program that the kernel runs.
fn main() {}
