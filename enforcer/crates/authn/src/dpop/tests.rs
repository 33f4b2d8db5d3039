use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};

use super::*;

const NOW: Timestamp = Timestamp::from_unix_seconds(1_795_000_000);
const TOKEN: &[u8] = b"eyJ0eXAi.the.token";
const TARGET: ProofTarget<'_> = ProofTarget {
    method: "POST",
    scheme: "https",
    authority: "api.example.com",
    path: "/v1/orders",
};

/// A caller with a key of its own.
struct Holder {
    pair: EcdsaKeyPair,
    jwk: String,
    thumbprint: [u8; 32],
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn sha256(bytes: impl AsRef<[u8]>) -> [u8; 32] {
    digest::digest(&digest::SHA256, bytes.as_ref()).as_ref().try_into().unwrap()
}

impl Holder {
    fn new() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
        let point = &pair.public_key().as_ref()[1..];
        let (x, y) = point.split_at(32);
        let jwk = format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, b64(x), b64(y));
        let thumbprint = sha256(&jwk);
        Self { pair, jwk, thumbprint }
    }

    fn header(&self) -> String {
        format!(r#"{{"typ":"dpop+jwt","alg":"ES256","jwk":{}}}"#, self.jwk)
    }

    fn proof_of(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", b64(header), b64(payload));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", b64(signature))
    }

    fn proof(&self, payload: &str) -> String {
        self.proof_of(&self.header(), payload)
    }

    fn prove(&self, proofs: &DpopProofs, proof: &str) -> Result<(), ProofError> {
        proofs.prove(proof.as_bytes(), TOKEN, &TARGET, &self.thumbprint, NOW)
    }
}

/// Good claims, with one of them replaced, or (with an empty value) left out.
fn claims_with(name: &str, value: &str) -> String {
    let ath = format!("\"{}\"", b64(sha256(TOKEN)));
    let good = [
        ("jti", "\"p-1\""),
        ("htm", "\"POST\""),
        ("htu", "\"https://api.example.com/v1/orders\""),
        ("iat", "1795000000"),
        ("ath", &ath),
    ];
    let claims: Vec<String> = good
        .into_iter()
        .map(|(claim, usual)| (claim, if claim == name { value } else { usual }))
        .filter(|(_, value)| !value.is_empty())
        .map(|(claim, value)| format!("\"{claim}\":{value}"))
        .collect();
    format!("{{{}}}", claims.join(","))
}

fn claims() -> String {
    claims_with("", "")
}

fn outcome(name: &str, value: &str) -> Result<(), ProofError> {
    let holder = Holder::new();
    holder.prove(&DpopProofs::new(), &holder.proof(&claims_with(name, value)))
}

#[test]
fn a_proof_is_good_once() {
    let (holder, proofs) = (Holder::new(), DpopProofs::new());
    let proof = holder.proof(&claims());

    assert_eq!(holder.prove(&proofs, &proof), Ok(()));
    assert_eq!(holder.prove(&proofs, &proof), Err(ProofError::Replayed));
    assert_eq!(ProofError::Replayed.reason(), Reason::ProofReplayed);
    // Signed anew, the same id is still the same proof.
    let again = holder.proof(&claims());
    assert_eq!(holder.prove(&proofs, &again), Err(ProofError::Replayed));
    let another = holder.proof(&claims_with("jti", "\"p-2\""));
    assert_eq!(holder.prove(&proofs, &another), Ok(()));
}

#[test]
fn threads_that_use_one_proof_at_once_have_one_success_among_them() {
    let (holder, proofs) = (Holder::new(), DpopProofs::new());
    let proof = holder.proof(&claims());

    let accepted = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| holder.prove(&proofs, &proof).is_ok())).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).filter(|&good| good).count()
    });

    assert_eq!(accepted, 1);
}

#[test]
fn one_caller_cannot_use_up_the_ids_of_another() {
    let (one, another, proofs) = (Holder::new(), Holder::new(), DpopProofs::new());

    assert_eq!(one.prove(&proofs, &one.proof(&claims())), Ok(()));
    assert_eq!(another.prove(&proofs, &another.proof(&claims())), Ok(()));
}

#[test]
fn a_proof_is_remembered_for_as_long_as_it_could_be_accepted() {
    let (holder, proofs) = (Holder::new(), DpopProofs::new());
    let at = |seconds: u64| Timestamp::from_unix_seconds(1_795_000_000 + seconds);
    let prove =
        |proof: &str, now| proofs.prove(proof.as_bytes(), TOKEN, &TARGET, &holder.thumbprint, now);
    // Made 60 s ahead of our clock: good for two minutes.
    let proof = holder.proof(&claims_with("iat", "1795000060"));
    assert_eq!(prove(&proof, NOW), Ok(()));

    for seconds in (0..=120).step_by(5) {
        // Others come and go in between.
        let id = format!("\"other-{seconds}\"");
        let iat = (1_795_000_000 + seconds).to_string();
        let claims = claims_with("jti", &id).replace("1795000000", &iat);
        assert_eq!(prove(&holder.proof(&claims), at(seconds)), Ok(()));
        assert_eq!(prove(&proof, at(seconds)), Err(ProofError::Replayed), "{seconds} s");
    }
    assert!(matches!(prove(&proof, at(121)), Err(ProofError::Time { .. })));
}

