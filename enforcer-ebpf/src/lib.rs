//! The kernel half: contract and verdict.
