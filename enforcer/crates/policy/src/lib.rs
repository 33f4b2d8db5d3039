//! From the operator's file to a Policy that cannot be wrong.
