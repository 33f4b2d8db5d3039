//! Key sets as issuers, and those who pretend to be, publish them.

use std::fmt::Write;

use super::*;

fn skipped(jwk: &str) -> Option<Skipped> {
    let keys = KeySet::parse(format!(r#"{{"keys":[{jwk}]}}"#).as_bytes()).unwrap();
    assert_eq!(keys.len() + keys.skipped().count(), 1, "{jwk}");
    keys.skipped().next().map(|(_, reason)| reason)
}

#[test]
fn an_entry_that_is_not_for_signatures_is_skipped_and_says_why() {
    let ec = Signer::new(Algorithm::Es256).jwk;
    let okp = Signer::new(Algorithm::EdDsa).jwk;
    for (jwk, reason) in [
        (format!("{{{ec}}}"), None),
        (format!(r#"{{{ec},"use":"sig","key_ops":["verify"],"alg":"ES256"}}"#), None),
        (format!(r#"{{{ec},"x5c":["MII"],"x5t":"a","nonsense":{{}}}}"#), None),
        (format!(r#"{{{okp},"alg":"Ed25519"}}"#), None),
        (format!(r#"{{{okp},"alg":"EdDSA"}}"#), None),
        (format!(r#"{{{ec},"use":"enc"}}"#), Some(Skipped::Use)),
        (format!(r#"{{{ec},"use":["sig"]}}"#), Some(Skipped::Use)),
        (format!(r#"{{{ec},"key_ops":["encrypt"]}}"#), Some(Skipped::Operations)),
        (format!(r#"{{{ec},"key_ops":["verify","encrypt"]}}"#), Some(Skipped::Operations)),
        (format!(r#"{{{ec},"key_ops":["verify","verify"]}}"#), Some(Skipped::Operations)),
        (format!(r#"{{{ec},"key_ops":"verify"}}"#), Some(Skipped::Operations)),
        (format!(r#"{{{ec},"alg":"ES512"}}"#), Some(Skipped::Algorithm)),
        (format!(r#"{{{ec},"alg":"none"}}"#), Some(Skipped::Algorithm)),
        (format!(r#"{{{ec},"alg":"ES384"}}"#), Some(Skipped::AlgorithmOfOtherKey)),
        (format!(r#"{{{ec},"alg":"HS256"}}"#), Some(Skipped::AlgorithmOfOtherKey)),
        (format!(r#"{{{ec},"d":"AA"}}"#), Some(Skipped::Private("d"))),
        (format!(r#"{{{okp},"d":"AA"}}"#), Some(Skipped::Private("d"))),
        (format!(r#"{{{ec},"k":"AA"}}"#), Some(Skipped::Private("k"))),
        (format!(r#"{{{ec},"kid":7}}"#), Some(Skipped::KeyId)),
        (format!(r#"{{{ec},"kid":""}}"#), Some(Skipped::KeyId)),
        (format!(r#"{{{ec},"kid":"{}"}}"#, "k".repeat(257)), Some(Skipped::KeyId)),
        (r#"{"kty":"oct","k":"AAAA"}"#.to_owned(), Some(Skipped::Symmetric)),
        (r#"{"kty":"AKP","alg":"ML-DSA-44","pub":"AA"}"#.to_owned(), Some(Skipped::Type)),
        (r#"{"kty":"OKP","crv":"X25519","x":"AA"}"#.to_owned(), Some(Skipped::Curve)),
        (r#"{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}"#.to_owned(), Some(Skipped::Curve)),
        (r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#.to_owned(), Some(Skipped::Member("x"))),
        (r#"{"kty":"EC","x":"AA","y":"AA"}"#.to_owned(), Some(Skipped::Member("crv"))),
        ("{}".to_owned(), Some(Skipped::Member("kty"))),
        ("7".to_owned(), Some(Skipped::NotAnObject)),
        ("null".to_owned(), Some(Skipped::NotAnObject)),
        (format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{}"}}"#, b64([0; 32])), Some(Skipped::Weak)),
    ] {
        assert_eq!(skipped(&jwk), reason, "{jwk}");
    }
}

#[test]
fn an_rsa_key_has_a_size_and_an_exponent_that_are_worth_it() {
    let rsa = |n: &[u8], e: &[u8]| {
        skipped(&format!(r#"{{"kty":"RSA","n":"{}","e":"{}"}}"#, b64(n), b64(e)))
    };
    // Odd, and no power of 65537 modulo 3.
    let modulus = |bytes: usize, first: u8| {
        let mut modulus = vec![0xc5; bytes];
        modulus[0] = first;
        let sum: usize = modulus.iter().map(|&byte| usize::from(byte)).sum();
        // 256 leaves 1 modulo 3, so the sum of the bytes decides; a multiple of 3 is no power.
        modulus[bytes - 2] -= u8::try_from(sum % 3).unwrap();
        modulus
    };
    let good = modulus(256, 0x80);
    let usual: &[u8] = &[1, 0, 1];

    assert_eq!(rsa(&good, usual), None);
    assert_eq!(rsa(&good, &[3]), None);
    assert_eq!(rsa(&modulus(1024, 0x80), usual), None);
    assert_eq!(rsa(&modulus(256, 0x7f), usual), Some(Skipped::Size), "2047 bits");
    assert_eq!(rsa(&modulus(128, 0x80), usual), Some(Skipped::Size));
    assert_eq!(rsa(&modulus(1025, 0x01), usual), Some(Skipped::Size));
    assert_eq!(rsa(&[&[0], &good[..]].concat(), usual), Some(Skipped::Member("n")));
    let mut even = good.clone();
    even[255] = 2;
    assert_eq!(rsa(&even, usual), Some(Skipped::Member("n")));
    for exponent in [&[1][..], &[2], &[0], &[0, 3], &[1, 0, 0], &[2, 0, 0, 0, 1]] {
        assert_eq!(rsa(&good, exponent), Some(Skipped::Exponent), "{exponent:?}");
    }
    assert_eq!(rsa(&good, &[1, 0, 0, 0, 0, 1]), Some(Skipped::Member("e")));
}

#[test]
fn a_point_that_is_not_on_its_curve_verifies_nothing() {
    let signer = Signer::new(Algorithm::Es256);
    let (before, y) = signer.jwk.rsplit_once(":\"").unwrap();
    let mut point = URL_SAFE_NO_PAD.decode(y.trim_end_matches('"')).unwrap();
    point[31] ^= 1;
    let document = format!(r#"{{"keys":[{{"kid":"k1",{before}:"{}"}}]}}"#, b64(&point));
    let keys = KeySet::parse(document.as_bytes()).unwrap();

    let token = signer.token(&header(Algorithm::Es256), CLAIMS);

    assert_eq!(verify(&token, &keys).err(), Some(JwtError::Signature));
    assert!(verify(&token, &signer.keys()).is_ok());
}

#[test]
fn two_different_keys_of_one_name_are_both_skipped_and_the_others_stay() {
    let (one, two, other) = (
        Signer::new(Algorithm::Es256),
        Signer::new(Algorithm::Es256),
        Signer::new(Algorithm::EdDsa),
    );
    let document = format!(
        r#"{{"keys":[{{"kid":"k1",{}}},{{"kid":"k1",{}}},{{"kid":"k2",{}}},{{"kid":"k1",{}}}]}}"#,
        one.jwk, two.jwk, other.jwk, one.jwk
    );

    let keys = KeySet::parse(document.as_bytes()).unwrap();

    assert_eq!(keys.keys().filter_map(Key::key_id).collect::<Vec<_>>(), ["k2"]);
    let skipped: Vec<_> = keys.skipped().collect();
    assert_eq!(skipped, [("k1", Skipped::Duplicate); 3]);
    let token = one.token(&header(Algorithm::Es256), CLAIMS);
    assert_eq!(verify(&token, &keys).err(), Some(JwtError::KeyUnknown));
}

#[test]
fn the_same_key_twice_is_one_key() {
    let signer = Signer::new(Algorithm::Es256);
    let entry = format!(r#"{{"kid":"k1",{}}}"#, signer.jwk);

    let keys = KeySet::parse(format!(r#"{{"keys":[{entry},{entry}]}}"#).as_bytes()).unwrap();

    assert_eq!((keys.len(), keys.skipped().count()), (1, 0));
    assert!(verify(&signer.token(&header(Algorithm::Es256), CLAIMS), &keys).is_ok());
}

#[test]
fn a_token_without_a_key_id_is_matched_only_where_there_is_one_key() {
    let (one, two) = (Signer::new(Algorithm::Es256), Signer::new(Algorithm::Es256));
    let nameless = format!(r#"{{"keys":[{{{}}}]}}"#, one.jwk);
    let several = format!(r#"{{"keys":[{{"kid":"k1",{}}},{{{}}}]}}"#, one.jwk, two.jwk);
    let nameless = KeySet::parse(nameless.as_bytes()).unwrap();
    let several = KeySet::parse(several.as_bytes()).unwrap();
    let token = one.token(r#""typ":"at+jwt","alg":"ES256""#, CLAIMS);
    let named = one.token(&header(Algorithm::Es256), CLAIMS);

    let facts = verify(&token, &nameless).unwrap();
    let thumbprint = nameless.keys().next().unwrap().thumbprint();
    assert_eq!(facts.key.as_deref(), Some(&*b64(thumbprint)));
    assert!(verify(&token, &one.keys()).is_ok());
    assert_eq!(verify(&token, &several).err(), Some(JwtError::KeyNotNamed));
    assert_eq!(verify(&named, &nameless).err(), Some(JwtError::KeyUnknown));
    // The thumbprint is our name for it, and no name that a token can use.
    let guessed = format!(r#""typ":"at+jwt","alg":"ES256","kid":"{}""#, b64(thumbprint));
    assert_eq!(verify(&one.token(&guessed, CLAIMS), &nameless).err(), Some(JwtError::KeyUnknown));
}

#[test]
fn a_name_that_is_used_again_for_another_key_shows_in_the_thumbprint() {
    let (old, new) = (Signer::new(Algorithm::Es256), Signer::new(Algorithm::Es256));
    let print = |signer: &Signer| signer.keys().keys().next().unwrap().thumbprint();

    assert_eq!(print(&old), print(&old));
    assert_ne!(print(&old), print(&new));
}

#[test]
fn a_thumbprint_is_that_of_rfc_7638() {
    // Section 3.1 of the RFC.
    let jwk = r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}"#;
    let keys = KeySet::parse(format!(r#"{{"keys":[{jwk}]}}"#).as_bytes()).unwrap();

    let thumbprint = keys.keys().next().unwrap().thumbprint();

    assert_eq!(b64(thumbprint), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
}

#[test]
fn a_document_that_is_no_key_set_is_refused_as_a_whole() {
    for document in ["", "[]", "null", "<html>", "{\"keys\":[}", "{\"keys\":[],\"keys\":[]}"] {
        let refused = KeySet::parse(document.as_bytes());
        assert!(matches!(refused, Err(KeySetError::Json(_))), "{document}");
    }
    for document in ["{}", "{\"keys\":{}}", "{\"keys\":null}", "{\"Keys\":[]}"] {
        assert_eq!(KeySet::parse(document.as_bytes()).err(), Some(KeySetError::NoKeys));
    }
    assert!(KeySet::parse(b"{\"keys\":[]}").unwrap().is_empty());
}

#[test]
fn ten_thousand_keys_are_taken_and_more_than_the_bound_are_refused_as_a_whole() {
    let signer = Signer::new(Algorithm::EdDsa);
    let document = |count: u32| {
        let mut document = String::from("{\"keys\":[");
        for number in 0..count {
            let mut x = [0x11; 32];
            x[..4].copy_from_slice(&number.to_be_bytes());
            write!(
                document,
                r#"{{"kty":"OKP","crv":"Ed25519","x":"{}","kid":"other-{number}"}},"#,
                b64(x)
            )
            .unwrap();
        }
        write!(document, r#"{{"kid":"k1",{}}}]}}"#, signer.jwk).unwrap();
        document
    };

    let keys = KeySet::parse(document(10_000).as_bytes()).unwrap();
    assert_eq!(keys.len(), 10_001);
    assert!(verify(&signer.token(&header(Algorithm::EdDsa), CLAIMS), &keys).is_ok());

    let found = KeySet::KEYS_MAX + 1;
    let many = document(u32::try_from(KeySet::KEYS_MAX).unwrap());
    assert_eq!(KeySet::parse(many.as_bytes()).err(), Some(KeySetError::TooMany { found }));
    let long = vec![b' '; KeySet::DOCUMENT_MAX + 1];
    assert!(matches!(KeySet::parse(&long), Err(KeySetError::TooLong { .. })));
    let values = format!("{{\"keys\":[{}0]}}", "0,".repeat(2_000_000));
    assert!(matches!(
        KeySet::parse(values.as_bytes()),
        Err(KeySetError::Json(JsonError { problem: JsonProblem::TooMany, .. }))
    ));
}

#[test]
fn a_secret_is_for_hs256_alone_and_not_too_short() {
    let secret = Signer::secret(&[9; 32]);
    let keys = KeySet::of_secret(&[9; 32]).unwrap();

    assert!(verify(&secret.token(&header(Algorithm::Hs256), CLAIMS), &keys).is_ok());
    let es256 = Signer::new(Algorithm::Es256).token(&header(Algorithm::Es256), CLAIMS);
    assert_eq!(verify(&es256, &keys).err(), Some(JwtError::AlgorithmOfKey(Algorithm::Es256)));
    for length in [0, 31] {
        let refused = KeySet::of_secret(&vec![9; length]).unwrap_err();
        assert_eq!(refused.found, length);
    }
    assert!(!format!("{keys:?}").contains("9, 9"));
}
