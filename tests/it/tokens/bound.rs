//! Tokens that are worth nothing without what they are bound to.

use std::fs;

use enforcer_tests::lab::idp::{DPOP, Holder, Idp, IdpOptions, MTLS, READONLY};
use enforcer_tests::lab::{Answer, Ask, Certificate, Client, Family, Http};
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};

use super::{POLICY, now, reason_of};
use crate::stage::Stage;

const URL: &str = "https://api.test/v1/orders";

/// The lab with a provider that speaks TLS, and two clients with certificates.
struct Bound {
    stage: Stage,
    idp: Idp,
    own: Certificate,
    other: Certificate,
}

impl Bound {
    fn open() -> Self {
        let mut stage = Stage::without_agent("");
        let folder = stage.site.folder().to_owned();
        let certificate = |name: &str| {
            let made = Certificate::for_names(&[name]).unwrap();
            made.write(&folder.join(name)).unwrap();
            made
        };
        certificate("127.0.0.1");
        let (own, other) = (certificate("own"), certificate("other"));
        fs::write(folder.join("tls/ca.pem"), own.pem().to_owned() + other.pem()).unwrap();
        let tls = Some(folder.join("127.0.0.1"));
        let options = IdpOptions { tls, ..IdpOptions::default() };
        let idp = Idp::start(Some(&stage.lab.host), options).unwrap();
        let text =
            POLICY.replace("FROM", "").replace("CLIENTS", ", clients = { ca = \"tls/ca.pem\" }")
                + &format!(
                    "\n[issuer.corp]\nurl = \"{}\"\naudience = [\"https://api.test/es256\"]\n\
                 algs = [\"ES256\"]\nroles = \"claims.roles\"\nca = \"127.0.0.1/cert.pem\"\n",
                    idp.issuer()
                );
        stage.site.write_policy(&text).unwrap();
        stage.start();
        Self { stage, idp, own, other }
    }

    fn client(&self) -> Client {
        self.stage.client(Family::V4)
    }

    /// The status, and the reason of a refusal.
    fn outcome(&self, http: Http, ask: &Ask) -> (u16, String) {
        self.outcome_of(&self.client(), http, ask)
    }

    fn outcome_of(&self, client: &Client, http: Http, ask: &Ask) -> (u16, String) {
        let answer: Answer = client.connect(http).unwrap().ask(ask).unwrap();
        let status = answer.status.as_u16();
        (status, if status == 200 { String::new() } else { reason_of(&self.stage) })
    }
}

fn field(ask: Ask, name: HeaderName, value: &str) -> Ask {
    ask.header(name, HeaderValue::try_from(value).unwrap())
}

