//! What scanners send: what no client sends by accident, lists of paths, addresses of the inside.

use std::io::{Read, Write};

use anyhow::{Context, Result, ensure};

use super::{Ask, Client};

/// Requests that are malformed, each in another way.
pub const MALFORMED: [&str; 6] = [
    "GET /v1/../etc/passwd HTTP/1.1\r\nhost: api.test\r\n\r\n",
    "GET /v1//x HTTP/1.1\r\nhost: api.test\r\n\r\n",
    "GET /v1/%2f HTTP/1.1\r\nhost: api.test\r\n\r\n",
    "GET /v1/%00 HTTP/1.1\r\nhost: api.test\r\n\r\n",
    "GET /v1/%252e HTTP/1.1\r\nhost: api.test\r\n\r\n",
    "TRACE /v1/x HTTP/1.1\r\nhost: api.test\r\n\r\n",
];

/// A request that can be read in two ways, as those who smuggle one inside another send it.
pub const SMUGGLED: &str = "POST /v1/orders HTTP/1.1\r\nhost: api.test\r\ncontent-length: 6\r\n\
                            transfer-encoding: chunked\r\n\r\n0\r\n\r\nG";

/// Where an upstream would have to look to show something of the inside.
pub const INSIDE: [&str; 6] = [
    "/v1/fetch/169.254.169.254/latest/meta-data",
    "/v1/fetch/metadata.google.internal",
    "/v1/fetch/127.0.0.1:8500",
    "/v1/fetch/localhost:6379",
    "/v1/fetch/file:etc",
    "/v1/fetch/gopher:127.0.0.1",
];

/// Requests for so many paths of a list as scanners have them, below `folder`.
pub fn word_list(folder: &str, count: usize) -> impl Iterator<Item = Ask> {
    const WORDS: [&str; 8] =
        ["backup", "old", "wp-admin", "console", "actuator", "swagger", "debug", ".git"];
    let words = WORDS.iter().cycle().enumerate().take(count);
    words.map(move |(number, word)| Ask::get(&format!("{folder}/{word}-x{number}")))
}

/// Sends the bytes of a request on a connection of its own, and reads the status of the answer.
pub fn send_raw(client: &Client, request: &str) -> Result<u16> {
    let mut socket = client.tls_socket(&[b"http/1.1"])?;
    socket.write_all(request.as_bytes())?;
    let mut line = [0; 12];
    socket.read_exact(&mut line).context("reading the answer")?;
    let line = std::str::from_utf8(&line)?;
    ensure!(line.starts_with("HTTP/1.1 "), "the answer is `{line}`");
    line.get(9..).unwrap_or_default().parse().with_context(|| format!("the answer is `{line}`"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_paths_of_a_list_differ() {
        let list: BTreeSet<String> = word_list("/v1", 40).map(|ask| format!("{ask:?}")).collect();

        assert_eq!(list.len(), 40);
    }
}
