//! What is spoken, and over what.

use std::convert::Infallible;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use enforcer_model::Reason;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::spawn_local;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use super::server::{Server, Steps, get, local, plan, pools, read_head, request, until};
use crate::connection::Here;
use crate::{Affinity, BodyFailure, Cause, HostPlan, Own, Plan, Protocol, Roots, Target, Tls};

/// Says which version was spoken, and waits first where the path says so.
async fn answer(request: Request<Incoming>) -> Result<Response<Full<bytes::Bytes>>, Infallible> {
    sleep(Duration::from_millis(20)).await;
    let version = format!("{:?} {}", request.version(), request.uri());
    Ok(Response::new(Full::from(version)))
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, version: Version) {
    let io = TokioIo::new(stream);
    if version == Version::HTTP_2 {
        drop(http2::Builder::new(Here).serve_connection(io, service_fn(answer)).await);
    } else {
        drop(http1::Builder::new().serve_connection(io, service_fn(answer)).await);
    }
}

/// An authority and a certificate for 127.0.0.1 or a client that it vouches for, in PEM.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn vouch(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    /// Accepts TLS on a port; asks for certificates of `clients`.
    async fn server(&self, alpn: &[&[u8]], clients: Option<&Self>) -> std::net::SocketAddr {
        let (chain, key) = self.vouch("127.0.0.1");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = rustls::RootCertStore::empty();
                let pem = authority.pem();
                roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
                let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
                    Arc::new(roots),
                    provider,
                );
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let chain = vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = alpn.iter().map(|one| one.to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                spawn_local(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    serve(stream, if is_http2 { Version::HTTP_2 } else { Version::HTTP_11 }).await;
                });
            }
        });
        address
    }
}

fn tls(ca: &str, own: Option<(&str, &str)>) -> Option<Arc<Tls>> {
    let own = own.map(|(chain, key)| Own { chain: chain.as_bytes(), key: key.as_bytes() });
    Some(Arc::new(Tls::new(Roots::Pinned(ca.as_bytes()), None, own).unwrap()))
}

#[tokio::test]
async fn tls_believes_the_pinned_authority_and_nobody_else() {
    local(async {
        let (ours, other) = (Authority::new(), Authority::new());
        let address = ours.server(&[], None).await;
        let good = Plan { tls: tls(&ours.pem(), None), ..plan(vec![address]) };
        let bad = Plan { tls: tls(&other.pem(), None), ..plan(vec![address]) };

        assert_eq!(get(&pools(), &good).await.unwrap(), "HTTP/1.1 /");
        let failure = get(&pools(), &bad).await.unwrap_err();
        assert_eq!(failure.reason(), Reason::UpstreamUnreachable);
        assert!(matches!(failure.cause, Cause::Connect(_)), "{failure:?}");
    })
    .await;
}

