//! One meaning per request, or none.