#[test]
fn a_full_table_refuses_those_who_share_a_part_and_nobody_else() {
    let proofs = DpopProofs::with_room_for(3);
    let (mut flooder, mut neighbour, mut other) = ([0; 32], [0; 32], [0; 32]);
    flooder[0] = 5;
    neighbour[0] = 5 + 64;
    other[0] = 6;
    for number in 0..3 {
        assert_eq!(proofs.admit(&flooder, &number.to_string(), NOW), Ok(()));
    }

    assert_eq!(proofs.admit(&flooder, "one more", NOW), Err(ProofError::Full));
    assert_eq!(proofs.admit(&neighbour, "a", NOW), Err(ProofError::Full));
    assert_eq!(proofs.admit(&other, "a", NOW), Ok(()));
    assert!(!ProofError::Full.reason().is_refused_credential());
    // What could not be accepted any more makes room.
    let later = NOW.saturating_add(GENERATION);
    assert_eq!(proofs.admit(&flooder, "one more", later), Ok(()));
    assert_eq!(proofs.admit(&flooder, "2", later), Err(ProofError::Replayed));
}

#[test]
fn a_proof_is_for_one_method_address_and_token() {
    assert_eq!(outcome("htm", "\"GET\""), Err(ProofError::Method));
    assert_eq!(outcome("htm", "\"post\""), Err(ProofError::Method));
    for htu in [
        "https://api.example.com/v1/orders/",
        "https://api.example.com/v1/Orders",
        "https://api.example.com/v1",
        "https://api.example.com",
        "https://api.example.com.evil.example/v1/orders",
        "https://api.example.com@evil.example/v1/orders",
        "https://user@api.example.com/v1/orders",
        "http://api.example.com/v1/orders",
        "https://api.example.com:8443/v1/orders",
        "https://api.example.com:80/v1/orders",
        "https://api.example.com/v1/x/../orders",
        "https://api.example.com/v1%2Forders",
        "https:///v1/orders",
        "https:/api.example.com/v1/orders",
        "//api.example.com/v1/orders",
        "/v1/orders",
        "",
    ] {
        assert_eq!(outcome("htu", &format!("\"{htu}\"")), Err(ProofError::Target), "{htu}");
    }
    let ath = format!("\"{}\"", b64(sha256("another token")));
    assert_eq!(outcome("ath", &ath), Err(ProofError::AnotherToken));
}

#[test]
fn an_address_may_be_written_in_any_form_that_means_the_same() {
    for htu in [
        "https://api.example.com/v1/orders?a=1&b=2",
        "https://api.example.com/v1/orders#part",
        "https://api.example.com/v1/orders?a#b?c",
        "HTTPS://API.Example.COM/v1/orders",
        "https://api.example.com:443/v1/orders",
        "https://api.example.com:/v1/orders",
        "https://api.example.com/v1/%6Frder%73",
    ] {
        assert_eq!(outcome("htu", &format!("\"{htu}\"")), Ok(()), "{htu}");
    }
    let root = ProofTarget { path: "/", authority: "API.example.com:8443", ..TARGET };
    assert!(root.is("https://api.example.com:8443"));
    assert!(root.is("https://api.example.com:8443?x"));
    let escaped = ProofTarget { path: "/a%2fb/%e9", ..TARGET };
    assert!(escaped.is("https://api.example.com/a%2Fb/%E9"));
    assert!(!escaped.is("https://api.example.com/a/b/%E9"));
    let plain = ProofTarget { scheme: "http", authority: "127.0.0.1:80", ..TARGET };
    assert!(plain.is("http://127.0.0.1/v1/orders"));
    assert!(!plain.is("http://127.0.0.1:443/v1/orders"));
}

#[test]
fn a_proof_is_good_for_a_minute_to_either_side() {
    for good in ["1794999940", "1795000060", "1795000000.5"] {
        assert_eq!(outcome("iat", good), Ok(()), "{good}");
    }
    for bad in ["1794999939", "1795000061", "1794999939.999", "0"] {
        assert!(matches!(outcome("iat", bad), Err(ProofError::Time { .. })), "{bad}");
    }
    for wrong in ["\"1795000000\"", "null", "-1", "1e400"] {
        let refused = outcome("iat", wrong);
        assert_eq!(refused, Err(ProofError::Malformed(JwtError::Claim("iat"))), "{wrong}");
    }
}

#[test]
fn every_claim_is_needed_in_its_form() {
    for name in ["jti", "htm", "htu", "iat", "ath"] {
        assert_eq!(outcome(name, ""), Err(ProofError::Claim(name)));
    }
    for name in ["htm", "htu", "ath"] {
        assert_eq!(outcome(name, "1"), Err(ProofError::Claim(name)));
    }
    assert_eq!(outcome("jti", "\"\""), Err(ProofError::Claim("jti")));
    let long = format!("\"{}\"", "j".repeat(ID_LENGTH_MAX + 1));
    assert_eq!(outcome("jti", &long), Err(ProofError::Claim("jti")));
}

