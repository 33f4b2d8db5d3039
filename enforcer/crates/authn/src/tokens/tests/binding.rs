//! What is looked at with every request: whose hands a token is in, and whether it was taken back.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use enforcer_model::{Author, Expiry};
use http::{HeaderMap, HeaderValue};

use super::*;
use crate::{NewRevocation, RevocationStore, TokenTarget};

const ISSUER: &str = "https://idp.example.com";

/// How a token is sent.
#[derive(Clone, Copy)]
struct Sent<'a> {
    scheme: &'a str,
    proof: Option<&'a str>,
    certificate: Option<&'a Arc<Certificate>>,
}

const PLAIN: Sent<'static> = Sent { scheme: "Bearer", proof: None, certificate: None };

#[tokio::test]
async fn a_token_of_a_certificate_is_good_with_that_certificate_only() {
    let signer = Signer::new("k1");
    let tokens = start([pinned(&signer)]);
    let (ours, other) = (certificate(7), certificate(8));
    let thumbprint = URL_SAFE_NO_PAD.encode(ours.thumbprint.0);
    let token = bound(&signer, &json!({ "x5t#S256": thumbprint }));

    let held = Sent { certificate: Some(&ours), ..PLAIN };
    let identity = send(&tokens, &token, held).await.unwrap();
    assert_eq!(identity.bound(), Some(Binding::Certificate));
    assert_eq!(identity.certificate(), Some(&*ours));
    for sent in [
        PLAIN,
        Sent { certificate: Some(&other), ..PLAIN },
        Sent { scheme: "DPoP", certificate: Some(&ours), ..PLAIN },
    ] {
        assert_eq!(send(&tokens, &token, sent).await.unwrap_err(), Reason::TokenBinding);
    }
}

#[tokio::test]
async fn a_token_of_a_key_is_good_with_a_fresh_proof_only() {
    let (signer, holder, thief) = (Signer::new("k1"), Signer::new("h"), Signer::new("t"));
    let tokens = start([pinned(&signer)]);
    let token = bound(&signer, &json!({ "jkt": holder.thumbprint() }));
    let made = now().wall.unix_seconds();
    let proof = holder.proof(&token, "one", made);
    let stolen = thief.proof(&token, "two", made);
    let elsewhere = holder.proof("another.token.x", "three", made);
    let with = |scheme, proof| Sent { scheme, proof, ..PLAIN };

    for sent in [
        PLAIN,
        with("Bearer", Some(&*proof)),
        with("DPoP", None),
        with("DPoP", Some(&*stolen)),
        with("DPoP", Some(&*elsewhere)),
        with("DPoP", Some("nonsense")),
    ] {
        assert_eq!(send(&tokens, &token, sent).await.unwrap_err(), Reason::TokenBinding);
    }
    let good = with("DPoP", Some(&*proof));
    assert_eq!(send(&tokens, &token, good).await.unwrap().bound(), Some(Binding::Dpop));
    assert_eq!(send(&tokens, &token, good).await.unwrap_err(), Reason::ProofReplayed);
}

#[tokio::test]
async fn a_token_that_anybody_could_use_is_taken_only_where_the_policy_says_so() {
    let signer = Signer::new("k1");
    let token = signer.token(&claims(ISSUER));
    let lenient = start([pinned(&signer)]);
    let strict = start([IssuerPlan { unbound: Unbound::Refused, ..pinned(&signer) }]);
    let as_dpop = Sent { scheme: "DPoP", ..PLAIN };

    assert_eq!(send(&lenient, &token, PLAIN).await.unwrap().bound(), None);
    assert_eq!(send(&lenient, &token, as_dpop).await.unwrap_err(), Reason::TokenBinding);
    assert_eq!(send(&strict, &token, PLAIN).await.unwrap_err(), Reason::TokenUnbound);
}

