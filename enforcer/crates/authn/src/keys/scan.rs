//! Finds keys in whatever bytes there are: logs, dumps, repositories, memory.
//!
//! A finding is certain: the checksum must be right, whatever word the key begins with. Bytes come
//! in pieces of any size, and a key that lies across two pieces is found; of what was read only as
//! much is kept as could be the beginning of a key.

use enforcer_model::KeyId;

use super::plan::KeyPrefix;
use super::record::Environment;
use super::token::Token;

/// Looks for keys in a stream of bytes.
#[derive(Debug)]
pub struct KeyScanner {
    /// The end of what was read: what is not looked at yet, and what could be a prefix before it.
    window: Vec<u8>,
    /// Where in the window to go on.
    next: usize,
    line: u64,
    /// Bytes of the current line before the window's first one; wraps while the line begins inside
    /// the window.
    before: u64,
}

/// A key that was found. Its secret is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundKey {
    /// On which line, from one.
    pub line: u64,
    /// At which byte of the line, from one.
    pub column: u64,
    /// What it begins with.
    pub prefix: KeyPrefix,
    /// Part of its text.
    pub environment: Environment,
    /// Its public half.
    pub id: KeyId,
}

impl KeyScanner {
    /// At the beginning of the first line.
    pub fn new() -> Self {
        Self { window: Vec::new(), next: 0, line: 1, before: 0 }
    }

    /// Looks at the next bytes. The window grows by as much as is given at once.
    pub fn feed(&mut self, bytes: &[u8], found: &mut dyn FnMut(FoundKey)) {
        self.window.extend_from_slice(bytes);
        // What begins later than this could go on behind the end.
        let end = self.window.len().saturating_sub(Token::BEHIND_PREFIX);
        self.look(end, found);
        let gone = self.next.saturating_sub(KeyPrefix::LENGTH_MAX);
        self.window.drain(..gone);
        self.next = self.next.saturating_sub(gone);
        self.before = self.before.wrapping_add(u64::try_from(gone).unwrap_or(u64::MAX));
    }

    /// Looks at what is left once nothing follows.
    pub fn finish(mut self, found: &mut dyn FnMut(FoundKey)) {
        self.look(self.window.len(), found);
    }

    fn look(&mut self, end: usize, found: &mut dyn FnMut(FoundKey)) {
        let Some(bytes) = self.window.get(self.next..end) else { return };
        for (byte, at) in bytes.iter().zip(self.next..) {
            let at_ns = u64::try_from(at).unwrap_or(u64::MAX);
            match byte {
                b'\n' => {
                    self.line = self.line.saturating_add(1);
                    self.before = 0u64.wrapping_sub(at_ns).wrapping_sub(1);
                }
                b'_' => {
                    if let Some((prefix, environment, id)) = key_at(&self.window, at) {
                        let ahead = u64::try_from(prefix.as_bytes().len()).unwrap_or_default();
                        let column = self.before.wrapping_add(at_ns).wrapping_sub(ahead);
                        let column = column.wrapping_add(1);
                        found(FoundKey { line: self.line, column, prefix, environment, id });
                    }
                }
                _ => {}
            }
        }
        self.next = end;
    }
}

impl FoundKey {
    /// The key without its secret.
    pub fn masked(&self) -> String {
        format!("{}_{}_{}_…", self.prefix, self.environment, self.id)
    }
}

impl Default for KeyScanner {
    fn default() -> Self {
        Self::new()
    }
}

