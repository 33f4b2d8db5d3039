//! JA4, the fingerprint of a client's TLS software, from the first bytes that it sends.
//!
//! After the public specification (`FoxIO`, JA4 alone, BSD 3-Clause): what the `ClientHello` offers, the
//! parts whose order clients shuffle sorted, the values that only test tolerance (GREASE, RFC 8701)
//! left out. It tells which software speaks, never who. Pure: bytes in, 36 characters out; what is
//! not a whole `ClientHello` has none.

use std::fmt::Write;
use std::sync::Arc;

use ring::digest::{SHA256, digest};

/// How much of a connection is looked at: a `ClientHello` with every extension in use has 2 KiB.
pub const BYTES_MAX: usize = 16 * 1024;

/// What the first records of a connection hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// It goes on behind these bytes.
    Unfinished,
    /// Nothing that begins with a `ClientHello`.
    Other,
    /// This `ClientHello`, without its header.
    Whole(Vec<u8>),
}

const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO: u8 = 1;

const SERVER_NAME: u16 = 0x0000;
const SIGNATURE_ALGORITHMS: u16 = 0x000d;
const ALPN: u16 = 0x0010;
const SUPPORTED_VERSIONS: u16 = 0x002b;

/// What stands for a list with nothing in it.
const NOTHING: &str = "000000000000";

/// The `ClientHello` at the beginning of `bytes`, put together from its records.
pub fn hello(bytes: &[u8]) -> Hello {
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        let Some((&[kind, major, _, high, low], behind)) = rest.split_first_chunk::<5>() else {
            let wrong = rest.first().is_some_and(|kind| *kind != HANDSHAKE_RECORD);
            return if wrong { Hello::Other } else { Hello::Unfinished };
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if kind != HANDSHAKE_RECORD || major != 3 || length == 0 {
            return Hello::Other;
        }
        let Some(part) = behind.get(..length) else {
            message.extend_from_slice(behind);
            return match body(&message) {
                Some(Err(NoHello)) => Hello::Other,
                Some(Ok(_)) | None => Hello::Unfinished,
            };
        };
        message.extend_from_slice(part);
        match body(&message) {
            Some(Ok(body)) => return Hello::Whole(body.to_vec()),
            Some(Err(NoHello)) => return Hello::Other,
            None => rest = behind.get(length..).unwrap_or_default(),
        }
    }
}

/// The message is not a `ClientHello`.
struct NoHello;

/// What stands behind the header of a `ClientHello`; none until all of it is there.
fn body(message: &[u8]) -> Option<Result<&[u8], NoHello>> {
    let Some((&[kind, lengths @ ..], body)) = message.split_first_chunk::<4>() else {
        let wrong = message.first().is_some_and(|kind| *kind != CLIENT_HELLO);
        return wrong.then_some(Err(NoHello));
    };
    let [high, middle, low] = lengths;
    let length = u32::from_be_bytes([0, high, middle, low]);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if kind != CLIENT_HELLO || length > BYTES_MAX {
        return Some(Err(NoHello));
    }
    body.get(..length).map(Ok)
}

/// The fingerprint of a connection over TCP that begins with the `ClientHello` `hello`, without its
/// header; none where it is malformed.
pub fn ja4(hello: &[u8]) -> Option<Arc<str>> {
    let mut rest = Reader(hello);
    let legacy_version = rest.number()?;
    rest.take(32)?;
    rest.short()?;
    let mut ciphers: Vec<u16> = rest.long()?.numbers()?;
    ciphers.retain(|cipher| !is_grease(*cipher));
    rest.short()?;

    let mut offered = Offered { version: legacy_version, ..Offered::default() };
    if !rest.0.is_empty() {
        let mut extensions = rest.long()?;
        while !extensions.0.is_empty() {
            let kind = extensions.number()?;
            offered.take(kind, extensions.long()?)?;
        }
        if !rest.0.is_empty() {
            return None;
        }
    }

    let mut text = String::with_capacity(36);
    let sni = if offered.names_server { 'd' } else { 'i' };
    let [first, last] = offered.protocol;
    let (many, more) = (ciphers.len().min(99), offered.count.min(99));
    write!(text, "t{}{sni}{many:02}{more:02}{first}{last}_", version(offered.version)).ok()?;
    ciphers.sort_unstable();
    let mut list = String::with_capacity(256);
    hexadecimal(&ciphers, &mut list);
    append_hash(&list, &mut text);
    text.push('_');
    offered.extensions.sort_unstable();
    list.clear();
    hexadecimal(&offered.extensions, &mut list);
    if !list.is_empty() && !offered.signatures.is_empty() {
        list.push('_');
        hexadecimal(&offered.signatures, &mut list);
    }
    append_hash(&list, &mut text);
    Some(text.into())
}