#[tokio::test]
async fn a_binding_that_the_policy_does_not_take_or_nobody_knows_is_refused() {
    let (signer, holder) = (Signer::new("k1"), Signer::new("h"));
    let ours = certificate(7);
    let thumbprint = URL_SAFE_NO_PAD.encode(ours.thumbprint.0);
    let by_certificate = bound(&signer, &json!({ "x5t#S256": thumbprint }));
    let by_key = bound(&signer, &json!({ "jkt": holder.thumbprint() }));
    let both = json!({ "jkt": holder.thumbprint(), "x5t#S256": thumbprint });
    let unknown = [json!({ "kid": "1" }), json!({ "jwe": "x" }), json!({}), both];
    let only = |bindings| start([IssuerPlan { bindings, ..pinned(&signer) }]);
    let proof = holder.proof(&by_key, "one", now().wall.unix_seconds());
    let held = Sent { certificate: Some(&ours), ..PLAIN };
    let proven = Sent { scheme: "DPoP", proof: Some(&proof), ..held };

    let refused = send(&only(Bindings::Dpop), &by_certificate, held).await;
    assert_eq!(refused.unwrap_err(), Reason::TokenBinding);
    let refused = send(&only(Bindings::Mtls), &by_key, proven).await;
    assert_eq!(refused.unwrap_err(), Reason::TokenBinding);
    let tokens = only(Bindings::Either);
    for cnf in unknown {
        let token = bound(&signer, &cnf);
        for sent in [PLAIN, held, proven] {
            let refused = send(&tokens, &token, sent).await.unwrap_err();
            assert_eq!(refused, Reason::TokenBinding, "{cnf}");
        }
    }
}

#[tokio::test]
async fn a_token_does_not_belong_into_the_header_for_keys() {
    let signer = Signer::new("k1");
    let tokens = start([pinned(&signer)]);
    let mut headers = HeaderMap::new();
    let token = signer.token(&claims(ISSUER));
    headers.insert("x-api-key", HeaderValue::from_str(&token).unwrap());
    let presented = Presented::from_headers(&headers).unwrap().unwrap();

    let asked = Asked { request: REQUEST, certificate: None };
    let refused = tokens.identify(&presented, &asked, now()).await.unwrap_err();

    assert_eq!(refused.reason, Reason::TokenMalformed);
}

#[tokio::test]
async fn what_is_taken_back_is_refused_from_the_next_request_on_and_restored_as_well() {
    let signer = Signer::new("k1");
    let folder = tempfile::tempdir().unwrap();
    let mut store = RevocationStore::open(&folder.path().join("revocations.db")).unwrap();
    let tokens = start_with([pinned(&signer)], store.index());
    let issued = now().wall;
    let token = signer.token(&claims(ISSUER));
    let thumbprint = certificate(7).thumbprint;
    for target in [
        TokenTarget::Token("t-1".into()),
        TokenTarget::Subject("alice".into()),
        TokenTarget::Key("k1".into()),
        TokenTarget::Client("app".into()),
        TokenTarget::IssuedBefore(issued.saturating_add(Duration::from_secs(1))),
        TokenTarget::Certificate(thumbprint),
    ] {
        let held = certificate(7);
        let sent = Sent { certificate: Some(&held), ..PLAIN };
        let identity = send(&tokens, &token, sent).await.unwrap();

        let new = NewRevocation {
            target: target.clone(),
            issuer: None,
            until: Expiry::Never,
            author: Author::Agent,
            reason: "test".to_owned(),
        };
        let revocation = store.revoke(new, now().wall).unwrap();

        assert!(revocation.hits(&identity), "{target}");
        let refused = send(&tokens, &token, sent).await.unwrap_err();
        let expected = match target {
            TokenTarget::Certificate(_) => Reason::CertificateRevoked,
            TokenTarget::Client(_)
            | TokenTarget::IssuedBefore(_)
            | TokenTarget::Key(_)
            | TokenTarget::Subject(_)
            | TokenTarget::Token(_) => Reason::TokenRevoked,
        };
        assert_eq!(refused, expected, "{target}");
        store.restore(revocation.id, now().wall).unwrap();
        send(&tokens, &token, sent).await.unwrap();
    }
}

fn bound(signer: &Signer, cnf: &Value) -> String {
    signer.token(&claims_with(ISSUER, &json!({ "cnf": cnf })))
}

async fn send(tokens: &Tokens, token: &str, sent: Sent<'_>) -> Result<Identity, Reason> {
    let mut headers = HeaderMap::new();
    let value = format!("{} {token}", sent.scheme);
    headers.insert("authorization", HeaderValue::from_str(&value).unwrap());
    if let Some(proof) = sent.proof {
        headers.insert("dpop", HeaderValue::from_str(proof).unwrap());
    }
    let presented = Presented::from_headers(&headers).unwrap().unwrap();
    let asked = Asked { request: REQUEST, certificate: sent.certificate };
    tokens.identify(&presented, &asked, now()).await.map_err(|refused| refused.reason)
}