fn proven(ask: Ask, scheme: &str, token: &str, proof: &str) -> Ask {
    let ask = field(ask, AUTHORIZATION, &format!("{scheme} {token}"));
    field(ask, HeaderName::from_static("dpop"), proof)
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_token_that_is_bound_to_a_key_is_served_once_for_each_proof_and_never_without() {
    let bound = Bound::open();
    let (holder, thief) = (Holder::new().unwrap(), Holder::new().unwrap());
    let token = bound.idp.dpop_token(DPOP, "es256", &holder).unwrap();
    let other_token = bound.idp.dpop_token(DPOP, "es256", &holder).unwrap();
    let free = bound.idp.token(READONLY, "es256").unwrap();
    let get = || Ask::get("/v1/orders");
    let proof = || holder.proof("GET", URL, Some(&token)).unwrap();
    let refused = |reason: &str| (401, reason.to_owned());
    let served = (200, String::new());

    for http in [Http::One, Http::Two] {
        let outcome = |ask: Ask| bound.outcome(http, &ask);
        let with = |proof: &str| outcome(proven(get(), "DPoP", &token, proof));

        let first = proof();
        assert_eq!(with(&first), served, "{http:?}");
        assert_eq!(with(&first), refused("proof-replayed"), "{http:?}");
        assert_eq!(with(&proof()), served, "{http:?}");
        let strict = Ask::get("/bound/x");
        let there = holder.proof("GET", "https://api.test/bound/x", Some(&token)).unwrap();
        assert_eq!(outcome(proven(strict.clone(), "DPoP", &token, &there)), served);
        assert_eq!(outcome(strict.key(&free)), refused("authentication-too-weak"), "{http:?}");

        assert_eq!(outcome(get().key(&token)), refused("token-binding"), "as plain bearer");
        let bearer = proven(get(), "Bearer", &token, &proof());
        assert_eq!(outcome(bearer), refused("token-binding"), "as bearer with a proof");
        let unbound = proven(get(), "DPoP", &free, &proof());
        assert_eq!(outcome(unbound), refused("token-binding"), "bound to no key");
        for (what, wrong) in [
            ("method", holder.proof("POST", URL, Some(&token))),
            ("path", holder.proof("GET", "https://api.test/v1/other", Some(&token))),
            ("host", holder.proof("GET", "https://other.test/v1/orders", Some(&token))),
            ("scheme", holder.proof("GET", "http://api.test/v1/orders", Some(&token))),
            ("no token", holder.proof("GET", URL, None)),
            ("another token", holder.proof("GET", URL, Some(&other_token))),
            ("key", thief.proof("GET", URL, Some(&token))),
            ("past", holder.proof_of("GET", URL, Some(&token), now() - 600, "past")),
            ("future", holder.proof_of("GET", URL, Some(&token), now() + 600, "future")),
        ] {
            assert_eq!(with(&wrong.unwrap()), refused("token-binding"), "{what} {http:?}");
        }
        let twice =
            field(proven(get(), "DPoP", &token, &proof()), "dpop".parse().unwrap(), &proof());
        assert_eq!(outcome(twice), refused("credential-duplicate"), "{http:?}");
        assert_eq!(outcome(get().key(&free)), served);
    }
    assert_eq!(bound.stage.upstream.requests(), 8);
    let record = bound.stage.records_of("http").remove(0);
    assert_eq!(record["body"]["who"]["bound"], "dpop");

    // Other terms hold for tokens that were checked before.
    let text = fs::read_to_string(bound.stage.site.policy()).unwrap();
    let with =
        |term: &str| bound.stage.apply(&text.replace("ca = \"127", &format!("{term}\nca = \"127")));
    with("require_binding = true");
    assert_eq!(bound.outcome(Http::One, &get().key(&free)), refused("token-unbound"));
    let ask = || proven(get(), "DPoP", &token, &proof());
    assert_eq!(bound.outcome(Http::One, &ask()), served);
    with("bind = \"mtls\"");
    assert_eq!(bound.outcome(Http::One, &ask()), refused("token-binding"));
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn one_proof_that_is_sent_many_times_at_once_is_accepted_once() {
    let bound = Bound::open();
    let holder = Holder::new().unwrap();
    let token = bound.idp.dpop_token(DPOP, "es256", &holder).unwrap();
    let proof = holder.proof("GET", URL, Some(&token)).unwrap();
    let ask = proven(Ask::get("/v1/orders"), "DPoP", &token, &proof);
    // Spread over the cores, as connections are.
    let mut connections: Vec<_> =
        (0..8).map(|_| bound.client().connect(Http::Two).unwrap()).collect();

    let served: usize = std::thread::scope(|scope| {
        let asking: Vec<_> = connections
            .iter_mut()
            .map(|connection| {
                let asks = vec![ask.clone(); 8];
                scope.spawn(move || {
                    let answers = connection.ask_at_once(&asks).unwrap();
                    answers.iter().filter(|one| one.as_ref().unwrap().status == 200).count()
                })
            })
            .collect();
        asking.into_iter().map(|one| one.join().unwrap()).sum()
    });

    assert_eq!((served, bound.stage.upstream.requests()), (1, 1));
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_token_that_is_bound_to_a_certificate_is_served_over_its_connections_only() {
    let bound = Bound::open();
    let folder = bound.stage.site.folder().join("own");
    let token = bound.idp.mtls_token(MTLS, "es256", &folder).unwrap();
    let (holder, plain) = (bound.client().showing(&bound.own), bound.client());
    let thief = bound.client().showing(&bound.other);
    let refused = (401, "token-binding".to_owned());

    for http in [Http::One, Http::Two] {
        for path in ["/v1/orders", "/bound/x"] {
            let ask = Ask::get(path).key(&token);
            assert_eq!(bound.outcome_of(&holder, http, &ask).0, 200, "{http:?} {path}");
            assert_eq!(bound.outcome_of(&plain, http, &ask), refused, "{http:?} {path}");
            assert_eq!(bound.outcome_of(&thief, http, &ask), refused, "{http:?} {path}");
        }
        let proof = Holder::new().unwrap().proof("GET", URL, Some(&token)).unwrap();
        let as_dpop = proven(Ask::get("/v1/orders"), "DPoP", &token, &proof);
        assert_eq!(bound.outcome_of(&holder, http, &as_dpop), refused, "{http:?}");
    }
    assert_eq!(bound.stage.upstream.requests(), 4);
    let record = bound.stage.records_of("http").remove(0);
    assert_eq!(record["body"]["who"]["bound"], "mtls");
}