/// The key whose prefix ends before byte `at`. Where words run together, the checksum says where it
/// begins.
fn key_at(window: &[u8], at: usize) -> Option<(KeyPrefix, Environment, KeyId)> {
    let behind = window.get(at..at.checked_add(Token::BEHIND_PREFIX)?)?;
    Environment::ALL.into_iter().find(|known| behind.starts_with(known.infix()))?;
    (2..=KeyPrefix::LENGTH_MAX).find_map(|length| {
        let begin = at.checked_sub(length)?;
        let prefix = std::str::from_utf8(window.get(begin..at)?).ok()?.parse().ok()?;
        let text = window.get(begin..at.checked_add(Token::BEHIND_PREFIX)?)?;
        let token = Token::parse_with(text, &[prefix]).ok()?;
        Some((prefix, token.environment(), token.id()))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "enf_live_k7Qx2mP9aB3c_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA4Zt9Pt";

    #[test]
    fn a_key_is_found_with_its_place_and_without_its_secret() {
        let text = format!("first\n\n  token = \"{KEY}\"\nlast {KEY}");

        let found = scan(&[text.as_bytes()]);

        let places: Vec<_> = found.iter().map(|key| (key.line, key.column)).collect();
        assert_eq!(places, [(3, 12), (4, 6)]);
        assert_eq!(found[0].masked(), "enf_live_k7Qx2mP9aB3c_…");
        assert!(!format!("{found:?}").contains("AAAA"));
    }

    #[test]
    fn what_is_nearly_a_key_is_none() {
        for text in [
            KEY.replace("AAAA", "AAAB"),
            KEY.replace("live", "test"),
            KEY.replace("enf", "emf"),
            KEY.get(..70).unwrap().to_owned(),
            KEY.replacen('_', "-", 3),
            KEY.replace("c_A", "c\n_A"),
        ] {
            assert_eq!(scan(&[text.as_bytes()]), [], "{text}");
        }
    }

    #[test]
    fn words_that_run_into_a_key_hide_nothing() {
        for (before, behind) in
            [("key", ""), ("_", "_"), ("x9", "AAAA"), ("\u{e9}", "\0"), ("enf_live_", "9")]
        {
            let text = format!("{before}{KEY}{behind}");

            let found = scan(&[text.as_bytes()]);

            assert_eq!(found.len(), 1, "{text}");
            assert_eq!(usize::try_from(found[0].column).unwrap(), before.len() + 1, "{text}");
        }
    }

    #[test]
    fn little_is_kept_of_a_line_that_does_not_end() {
        let mut scanner = KeyScanner::new();
        let mut count = 0;
        for _ in 0..1_000 {
            scanner.feed(&[b'_'; 4_096], &mut |_| count += 1);
            assert!(scanner.window.len() < 128);
        }
        scanner.feed(KEY.as_bytes(), &mut |_| {});
        scanner.finish(&mut |key| {
            count += 1;
            assert_eq!((key.line, key.column), (1, 4_096_001));
        });
        assert_eq!(count, 1);
    }

    proptest! {
        #[test]
        fn where_the_pieces_end_makes_no_difference(
            noise in "[a-z_\n]{0,200}",
            cuts in proptest::collection::vec(0usize..400, 0..8),
        ) {
            let text = format!("{noise}{KEY}\n{noise}{KEY}{noise}");
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut rest = text.as_bytes();
            let mut gone = 0;
            for cut in cuts {
                let (piece, behind) = rest.split_at(cut.saturating_sub(gone).min(rest.len()));
                gone += piece.len();
                pieces.push(piece);
                rest = behind;
            }
            pieces.push(rest);

            let found = scan(&pieces);

            prop_assert_eq!(found.len(), 2);
            prop_assert_eq!(&found, &scan(&[text.as_bytes()]));
            let lines = noise.matches('\n').count();
            prop_assert_eq!(usize::try_from(found[0].line).unwrap(), lines + 1);
        }

        #[test]
        fn noise_has_no_keys_and_stops_nobody(bytes: Vec<u8>) {
            prop_assert_eq!(scan(&[&bytes]), []);
        }
    }

    fn scan(pieces: &[&[u8]]) -> Vec<FoundKey> {
        let mut found = Vec::new();
        let mut scanner = KeyScanner::new();
        for piece in pieces {
            scanner.feed(piece, &mut |key| found.push(key));
        }
        scanner.finish(&mut |key| found.push(key));
        found
    }
}
