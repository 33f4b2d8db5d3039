//! One test for each known attack on JWT verifiers (RFC 8725, and what befell others).

use super::*;

fn es256() -> (Signer, KeySet) {
    let signer = Signer::new(Algorithm::Es256);
    let keys = signer.keys();
    (signer, keys)
}

fn refused(header: &str, claims: &str) -> JwtError {
    let (signer, keys) = es256();
    verify(&signer.token(header, claims), &keys).unwrap_err()
}

fn with_header(members: &str) -> JwtError {
    refused(&format!("{},{members}", header(Algorithm::Es256)), CLAIMS)
}

#[test]
fn the_token_that_the_attacks_start_from_is_good() {
    let (signer, keys) = es256();

    assert!(verify(&signer.token(&header(Algorithm::Es256), CLAIMS), &keys).is_ok());
}

#[test]
fn algorithm_none_is_refused_however_it_is_written() {
    let (signer, keys) = es256();
    for none in ["none", "None", "NONE", "nOnE", "none ", "", "null", "\\u006eone"] {
        let header = format!(r#""typ":"at+jwt","alg":"{none}","kid":"k1""#);
        let signed = signer.token(&header, CLAIMS);
        let unsigned = signed.rsplit_once('.').unwrap().0;
        for token in [&signed, &format!("{unsigned}."), unsigned] {
            assert!(verify(token, &keys).is_err(), "{none}: {token}");
        }
    }
    for missing in [r#""typ":"at+jwt","kid":"k1""#, r#""alg":null,"typ":"at+jwt","kid":"k1""#] {
        assert_eq!(refused(missing, CLAIMS), JwtError::Header("alg"));
    }
}

#[test]
fn a_public_key_is_never_a_secret() {
    for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
        let issuer = Signer::new(algorithm);
        for known in [issuer.jwk.as_bytes(), format!("{{{}}}", issuer.jwk).as_bytes()] {
            let token = Signer::secret(known).token(&header(Algorithm::Hs256), CLAIMS);

            let refused = verify(&token, &issuer.keys()).unwrap_err();
            assert_eq!(refused, JwtError::AlgorithmOfKey(Algorithm::Hs256));
        }
    }
}

