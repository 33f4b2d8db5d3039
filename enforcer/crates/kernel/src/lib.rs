//! The kernel half's loader.
