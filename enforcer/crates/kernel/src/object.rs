//! The program that `cargo xtask ebpf` built, as bytes in this one.

use std::fmt::Write;

#[cfg(bpf_object)]
pub(crate) const OBJECT: Option<&[u8]> =
    Some(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/enforcer-ebpf.o")));

#[cfg(not(bpf_object))]
pub(crate) const OBJECT: Option<&[u8]> = None;

/// What is embedded, in hexadecimal; `None` when this build has no kernel half.
pub fn object_sha256() -> Option<String> {
    let digest = ring::digest::digest(&ring::digest::SHA256, OBJECT?);
    let mut text = String::with_capacity(64);
    for byte in digest.as_ref() {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").ok()?;
    }
    Some(text)
}