#[test]
fn a_key_that_the_token_is_not_bound_to_proves_nothing() {
    let (holder, thief) = (Holder::new(), Holder::new());
    let proofs = DpopProofs::new();
    let theirs = thief.proof(&claims());
    let refused = holder.prove(&proofs, &theirs);
    assert_eq!(refused, Err(ProofError::Key));
    // The holder's key in the header, signed with the thief's.
    let forged = thief.proof_of(&holder.header(), &claims());
    assert_eq!(holder.prove(&proofs, &forged), Err(ProofError::Malformed(JwtError::Signature)));
    // What was refused takes nothing from the holder.
    assert_eq!(holder.prove(&proofs, &holder.proof(&claims())), Ok(()));
}

#[test]
fn a_proof_has_its_type_an_asymmetric_algorithm_and_a_public_key() {
    let holder = Holder::new();
    let jwk = &holder.jwk;
    let private = jwk.replace("\"kty\"", "\"d\":\"AA\",\"kty\"");
    let secret = r#"{"kty":"oct","k":"AAAA"}"#;
    for (header, refused) in [
        (format!(r#"{{"alg":"ES256","jwk":{jwk}}}"#), ProofError::Type),
        (format!(r#"{{"typ":"JWT","alg":"ES256","jwk":{jwk}}}"#), ProofError::Type),
        (format!(r#"{{"typ":"at+jwt","alg":"ES256","jwk":{jwk}}}"#), ProofError::Type),
        (format!(r#"{{"typ":"dpop+jwt","alg":"HS256","jwk":{jwk}}}"#), ProofError::Unacceptable),
        (
            format!(r#"{{"typ":"dpop+jwt","alg":"none","jwk":{jwk}}}"#),
            ProofError::Malformed(JwtError::AlgorithmUnknown),
        ),
        (
            format!(r#"{{"typ":"dpop+jwt","alg":"RS256","jwk":{jwk}}}"#),
            ProofError::Malformed(JwtError::AlgorithmOfKey(crate::jwt::Algorithm::Rs256)),
        ),
        (
            format!(r#"{{"typ":"dpop+jwt","alg":"ES256","jwk":{private}}}"#),
            ProofError::Malformed(JwtError::Header("jwk")),
        ),
        (
            format!(r#"{{"typ":"dpop+jwt","alg":"HS256","jwk":{secret}}}"#),
            ProofError::Malformed(JwtError::Header("jwk")),
        ),
        (
            r#"{"typ":"dpop+jwt","alg":"ES256","kid":"k1"}"#.to_owned(),
            ProofError::Malformed(JwtError::Header("jwk")),
        ),
        (
            format!(r#"{{"typ":"dpop+jwt","alg":"ES256","jwk":{jwk},"crit":[]}}"#),
            ProofError::Malformed(JwtError::HeaderForbidden("crit")),
        ),
    ] {
        let proof = holder.proof_of(&header, &claims());
        assert_eq!(holder.prove(&DpopProofs::new(), &proof), Err(refused), "{header}");
    }
    for junk in ["", "..", "a.b.c", &"x".repeat(9000)] {
        let refused = holder.prove(&DpopProofs::new(), junk);
        assert!(matches!(refused, Err(ProofError::Malformed(_))), "{junk}");
    }
}

#[test]
fn an_ed25519_key_proves_as_well_and_an_endless_rsa_key_does_not() {
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
    let jwk = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, b64(pair.public_key()));
    let header = format!(r#"{{"typ":"dpop+jwt","alg":"EdDSA","jwk":{jwk}}}"#);
    let signed = format!("{}.{}", b64(header), b64(claims()));
    let proof = format!("{signed}.{}", b64(pair.sign(signed.as_bytes())));
    let proofs = DpopProofs::new();
    assert_eq!(proofs.prove(proof.as_bytes(), TOKEN, &TARGET, &sha256(jwk), NOW), Ok(()));

    let mut modulus = vec![0xc5; 513];
    modulus[0] = 1;
    // A multiple of 3, so that it does not look like a weak generator's.
    let sum: usize = modulus.iter().map(|&byte| usize::from(byte)).sum();
    modulus[1] -= u8::try_from(sum % 3).unwrap();
    let jwk = format!(r#"{{"e":"AQAB","kty":"RSA","n":"{}"}}"#, b64(modulus));
    let header = format!(r#"{{"typ":"dpop+jwt","alg":"PS256","jwk":{jwk}}}"#);
    let holder = Holder::new();
    let proof = holder.proof_of(&header, &claims());
    assert_eq!(
        proofs.prove(proof.as_bytes(), TOKEN, &TARGET, &sha256(jwk), NOW),
        Err(ProofError::Unacceptable)
    );
}
