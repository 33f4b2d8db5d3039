//! What the parts of this module promise together.