#[tokio::test]
async fn an_upstream_that_wants_our_certificate_gets_it() {
    local(async {
        let (servers, clients) = (Authority::new(), Authority::new());
        let address = servers.server(&[], Some(&clients)).await;
        let (chain, key) = clients.vouch("enforcer");
        let with = Plan { tls: tls(&servers.pem(), Some((&chain, &key))), ..plan(vec![address]) };
        let without = Plan { tls: tls(&servers.pem(), None), ..plan(vec![address]) };

        assert_eq!(get(&pools(), &with).await.unwrap(), "HTTP/1.1 /");
        assert!(get(&pools(), &without).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn http2_is_agreed_on_by_tls_and_http1_is_the_way_out() {
    local(async {
        let authority = Authority::new();
        let both = authority.server(&[b"h2", b"http/1.1"], None).await;
        let old = authority.server(&[b"http/1.1"], None).await;
        for (address, spoken) in
            [(both, format!("HTTP/2.0 https://{both}/")), (old, "HTTP/1.1 /".to_owned())]
        {
            let tls = tls(&authority.pem(), None);
            let plan = Plan { tls, protocol: Protocol::Http2, ..plan(vec![address]) };
            let mut asked = request("GET", Steps::none());
            asked.headers_mut().insert("host", address.to_string().parse().unwrap());

            let answer = pools().forward(asked, Affinity::NONE, &plan).await.unwrap();
            let body = answer.response.into_body().collect().await.unwrap().to_bytes();

            assert_eq!(body, spoken);
        }
    })
    .await;
}

#[tokio::test]
async fn many_requests_share_one_connection_of_http2_in_clear_text() {
    local(async {
        let server = Server::start(async |stream, closed| {
            serve(stream, Version::HTTP_2).await;
            closed.set(closed.get() + 1);
        })
        .await;
        let plan = Plan {
            protocol: Protocol::Http2,
            first_byte: Duration::from_secs(5),
            idle: Duration::from_millis(200),
            ..server.plan()
        };
        let pools = pools();

        let asked = (0..50).map(|_| get(&pools, &plan));
        let mut answers = Vec::new();
        for one in futures(asked).await {
            answers.push(one.unwrap());
        }

        assert!(answers.iter().all(|answer| *answer == "HTTP/2.0 http://test/"), "{answers:?}");
        assert_eq!(server.accepted.get(), 1);
        assert_eq!(pools.open_connections("test"), 1);
        until(|| pools.open_connections("test") == 0).await;
        until(|| server.closed.get() == 1).await;
    })
    .await;
}

/// All at once.
async fn futures<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut all: Vec<_> = all.map(Box::pin).collect();
    let mut done: Vec<Option<T>> = all.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (one, done) in all.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(value) = one.as_mut().poll(cx)
            {
                *done = Some(value);
            }
        }
        match done.iter().all(Option::is_some) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[tokio::test]
async fn an_upstream_on_this_host_is_asked_through_its_socket() {
    local(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orders.sock");
        let listener = UnixListener::bind(&path).unwrap();
        spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                spawn_local(serve(stream, Version::HTTP_11));
            }
        });
        let name = format!("unix:{}", path.display());
        let mut plan = plan(vec![]);
        plan.tiers[0].push(HostPlan {
            name: name.as_str().into(),
            target: name.parse::<Target>().unwrap(),
            weight: NonZeroU16::MIN,
        });
        let pools = pools();

        for _ in 0..3 {
            let asked = request("GET", Steps::none());
            let answer = pools.forward(asked, Affinity::NONE, &plan).await.unwrap();
            assert_eq!(*answer.upstream, *name);
            answer.response.into_body().collect().await.unwrap();
        }
        assert_eq!(pools.open_connections("test"), 1);
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_informational_answers_ends_long_before_the_time_is_over() {
    local(async {
        let server = Server::start(async |mut stream, closed| {
            read_head(&mut stream).await;
            let hints = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100);
            while stream.write_all(hints.as_bytes()).await.is_ok() {}
            closed.set(closed.get() + 1);
        })
        .await;
        let plan = Plan { first_byte: Duration::from_secs(60), ..server.plan() };

        let failure = get(&pools(), &plan).await.unwrap_err();

        assert_eq!(failure.reason(), Reason::UpstreamInvalid);
        assert!(matches!(failure.cause, Cause::Flood(_)), "{failure:?}");
        until(|| server.closed.get() == 1).await;
    })
    .await;
}

#[tokio::test]
async fn a_large_answer_is_no_flood() {
    local(async {
        let server = Server::start(async |mut stream, _| {
            read_head(&mut stream).await;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 8 << 20);
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&vec![b'x'; 8 << 20]).await.unwrap();
        })
        .await;

        assert_eq!(get(&pools(), &server.plan()).await.unwrap().len(), 8 << 20);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_drips_slower_than_the_policy_admits_is_broken_off() {
    local(async {
        let server = Server::start(async |mut stream, _| {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n").await.unwrap();
            for _ in 0..100 {
                sleep(Duration::from_secs(1)).await;
                if stream.write_all(b"x").await.is_err() {
                    break;
                }
            }
        })
        .await;
        let plan = Plan {
            between_bytes: Duration::from_secs(30),
            first_byte: Duration::from_secs(30),
            body_rate_min: 10,
            ..server.plan()
        };

        let asked = pools().forward(request("GET", Steps::none()), Affinity::NONE, &plan).await;
        let failure = asked.unwrap().response.into_body().collect().await.unwrap_err();

        assert!(matches!(failure, BodyFailure::Slow(10)), "{failure:?}");
    })
    .await;
}
