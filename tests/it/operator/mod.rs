//! What operators change while the service runs: it holds from the next request on, outlives the
//! agent, harms nobody else, and is on record with who, why, before and after.

mod endpoints;
