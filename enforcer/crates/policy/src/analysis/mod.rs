//! What a policy means for all requests: found by looking for one request, or for none.
//!
//! Every question is put as a [`formula::Formula`] over the parts of a request, and [`search::find`]
//! answers it with a sample, with "nothing", or not at all; what is not decided is never claimed.
mod addresses;
pub(crate) mod formula;
pub(crate) mod search;
mod texts;
mod uses;
pub(crate) mod world;
