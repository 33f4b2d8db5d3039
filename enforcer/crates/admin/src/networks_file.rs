//! Files of networks as people and feeds write them: one address or network a line.
//!
//! `#` and `;` begin a comment, blank lines and spaces around do not count, line ends may be those of
//! Windows. A line may also be JSON, a string or an object with a `network` or `cidr` (Spamhaus DROP
//! comes so), and a whole file may be one JSON list of these; so whatever `enforcer blocks export`
//! writes is read again. Bad lines are all counted and the first ones told, each with what to write;
//! a file with one of them gives nothing.

use std::fmt;

use enforcer_model::{Prefix, PrefixError};
use serde_json::Value;

/// Bad lines that are told; more are only counted.
pub const BAD_TOLD: usize = 20;

/// What becomes of bits that are set behind the prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostBits {
    /// They are a mistake: `10.1.2.3/8` may mean the address or the network.
    Refuse,
    /// The network around is meant.
    Mask,
}

/// A line that names no network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Counted from one.
    pub line: usize,
    /// What is wrong with it, and what to write.
    pub why: String,
}

/// Bad lines of a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{total} {} not a network", if *total == 1 { "line is" } else { "lines are" })]
pub struct BadLines {
    /// The first [`BAD_TOLD`].
    pub first: Vec<BadLine>,
    /// All.
    pub total: usize,
}

/// Collects the networks of a file, line by line.
#[derive(Debug)]
struct Reader {
    host_bits: HostBits,
    networks: Vec<Prefix>,
    first: Vec<BadLine>,
    total: usize,
}

/// The networks in `text`, in its order, duplicates included.
///
/// `seen` is told now and then how many bytes are read.
pub fn read_networks(
    text: &[u8],
    host_bits: HostBits,
    seen: &mut dyn FnMut(usize),
) -> Result<Vec<Prefix>, BadLines> {
    const TOLD_EACH: usize = 16_384;
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut reader = Reader { host_bits, networks: Vec::new(), first: Vec::new(), total: 0 };
    if text.trim_ascii_start().starts_with(b"[") {
        reader.document(text);
    } else {
        let mut bytes = 0;
        for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
            reader.line(at + 1, line);
            bytes += line.len() + 1;
            if at % TOLD_EACH == 0 {
                seen(bytes.min(text.len()));
            }
        }
    }
    seen(text.len());
    if reader.total > 0 {
        return Err(BadLines { first: reader.first, total: reader.total });
    }
    Ok(reader.networks)
}

impl Reader {
    fn line(&mut self, at: usize, line: &[u8]) {
        let line = line.trim_ascii();
        if line.starts_with(b"{") || line.starts_with(b"\"") {
            match serde_json::from_slice(line) {
                Ok(value) => self.value(at, &value),
                Err(error) => self.bad(at, format!("not JSON: {error}")),
            }
            return;
        }
        let end = line.iter().position(|byte| matches!(byte, b'#' | b';')).unwrap_or(line.len());
        let text = line.get(..end).unwrap_or_default().trim_ascii_end();
        if text.is_empty() {
            return;
        }
        match std::str::from_utf8(text) {
            Ok(text) => self.network(at, text),
            Err(_) => self.network(at, &String::from_utf8_lossy(text)),
        }
    }

    /// One JSON list; lines are those where a value ends, as far as that can be told.
    fn document(&mut self, text: &[u8]) {
        match serde_json::from_slice::<Vec<Value>>(text) {
            Ok(values) => {
                for (at, value) in values.iter().enumerate() {
                    self.value(at + 1, value);
                }
            }
            Err(error) => self.bad(error.line(), format!("not a list in JSON: {error}")),
        }
    }

    fn value(&mut self, at: usize, value: &Value) {
        const NAMES: [&str; 4] = ["network", "cidr", "target", "address"];
        let named = |fields: &serde_json::Map<String, Value>| {
            NAMES.iter().find_map(|name| fields.get(*name)?.as_str().map(str::to_owned))
        };
        match value {
            Value::String(text) => self.network(at, text),
            Value::Object(fields) => match named(fields) {
                Some(text) => self.network(at, &text),
                // The last line of such feeds says when they were made.
                None if fields.get("type").and_then(Value::as_str) == Some("metadata") => {}
                None => {
                    self.bad(
                        at,
                        format!("no `network` or `cidr` in {}", brief(&value.to_string())),
                    );
                }
            },
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
                self.bad(at, format!("{} is not a network", brief(&value.to_string())));
            }
        }
    }

    fn network(&mut self, at: usize, text: &str) {
        match text.parse() {
            Ok(network) => self.networks.push(network),
            Err(PrefixError::HostBits { network, .. }) if self.host_bits == HostBits::Mask => {
                self.networks.push(network);
            }
            Err(PrefixError::HostBits { network, .. }) => self.bad(
                at,
                format!("`{}` has host bits set; write `{network}`, or say --mask", brief(text)),
            ),
            Err(PrefixError::Length { length, longest }) => self.bad(
                at,
                format!("`{}`: /{length} is too long; write at most /{longest}", brief(text)),
            ),
            Err(PrefixError::Text(_)) => self.bad(
                at,
                format!(
                    "`{}` is not an address or network; write it as `192.0.2.1` or `192.0.2.0/24`",
                    brief(text)
                ),
            ),
        }
    }

    fn bad(&mut self, line: usize, why: String) {
        self.total += 1;
        if self.first.len() < BAD_TOLD {
            self.first.push(BadLine { line, why });
        }
    }
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.why)
    }
}

