//! Where a request goes.