/// What the extensions say.
#[derive(Debug)]
struct Offered {
    version: u16,
    names_server: bool,
    protocol: [char; 2],
    /// Those that go into the hash.
    extensions: Vec<u16>,
    /// All of them.
    count: usize,
    signatures: Vec<u16>,
}

impl Default for Offered {
    fn default() -> Self {
        Self {
            version: 0,
            names_server: false,
            protocol: ['0'; 2],
            extensions: Vec::with_capacity(16),
            count: 0,
            signatures: Vec::new(),
        }
    }
}

impl Offered {
    fn take(&mut self, kind: u16, mut said: Reader<'_>) -> Option<()> {
        if is_grease(kind) {
            return Some(());
        }
        self.count = self.count.saturating_add(1);
        match kind {
            SERVER_NAME => self.names_server = true,
            ALPN => {
                let mut protocols = said.long()?;
                self.protocol = ends(protocols.short()?.0);
            }
            _ => self.extensions.push(kind),
        }
        if kind == SIGNATURE_ALGORITHMS {
            self.signatures = said.long()?.numbers()?;
            self.signatures.retain(|scheme| !is_grease(*scheme));
        }
        if kind == SUPPORTED_VERSIONS {
            let versions = said.short()?.numbers()?.into_iter();
            self.version = versions.filter(|version| !is_grease(*version)).max().unwrap_or(0);
        }
        Some(())
    }
}

/// The first and last character of a protocol's name; of its hexadecimal form if they are no letters
/// or digits.
fn ends(name: &[u8]) -> [char; 2] {
    let (Some(first), Some(last)) = (name.first(), name.last()) else { return ['0'; 2] };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        return [char::from(*first), char::from(*last)];
    }
    let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or('0');
    [digit(first >> 4), digit(last & 0x0f)]
}

const fn version(number: u16) -> &'static str {
    match number {
        0x0304 => "13",
        0x0303 => "12",
        0x0302 => "11",
        0x0301 => "10",
        0x0300 => "s3",
        0x0002 => "s2",
        _ => "00",
    }
}

/// RFC 8701: both bytes the same, both ending in `a`.
const fn is_grease(number: u16) -> bool {
    number & 0x0f0f == 0x0a0a && number >> 8 == number & 0xff
}

/// The numbers in hexadecimal, with commas between them.
fn hexadecimal(numbers: &[u16], to: &mut String) {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    for (at, number) in numbers.iter().enumerate() {
        if at > 0 {
            to.push(',');
        }
        for shift in [12, 8, 4, 0] {
            to.extend(DIGITS.get(usize::from(number >> shift & 0x0f)));
        }
    }
}

/// The first twelve digits of the SHA-256 of `list`.
fn append_hash(list: &str, to: &mut String) {
    if list.is_empty() {
        return to.push_str(NOTHING);
    }
    for byte in digest(&SHA256, list.as_bytes()).as_ref().iter().take(6) {
        // Writing into a string does not fail.
        write!(to, "{byte:02x}").unwrap_or_default();
    }
}

/// Bytes that are read from the left.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<Self> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(Self(taken))
    }

    fn number(&mut self) -> Option<u16> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*number))
    }

    /// What follows its own length of one byte.
    fn short(&mut self) -> Option<Self> {
        let (length, rest) = self.0.split_first()?;
        self.0 = rest;
        self.take(usize::from(*length))
    }

    /// What follows its own length of two bytes.
    fn long(&mut self) -> Option<Self> {
        let length = self.number()?;
        self.take(usize::from(length))
    }

    /// All of it, two bytes each.
    fn numbers(self) -> Option<Vec<u16>> {
        let (pairs, []) = self.0.as_chunks() else { return None };
        Some(pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect())
    }
}

#[cfg(test)]
#[path = "ja4_tests.rs"]
mod tests;