/// Text of a stranger's as far as it helps in a message.
fn brief(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut letters = text.chars();
    let shown: String = letters.by_ref().take(SHOWN).collect();
    if letters.next().is_some() { format!("{shown}…") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, BadLines> {
        let networks = read_networks(text.as_bytes(), HostBits::Refuse, &mut |_| ())?;
        Ok(networks.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn comments_blank_lines_and_line_ends_of_windows_do_not_count() {
        let text = "\u{feff}; Spamhaus DROP List\r\n\r\n1.10.16.0/20 ; SBL256894\r\n# more\n\
                    \t2001:db8::/32  # a comment\n203.0.113.7#x\n   \n2001:DB8:0::1\n::ffff:192.0.2.1";

        let networks = read(text).unwrap();

        let expected = ["1.10.16.0/20", "2001:db8::/32", "203.0.113.7", "2001:db8::1", "192.0.2.1"];
        assert_eq!(networks, expected);
    }

    #[test]
    fn json_by_the_line_and_as_one_list_is_read_as_well() {
        let lines = "{\"cidr\":\"1.10.16.0/20\",\"sblid\":\"SBL256894\"}\n\"192.0.2.1\"\n\
                     {\"network\":\"2001:db8::/32\"}\n{\"type\":\"metadata\",\"timestamp\":1}\n";
        let list = "\n[ \"1.10.16.0/20\", \"192.0.2.1\",\n {\"network\": \"2001:db8::/32\"} ]";

        let expected = ["1.10.16.0/20", "192.0.2.1", "2001:db8::/32"];
        assert_eq!(read(lines).unwrap(), expected);
        assert_eq!(read(list).unwrap(), expected);
        assert_eq!(read("[]").unwrap(), [""; 0]);
        for bad in ["[1]", "[null]", "[", "{}", "{\"cidr\":1}", "\"x", "[[\"1.1.1.1\"]]"] {
            assert_eq!(read(bad).unwrap_err().total, 1, "{bad}");
        }
    }

    #[test]
    fn every_bad_line_is_counted_and_the_first_are_told_with_what_to_write() {
        let text = "192.0.2.1\n10.1.2.3/8\nexample.com\n192.0.2.0/33\n192.0.2.1-192.0.2.9\n";

        let bad = read(text).unwrap_err();

        let told: Vec<_> = bad.first.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "2: `10.1.2.3/8` has host bits set; write `10.0.0.0/8`, or say --mask",
                "3: `example.com` is not an address or network; write it as `192.0.2.1` or \
                 `192.0.2.0/24`",
                "4: `192.0.2.0/33`: /33 is too long; write at most /32",
                "5: `192.0.2.1-192.0.2.9` is not an address or network; write it as `192.0.2.1` or \
                 `192.0.2.0/24`",
            ]
        );
        assert_eq!(bad.to_string(), "4 lines are not a network");
        let many = read(&"x\n".repeat(1_000)).unwrap_err();
        assert_eq!((many.first.len(), many.total), (BAD_TOLD, 1_000));
    }

    #[test]
    fn host_bits_are_cleared_when_that_is_asked_for() {
        let networks = read_networks(b"10.1.2.3/8\n2001:db8::1/32", HostBits::Mask, &mut |_| ());

        let networks: Vec<_> = networks.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(networks, ["10.0.0.0/8", "2001:db8::/32"]);
    }

    #[test]
    fn bytes_that_are_no_text_are_bad_only_outside_of_comments() {
        let read = |text: &[u8]| read_networks(text, HostBits::Refuse, &mut |_| ());

        assert_eq!(read(b"192.0.2.1 # f\xfcr alle").unwrap().len(), 1);
        assert_eq!(read(b"192.0.2.\xff").unwrap_err().total, 1);
    }
}
