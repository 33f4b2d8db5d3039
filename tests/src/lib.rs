//! Promises, shown through the real binary.
