//! A client of ours, for what the load programs do not tell: whether every single answer is right, what
//! TLS came to be, and new connections by the thousand.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore,
    StreamOwned,
};

use super::super::super::Samples;
use super::load::Done;
use super::party::Door;
use super::world::{NAME, World, address};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connections that are made side by side.
const WORKERS: usize = 4;

/// What all proxies must come to with the same client, or they are not compared.
const SUITE: CipherSuite = CipherSuite::TLS13_AES_256_GCM_SHA384;

/// A connection with TLS.
pub(super) type Secured = StreamOwned<ClientConnection, TcpStream>;

/// TLS as a client that has never been here: no session is ever resumed.
pub(super) fn tls(world: &World) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(world.certificate.pem().as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// One request, whose answer must have status 200 and a body of so many bytes.
pub(super) fn probe(
    world: &World,
    port: u16,
    door: Door,
    path: &str,
    credential: Option<&str>,
    body: usize,
) -> Result<()> {
    let config = tls(world)?;
    world.work_beside(|| {
        let stream = connect(port)?;
        let request = request(path, credential);
        if door == Door::Tls {
            let mut stream = secure(stream, &config)?;
            ask_once(&mut stream, &request, body)
        } else {
            ask_once(&mut { stream }, &request, body)
        }
    })
}

/// A connection to this port, at once.
pub(super) fn connect(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect(address(port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A full handshake of TLS 1.3 with the cipher suite that all must come to.
pub(super) fn secure(stream: TcpStream, config: &Arc<ClientConfig>) -> Result<Secured> {
    let name = ServerName::try_from(NAME)?;
    let mut stream = StreamOwned::new(ClientConnection::new(Arc::clone(config), name)?, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    let suite = stream.conn.negotiated_cipher_suite().map(|suite| suite.suite());
    ensure!(stream.conn.protocol_version() == Some(ProtocolVersion::TLSv1_3), "not TLS 1.3");
    ensure!(suite == Some(SUITE), "the cipher suite is {suite:?}, and not that of the others");
    ensure!(stream.conn.handshake_kind() == Some(HandshakeKind::Full), "a session was resumed");
    Ok(stream)
}

/// A request after which the connection is closed.
pub(super) fn request(path: &str, credential: Option<&str>) -> String {
    let credential = credential.map(|value| format!("authorization: {value}\r\n"));
    let credential = credential.unwrap_or_default();
    format!("GET {path} HTTP/1.1\r\nhost: {NAME}\r\n{credential}connection: close\r\n\r\n")
}

fn ask_once(stream: &mut (impl Read + Write), request: &str, body: usize) -> Result<()> {
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::with_capacity(body + 1_024);
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        // Some end without saying so in TLS; the length tells whether all is there.
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {}
        Err(error) => return Err(error).context("reading the answer"),
    }
    check(&answer, body)
}

/// Whether this is an answer with status 200 and a body of so many bytes.
pub(super) fn check(answer: &[u8], body: usize) -> Result<()> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").context("no whole head")?;
    let length = answer.len() - end - 4;
    if !answer.starts_with(b"HTTP/1.1 200 ") || length != body {
        let head = answer.get(..end).unwrap_or_default();
        bail!("a body of {length} bytes after {}", String::from_utf8_lossy(head));
    }
    Ok(())
}

/// New connections, each with a full handshake and one request, for so many seconds.
pub(super) fn handshakes(world: &World, port: u16, seconds: u32) -> Result<Done> {
    let config = tls(world)?;
    let request = request("/small", None);
    let begun = Instant::now();
    let until = begun + Duration::from_secs(seconds.into());
    let one = || -> Result<f64> {
        let begun = Instant::now();
        let mut stream = secure(connect(port)?, &config)?;
        ask_once(&mut stream, &request, 1_024)?;
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    };
    let worker = || -> Result<Vec<f64>> {
        let mut times = Vec::new();
        while Instant::now() < until {
            times.push(one()?);
        }
        Ok(times)
    };
    let times = world.work_beside(|| {
        thread::scope(|scope| {
            let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(worker)).collect();
            let mut all = Vec::new();
            for worker in workers {
                all.extend(worker.join().ok().context("a client panicked")??);
            }
            Ok(all)
        })
    })?;
    let requests = u64::try_from(times.len())?;
    let times = Samples::new(times)?;
    let seconds = begun.elapsed().as_secs_f64();
    Ok(Done { requests, seconds, p50: times.median()?, p99: times.percentile(99)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_right_when_its_status_and_its_length_are() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody";

        assert!(check(answer, 4).is_ok());
        assert!(check(answer, 5).is_err());
        assert!(check(b"HTTP/1.1 502 Bad Gateway\r\n\r\nbody", 4).is_err());
        assert!(check(b"HTTP/1.1 200 OK\r\n", 0).is_err());
    }
}
