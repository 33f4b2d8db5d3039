//! Sealed pages: what an index file is made of below its content.
//!
//! Content is cut into pages of equal length, each encrypted and authenticated with AES-256-GCM for
//! its place in this one file. So a reader takes any few pages out of the middle and knows that they
//! are what was written; damage, a page of another file or another place, and a forger without the
//! segment's key all end as a page that does not open.

use std::fs::File;
use std::os::unix::fs::FileExt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::digest::{Context, SHA256};
use ring::hmac;

use super::IndexError;
use crate::merkle::{HASH_BYTES, Hash, sha256};

const MAGIC: &[u8; 16] = b"enforcer-index/1";
const SALT_BYTES: usize = 16;
/// Magic and salt stand in clear.
const CLEAR_BYTES: usize = MAGIC.len() + SALT_BYTES;
const TAG_BYTES: usize = 16;

/// Content of one page.
pub(super) const PAGE_BYTES: usize = 4_096 - TAG_BYTES;
const SEALED_BYTES: usize = PAGE_BYTES + TAG_BYTES;

/// Pages that are read at once, at most: a list of every record of a segment.
const READ_PAGES_MAX: usize = 4_096;

/// Random bytes that make this file's page key its own.
pub type Salt = [u8; SALT_BYTES];

/// An index file, read page by page.
#[derive(Debug)]
pub(super) struct Pages {
    file: File,
    key: LessSafeKey,
    count: u64,
}

/// The bytes of a file with this content, whatever it is.
pub fn seal(index_key: &[u8; 32], salt: Salt, content: &[u8]) -> Result<Vec<u8>, IndexError> {
    let key = page_key(index_key, &salt).ok_or(IndexError::Cipher)?;
    let pages = content.len().div_ceil(PAGE_BYTES);
    let mut bytes = Vec::with_capacity(CLEAR_BYTES + pages * SEALED_BYTES + HASH_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&salt);
    for (number, page) in (0u64..).zip(content.chunks(PAGE_BYTES)) {
        let mut page = page.to_vec();
        page.resize(PAGE_BYTES, 0);
        let sealed = key.seal_in_place_append_tag(nonce(number), Aad::empty(), &mut page);
        sealed.map_err(|_unspecified| IndexError::Cipher)?;
        bytes.extend_from_slice(&page);
    }
    let check = sha256(&bytes);
    bytes.extend_from_slice(&check);
    Ok(bytes)
}

impl Pages {
    /// An index file; its length and beginning must be those of one.
    pub(super) fn open(file: File, index_key: &[u8; 32]) -> Result<Self, IndexError> {
        let length = file.metadata().map_err(IndexError::Io)?.len();
        let count =
            page_count(length).ok_or(IndexError::Damaged("its length is not that of an index"))?;
        let mut clear = [0; CLEAR_BYTES];
        file.read_exact_at(&mut clear, 0).map_err(IndexError::Io)?;
        let salt = clear.strip_prefix(MAGIC).and_then(|salt| salt.try_into().ok());
        let salt = salt.ok_or(IndexError::Damaged("it does not begin like an index"))?;
        let key = page_key(index_key, &salt).ok_or(IndexError::Cipher)?;
        Ok(Self { file, key, count })
    }

    /// `length` bytes of content from `at` on.
    pub(super) fn read(&self, at: usize, length: usize) -> Result<Vec<u8>, IndexError> {
        const OUTSIDE: IndexError = IndexError::Damaged("it points outside of itself");
        let (first, skip) = (at / PAGE_BYTES, at % PAGE_BYTES);
        let pages = skip.checked_add(length).ok_or(OUTSIDE)?.div_ceil(PAGE_BYTES);
        let end = u64::try_from(first.saturating_add(pages)).unwrap_or(u64::MAX);
        if pages > READ_PAGES_MAX || end > self.count {
            return Err(OUTSIDE);
        }
        let mut bytes = vec![0; pages * SEALED_BYTES];
        let offset = u64::try_from(CLEAR_BYTES + first * SEALED_BYTES).unwrap_or(u64::MAX);
        self.file.read_exact_at(&mut bytes, offset).map_err(IndexError::Io)?;
        let mut content = Vec::with_capacity(pages * PAGE_BYTES);
        for (number, page) in (first..).zip(bytes.chunks_mut(SEALED_BYTES)) {
            let number = u64::try_from(number).unwrap_or(u64::MAX);
            let page = self.key.open_in_place(nonce(number), Aad::empty(), page);
            let page = page
                .map_err(|_unspecified| IndexError::Damaged("a page is not as it was written"))?;
            content.extend_from_slice(page);
        }
        content.drain(..skip);
        content.truncate(length);
        Ok(content)
    }
}

/// Whether the file is whole, as everybody can tell without a key.
pub(super) fn is_whole(file: &File) -> std::io::Result<bool> {
    let length = file.metadata()?.len();
    let Some(pages) = page_count(length) else { return Ok(false) };
    let mut context = Context::new(&SHA256);
    let mut clear = [0; CLEAR_BYTES];
    file.read_exact_at(&mut clear, 0)?;
    context.update(&clear);
    let mut page = [0; SEALED_BYTES];
    let mut at = u64::try_from(CLEAR_BYTES).unwrap_or(u64::MAX);
    for _ in 0..pages {
        file.read_exact_at(&mut page, at)?;
        context.update(&page);
        at += u64::try_from(SEALED_BYTES).unwrap_or(u64::MAX);
    }
    let mut check: Hash = [0; HASH_BYTES];
    file.read_exact_at(&mut check, at)?;
    Ok(clear.starts_with(MAGIC) && context.finish().as_ref() == check)
}

fn page_count(length: u64) -> Option<u64> {
    let around = u64::try_from(CLEAR_BYTES + HASH_BYTES).ok()?;
    let sealed = u64::try_from(SEALED_BYTES).ok()?;
    let pages = length.checked_sub(around)?;
    (pages > 0 && pages.is_multiple_of(sealed)).then_some(pages / sealed)
}

fn page_key(index_key: &[u8; 32], salt: &Salt) -> Option<LessSafeKey> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, index_key);
    let mut context = hmac::Context::with_key(&key);
    context.update(b"pages");
    context.update(salt);
    let key = UnboundKey::new(&AES_256_GCM, context.sign().as_ref()).ok()?;
    Some(LessSafeKey::new(key))
}

fn nonce(page: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce.iter_mut().skip(4).zip(page.to_be_bytes()).for_each(|(to, from)| *to = from);
    Nonce::assume_unique_for_key(nonce)
}