#[test]
fn a_key_is_for_one_family_of_algorithms() {
    let rs256 = Signer::new(Algorithm::Rs256);
    let document = format!(r#"{{"keys":[{{"kid":"k1","alg":"RS256",{}}}]}}"#, rs256.jwk);
    let keys = KeySet::parse(document.as_bytes()).unwrap();

    for other in Algorithm::ALL {
        let verified = verify(&rs256.token(&header(other), CLAIMS), &keys);
        let expected = (other != Algorithm::Rs256).then_some(JwtError::AlgorithmOfKey(other));
        assert_eq!(verified.err(), expected, "{other}");
    }
}

#[test]
fn an_algorithm_that_the_policy_does_not_name_is_refused() {
    let (signer, keys) = es256();
    let token = signer.token(&header(Algorithm::Es256), CLAIMS);
    let parsed = Parsed::parse(token.as_bytes()).unwrap();
    let name = Arc::from("corp");
    let audience = [Arc::from(AUDIENCE)];
    let expect = Expect {
        name: &name,
        issuer: ISSUER,
        audience: &audience,
        algorithms: Algorithms::only(Algorithm::Rs256),
        kind: Kind::AccessToken,
        leeway: Duration::ZERO,
    };

    assert!(keys.find(parsed.header()).is_ok());
    let refused = parsed.check(&expect, NOW).unwrap_err();

    assert_eq!(refused, JwtError::AlgorithmNotAllowed(Algorithm::Es256));
}

#[test]
fn a_key_in_the_token_is_not_a_key() {
    let attacker = Signer::new(Algorithm::Es256);
    let (_, keys) = es256();
    let header = format!("{},\"jwk\":{{{}}}", header(Algorithm::Es256), attacker.jwk);

    let refused = verify(&attacker.token(&header, CLAIMS), &keys).unwrap_err();

    assert_eq!(refused, JwtError::HeaderForbidden("jwk"));
}

#[test]
fn a_place_to_fetch_a_key_from_is_refused_and_not_fetched() {
    for name in ["jku", "x5u"] {
        let refused = with_header(&format!(r#""{name}":"https://evil.example/keys""#));
        assert_eq!(refused, JwtError::HeaderForbidden(name));
    }
    assert_eq!(with_header(r#""x5c":["MII"]"#), JwtError::HeaderForbidden("x5c"));
}

#[test]
fn a_key_id_is_a_name_and_nothing_else() {
    let (signer, keys) = es256();
    for kid in [
        "../../../../dev/null",
        "/etc/passwd",
        "k1' OR '1'='1",
        "k1\\u0000",
        "K1",
        "k1 ",
        "https://evil.example/keys",
        "; rm -rf /",
        "\\u212a1",
    ] {
        let header = format!(r#""typ":"at+jwt","alg":"ES256","kid":"{kid}""#);
        let refused = verify(&signer.token(&header, CLAIMS), &keys).unwrap_err();
        assert_eq!(refused, JwtError::KeyUnknown, "{kid}");
    }
    for wrong in ["1", "null", "[\"k1\"]", "{}", "\"\""] {
        let header = format!(r#""typ":"at+jwt","alg":"ES256","kid":{wrong}"#);
        let refused = verify(&signer.token(&header, CLAIMS), &keys).unwrap_err();
        assert_eq!(refused, JwtError::Header("kid"), "{wrong}");
    }
}

#[test]
fn every_critical_extension_is_refused() {
    for crit in [r#"["exp"]"#, r#"["b64"]"#, "[]", "null", "\"exp\"", r#"["unknown"]"#] {
        assert_eq!(with_header(&format!(r#""crit":{crit}"#)), JwtError::HeaderForbidden("crit"));
    }
    assert_eq!(with_header(r#""b64":false"#), JwtError::HeaderForbidden("b64"));
    assert_eq!(with_header(r#""zip":"DEF""#), JwtError::HeaderForbidden("zip"));
    assert_eq!(with_header(r#""enc":"A256GCM""#), JwtError::HeaderForbidden("enc"));
}

#[test]
fn a_member_that_stands_there_twice_is_refused() {
    let twice_in_header = with_header(r#""alg":"ES256""#);
    let escaped = with_header(r#""\u0061lg":"none""#);
    let good = header(Algorithm::Es256);
    let twice_in_payload = refused(&good, &format!(r#"{CLAIMS},"sub":"bob""#));
    let twice_inside = refused(&good, &format!(r#"{CLAIMS},"x":{{"a":1,"a":2}}"#));

    for (error, in_part) in [
        (twice_in_header, Part::Header),
        (escaped, Part::Header),
        (twice_in_payload, Part::Payload),
        (twice_inside, Part::Payload),
    ] {
        let JwtError::Json { part, source } = error else { panic!("{error:?}") };
        assert_eq!((part, source.problem), (in_part, JsonProblem::Duplicate));
    }
}

#[test]
fn a_token_over_eight_kilobytes_is_not_even_decoded() {
    let (signer, keys) = es256();
    let padded = |length: usize| {
        let claims = format!(r#"{CLAIMS},"pad":"{}""#, "x".repeat(length));
        signer.token(&header(Algorithm::Es256), &claims)
    };
    let fits = (5_000..6_000).map(padded).find(|token| token.len() >= Parsed::LENGTH_MAX - 1);

    assert!(verify(&fits.unwrap(), &keys).is_ok());
    let long = padded(6_000);
    assert_eq!(verify(&long, &keys).err(), Some(JwtError::TooLong { found: long.len() }));
    let dots = ".".repeat(1 << 20);
    assert_eq!(verify(&dots, &keys).err(), Some(JwtError::TooLong { found: 1 << 20 }));
}

#[test]
fn blanks_padding_and_trailing_bytes_are_refused_in_every_part() {
    let (signer, keys) = es256();
    let token = signer.token(&header(Algorithm::Es256), CLAIMS);
    let parts: Vec<&str> = token.split('.').collect();
    for junk in [" ", "\n", "\r\n", "\t", "=", "==", "+", "/", "\0", "%20", "\u{e9}", "?", ","] {
        for part in 0..3 {
            for changed in [format!("{}{junk}", parts[part]), format!("{junk}{}", parts[part])] {
                let mut parts: Vec<&str> = parts.clone();
                parts[part] = &changed;
                let token = parts.join(".");
                assert!(verify(&token, &keys).is_err(), "{junk:?} in part {part}");
            }
        }
    }
    for trailing in [".", "..", ".e30", "~", " x"] {
        assert!(verify(&format!("{token}{trailing}"), &keys).is_err(), "{trailing}");
    }
}

#[test]
fn spare_bits_at_the_end_of_a_part_make_no_second_form_of_a_token() {
    let (signer, keys) = es256();
    let token = signer.token(&header(Algorithm::Es256), CLAIMS);
    let (rest, last) = token.split_at(token.len() - 1);
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let accepted: Vec<char> =
        alphabet.chars().filter(|other| verify(&format!("{rest}{other}"), &keys).is_ok()).collect();

    assert_eq!(accepted, [last.chars().next().unwrap()]);
}

#[test]
fn a_token_with_fewer_or_more_parts_is_none() {
    let (signer, keys) = es256();
    let token = signer.token(&header(Algorithm::Es256), CLAIMS);
    let parts: Vec<&str> = token.split('.').collect();
    for broken in [
        String::new(),
        parts[0].to_owned(),
        format!("{}.{}", parts[0], parts[1]),
        format!("{}.{}.{}.{}", parts[0], parts[1], parts[2], parts[2]),
        format!("{}.{}.{}.a.b", parts[0], parts[1], parts[2]),
    ] {
        assert_eq!(verify(&broken, &keys).err(), Some(JwtError::Parts), "{broken}");
    }
    for hollow in [
        "..".to_owned(),
        format!(".{}.{}", parts[1], parts[2]),
        format!("{}..{}", parts[0], parts[2]),
        format!("{}.{}.", parts[0], parts[1]),
    ] {
        assert!(verify(&hollow, &keys).is_err(), "{hollow}");
    }
}

#[test]
fn the_json_serialisation_is_no_token() {
    let (signer, keys) = es256();
    let token = signer.token(&header(Algorithm::Es256), CLAIMS);
    let parts: Vec<&str> = token.split('.').collect();
    let flattened = format!(
        r#"{{"protected":"{}","payload":"{}","signature":"{}"}}"#,
        parts[0], parts[1], parts[2]
    );

    assert_eq!(verify(&flattened, &keys).err(), Some(JwtError::Parts));
}

#[test]
fn a_token_inside_a_token_is_refused() {
    for cty in ["JWT", "jwt", "application/jwt"] {
        assert_eq!(with_header(&format!(r#""cty":"{cty}""#)), JwtError::Nested);
    }
    let (signer, keys) = es256();
    let inner = signer.token(&header(Algorithm::Es256), CLAIMS);
    let outer = signer.token_of(&format!("{{{}}}", header(Algorithm::Es256)), inner);
    assert!(matches!(verify(&outer, &keys), Err(JwtError::Json { part: Part::Payload, .. })));
}

#[test]
fn a_psychic_signature_is_wrong() {
    for (algorithm, length) in
        [(Algorithm::Es256, 64), (Algorithm::Es384, 96), (Algorithm::EdDsa, 64)]
    {
        let signer = Signer::new(algorithm);
        let token = signer.token(&header(algorithm), CLAIMS);
        let signed = token.rsplit_once('.').unwrap().0;
        for byte in [0, 0xff] {
            let forged = format!("{signed}.{}", b64(vec![byte; length]));
            assert_eq!(verify(&forged, &signer.keys()).err(), Some(JwtError::Signature));
        }
    }
}

#[test]
fn an_ecdsa_signature_has_one_fixed_form() {
    let (signer, keys) = es256();
    let token = signer.token(&header(Algorithm::Es256), CLAIMS);
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let (r, s) = signature.split_at(32);
    let mut der = vec![0x30, 0x46, 2, 0x21, 0];
    der.extend(r);
    der.extend([2, 0x21, 0]);
    der.extend(s);
    let longer = [&[0][..], r, &[0], s].concat();
    for other in [der, longer, [&signature[..], &[0]].concat(), signature[..63].to_vec()] {
        let token = format!("{signed}.{}", b64(&other));
        assert_eq!(verify(&token, &keys).err(), Some(JwtError::Signature), "{other:?}");
    }
}

#[test]
fn a_token_of_another_kind_is_no_access_token() {
    let (signer, keys) = es256();
    let as_typ = |typ: &str| signer.token(&format!(r#"{typ}"alg":"ES256","kid":"k1""#), CLAIMS);
    for good in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"] {
        assert!(verify(&as_typ(&format!(r#""typ":"{good}","#)), &keys).is_ok(), "{good}");
    }
    for typ in ["JWT", "dpop+jwt", "logout+jwt", "secevent+jwt", "enforcer-identity+jwt", "at+jwt "]
    {
        let token = as_typ(&format!(r#""typ":"{typ}","#));
        assert_eq!(verify(&token, &keys).err(), Some(JwtError::Type), "{typ}");
    }
    assert_eq!(verify(&as_typ(""), &keys).err(), Some(JwtError::Type));
    for wrong in [r#""typ":1,"#, r#""typ":null,"#, r#""typ":"","#] {
        assert_eq!(verify(&as_typ(wrong), &keys).err(), Some(JwtError::Header("typ")));
    }
}

#[test]
fn an_issuer_without_rfc_9068_can_still_not_pass_off_other_tokens() {
    let (signer, keys) = es256();
    let verify = |typ: &str, claims: &str| {
        let token = signer.token(&format!(r#"{typ}"alg":"ES256","kid":"k1""#), claims);
        verify_as(&token, &keys, Kind::Jwt).map(|_| ())
    };

    for typ in ["", r#""typ":"JWT","#, r#""typ":"at+jwt","#] {
        assert_eq!(verify(typ, CLAIMS), Ok(()), "{typ}");
    }
    for typ in ["dpop+jwt", "logout+jwt", "secevent+jwt"] {
        assert_eq!(verify(&format!(r#""typ":"{typ}","#), CLAIMS), Err(JwtError::Type));
    }
    for id_token in [
        r#""nonce":"n""#,
        r#""at_hash":"x""#,
        r#""c_hash":"x""#,
        r#""htm":"GET""#,
        r#""events":{}"#,
        r#""typ":"ID""#,
        r#""typ":"Refresh""#,
    ] {
        let claims = format!("{CLAIMS},{id_token}");
        assert_eq!(verify(r#""typ":"JWT","#, &claims), Err(JwtError::Type), "{id_token}");
    }
    assert_eq!(verify("", &format!(r#"{CLAIMS},"typ":"Bearer","nonce":"n""#)), Ok(()));
}

#[test]
fn issuers_and_audiences_are_compared_byte_for_byte() {
    let good = header(Algorithm::Es256);
    for issuer in [
        "https://idp.example.com/",
        "https://IDP.example.com",
        "HTTPS://idp.example.com",
        "http://idp.example.com",
        "https://idp.example.com:443",
        "https://idp.example.com.",
        "https://idp.example.com.evil.example",
        "https://idp.example.com@evil.example",
        "https://\u{456}dp.example.com",
        "https://idp.ex\u{430}mple.com",
        "https://idp\u{3002}example.com",
        "https://idp.example.com\u{200b}",
        "https://idp.example.com\\u0000",
    ] {
        let refused = refused(&good, &claims_with("iss", &format!("\"{issuer}\"")));
        assert_eq!(refused, JwtError::Issuer, "{issuer}");
    }
    for audience in ["https://api.example.com/", "https://API.example.com", "https://", ""] {
        let refused = refused(&good, &claims_with("aud", &format!("\"{audience}\"")));
        assert_eq!(refused, JwtError::Audience, "{audience}");
    }
    // An escape is only another way to write the same bytes.
    let (signer, keys) = es256();
    let token = signer.token(&good, &claims_with("iss", r#""https:\/\/\u0069dp.example.com""#));
    assert!(verify(&token, &keys).is_ok());
}

#[test]
fn a_signature_by_another_key_of_the_same_kind_is_wrong() {
    for algorithm in Algorithm::ALL {
        let ours = Signer::new(algorithm);
        let theirs = match &ours.pair {
            Pair::Secret(_) => Signer::secret(&[8; 32]),
            Pair::Ecdsa(_) | Pair::Ed25519(_) | Pair::Rsa(..) => Signer::new(algorithm),
        };
        let keys = ours.keys();
        let header = header(algorithm);

        assert!(verify(&ours.token(&header, CLAIMS), &keys).is_ok(), "{algorithm}");
        let forged = verify(&theirs.token(&header, CLAIMS), &keys);
        assert_eq!(forged.err(), Some(JwtError::Signature), "{algorithm}");
    }
}

#[test]
fn no_error_repeats_what_the_sender_wrote() {
    let (signer, keys) = es256();
    let marker = "MARKER";
    for (header_text, claims) in [
        (format!(r#""alg":"{marker}""#), CLAIMS.to_owned()),
        (format!(r#"{},"jku":"{marker}""#, header(Algorithm::Es256)), CLAIMS.to_owned()),
        (header(Algorithm::Es256), claims_with("iss", &format!("\"{marker}\""))),
        (header(Algorithm::Es256), claims_with("exp", &format!("\"{marker}\""))),
    ] {
        let refused = verify(&signer.token(&header_text, &claims), &keys).unwrap_err();
        assert!(!format!("{refused} {refused:?}").contains(marker));
    }
    let token = signer.token(&header(Algorithm::Es256), CLAIMS);
    assert!(!format!("{:?}", Parsed::parse(token.as_bytes()).unwrap()).contains("alice"));
}
