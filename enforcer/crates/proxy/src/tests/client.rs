//! Clients: one that sends exactly these bytes, and one that speaks HTTP/2.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::authority::Member;

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A request for `api.test` that closes its connection.
pub(super) fn request(line: &str, fields: &[&str]) -> String {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    format!("{line} HTTP/1.1\r\nhost: api.test\r\nconnection: close\r\n{fields}\r\n")
}

/// Sends `bytes` and returns all that comes back until the connection ends.
pub(super) async fn raw(address: SocketAddr, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_ref()).await.unwrap();
    to_end(stream).await
}

/// All that comes until the connection ends, in whatever way.
pub(super) async fn to_end(mut stream: impl AsyncRead + Unpin) -> String {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    let reading = async {
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            answer.extend_from_slice(&buffer[..count]);
        }
    };
    timeout(PATIENCE, reading).await.expect("the connection ends in time");
    String::from_utf8(answer).unwrap()
}

pub(super) fn status_of(answer: &str) -> u16 {
    let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    status.unwrap_or_else(|| panic!("no answer: {answer:?}")).parse().unwrap()
}

pub(super) fn head_of(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().0
}

pub(super) fn body_of(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

pub(super) async fn tls(
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    alpn: &[&str],
    version: &'static SupportedProtocolVersion,
) -> std::io::Result<TlsStream<TcpStream>> {
    connect(address, &settings(certificate, alpn, version, None)).await
}

/// What a client keeps from one connection to the next: tickets above all.
pub(super) fn settings(
    certificate: CertificateDer<'static>,
    alpn: &[&str],
    version: &'static SupportedProtocolVersion,
    member: Option<&Member>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match member {
        None => builder.with_no_client_auth(),
        Some(member) => builder.with_client_auth_cert(member.chain.clone(), member.key()).unwrap(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

pub(super) async fn connect(
    address: SocketAddr,
    settings: &Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await.unwrap();
    TlsConnector::from(Arc::clone(settings)).connect("api.test".try_into().unwrap(), stream).await
}

/// An HTTP/2 connection over TLS 1.3.
#[derive(Clone)]
pub(super) struct Http2(http2::SendRequest<Full<Bytes>>);

impl Http2 {
    pub(super) async fn connect(address: SocketAddr, certificate: CertificateDer<'static>) -> Self {
        let stream = tls(address, certificate, &["h2"], &rustls::version::TLS13).await.unwrap();
        Self::over(stream).await
    }

    pub(super) async fn over(stream: TlsStream<TcpStream>) -> Self {
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    pub(super) async fn send(
        &self,
        line: &str,
        fields: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> hyper::Result<Response<hyper::body::Incoming>> {
        let (method, target) = line.split_once(' ').unwrap();
        let mut request =
            Request::builder().method(method).uri(format!("https://api.test{target}"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        self.0.clone().send_request(request.body(Full::new(body.into())).unwrap()).await
    }

    pub(super) async fn text(&self, line: &str, fields: &[(&str, &str)]) -> (u16, String) {
        let response = self.send(line, fields, "").await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}
