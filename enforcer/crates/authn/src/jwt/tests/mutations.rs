//! Whatever is changed in a good token or key set, it is refused or means the same.

use proptest::prelude::*;

use super::*;

/// One token for each kind of key, made once.
fn tokens() -> Vec<(String, KeySet)> {
    [Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa, Algorithm::Rs256, Algorithm::Ps256]
        .into_iter()
        .map(|algorithm| {
            let signer = Signer::new(algorithm);
            (signer.token(&header(algorithm), CLAIMS), signer.keys())
        })
        .collect()
}

#[test]
fn a_good_token_with_any_one_byte_changed_is_refused() {
    for (token, keys) in tokens() {
        assert!(verify(&token, &keys).is_ok());
        for at in 0..token.len() {
            for flip in [1, 2, 4, 8, 16, 32] {
                let mut bytes = token.clone().into_bytes();
                bytes[at] ^= flip;
                let changed = String::from_utf8(bytes).unwrap();
                assert!(verify(&changed, &keys).is_err(), "byte {at} of {token}");
            }
        }
    }
}

#[test]
fn a_good_token_that_is_cut_anywhere_is_refused() {
    for (token, keys) in tokens() {
        for length in 0..token.len() {
            let cut: String = token.chars().take(length).collect();
            assert!(verify(&cut, &keys).is_err(), "{length} bytes");
        }
    }
}

#[test]
fn any_two_parts_exchanged_between_tokens_are_refused() {
    let signer = Signer::new(Algorithm::Es256);
    let one = signer.token(&header(Algorithm::Es256), CLAIMS);
    let two = signer.token(&header(Algorithm::Es256), &claims_with("sub", "\"bob\""));
    let (one, two): (Vec<&str>, Vec<&str>) = (one.split('.').collect(), two.split('.').collect());

    for mixed in [[one[0], two[1], one[2]], [one[0], one[1], two[2]], [one[0], one[2], one[1]]] {
        assert!(verify(&mixed.join("."), &signer.keys()).is_err());
    }
}

proptest! {
    #[test]
    fn bytes_of_any_kind_are_no_token(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Parsed::parse(&bytes).is_err());
    }

    #[test]
    fn parts_of_any_json_are_parsed_or_refused(header in ".*", payload in ".*") {
        let token = format!("{}.{}.", b64(header), b64(payload));
        drop(Parsed::parse(token.as_bytes()));
    }

    #[test]
    fn bytes_of_any_kind_are_a_key_set_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        drop(KeySet::parse(&bytes));
    }

    #[test]
    fn a_key_set_with_bytes_replaced_never_accepts_what_it_did_not(
        at in 0_usize..200, byte in any::<u8>()
    ) {
        let signer = Signer::new(Algorithm::Es256);
        let token = signer.token(&header(Algorithm::Es256), CLAIMS);
        let mut document = format!(r#"{{"keys":[{{"kid":"k1",{}}}]}}"#, signer.jwk).into_bytes();
        let at = at % document.len();
        let same = document[at] == byte;
        document[at] = byte;

        if let Ok(keys) = KeySet::parse(&document) {
            // Blanks aside, nothing in this document can change without the key changing.
            prop_assert_eq!(verify(&token, &keys).is_ok(), same);
        }
    }
}
