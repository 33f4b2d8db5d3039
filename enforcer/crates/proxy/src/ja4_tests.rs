use proptest::prelude::*;

use super::*;

/// The example of the specification: Chrome with shuffled extensions.
const CHROME_CIPHERS: &[u16] = &[
    0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c,
    0x009d, 0x002f, 0x0035,
];
const CHROME_EXTENSIONS: &[u16] = &[
    0x001b, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005, 0x0023, 0x0012, 0x002b,
    0xff01, 0x000b, 0x000a, 0x0015,
];
const CHROME_SIGNATURES: &[u16] = &[0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601];

#[test]
fn the_example_of_the_specification_has_its_fingerprint() {
    let chrome = Sketch {
        ciphers: CHROME_CIPHERS.to_vec(),
        extensions: CHROME_EXTENSIONS.to_vec(),
        signatures: CHROME_SIGNATURES.to_vec(),
        ..Sketch::default()
    };

    assert_eq!(chrome.fingerprint(), "t13d1516h2_8daaf6152771_e5627efa2ab1");
}

#[test]
fn order_and_grease_make_no_difference_where_clients_shuffle_and_the_order_of_signatures_does() {
    let plain = Sketch {
        ciphers: CHROME_CIPHERS.to_vec(),
        extensions: CHROME_EXTENSIONS.to_vec(),
        signatures: CHROME_SIGNATURES.to_vec(),
        ..Sketch::default()
    };
    let mut shuffled = plain.clone();
    shuffled.ciphers.reverse();
    shuffled.ciphers.insert(0, 0x0a0a);
    shuffled.ciphers.push(0xfafa);
    shuffled.extensions.rotate_left(5);
    shuffled.extensions.insert(3, 0x2a2a);
    shuffled.versions.insert(0, 0x7a7a);
    let mut reordered = plain.clone();
    reordered.signatures.reverse();

    assert_eq!(shuffled.fingerprint(), plain.fingerprint());
    assert_ne!(reordered.fingerprint(), plain.fingerprint());
    // Not GREASE, though it looks a little like it.
    let mut other = plain.clone();
    other.ciphers.push(0x0a1a);
    assert_ne!(other.fingerprint(), plain.fingerprint());
}

#[test]
fn a_client_that_offers_little_has_zeros_for_what_is_missing() {
    let old = Sketch {
        legacy_version: 0x0301,
        ciphers: vec![0x0035],
        extensions: Vec::new(),
        ..Sketch::default()
    };
    let none = Sketch { ciphers: vec![0x0a0a], ..old.clone() };

    let fingerprint = old.fingerprint();
    assert!(fingerprint.starts_with("t10i010000_"), "{fingerprint}");
    assert!(fingerprint.ends_with("_000000000000"), "{fingerprint}");
    assert_eq!(none.fingerprint(), "t10i000000_000000000000_000000000000");
}

#[test]
fn a_protocol_is_named_by_its_ends_or_by_those_of_its_bytes() {
    for (name, expected) in [
        (&b"h2"[..], "h2"),
        (b"http/1.1", "h1"),
        (b"h", "hh"),
        (&[0xab], "ab"),
        (&[0xab, 0xcd], "ad"),
        (&[0x30, 0xab], "3b"),
        (&[0x30, 0x31, 0xab, 0xcd], "3d"),
        (b"01", "01"),
    ] {
        let sketch = Sketch { protocol: name.to_vec(), ..Sketch::default() };
        let fingerprint = sketch.fingerprint();

        assert_eq!(fingerprint.get(8..10), Some(expected), "{name:?}");
    }
}

#[test]
fn more_than_99_of_a_kind_are_99() {
    let many: Vec<u16> = (0..150).map(|n| 0x4000 + n).collect();
    let sketch = Sketch { ciphers: many.clone(), extensions: many, ..Sketch::default() };

    assert!(sketch.fingerprint().starts_with("t12i9999"), "{}", sketch.fingerprint());
}

#[test]
fn a_hello_is_put_together_from_any_number_of_records() {
    let body = Sketch::default().body();
    let message = message(&body);
    for size in [1, 7, 100, message.len()] {
        let records: Vec<u8> = message.chunks(size).flat_map(record).collect();

        assert_eq!(hello(&records), Hello::Whole(body.clone()));
        let with_more = [&records[..], b"\x14\x03\x03\x00\x01\x01"].concat();
        assert_eq!(hello(&with_more), Hello::Whole(body.clone()));
        for cut in 0..records.len() {
            assert_eq!(hello(&records[..cut]), Hello::Unfinished, "{size} {cut}");
        }
    }
}

#[test]
fn what_is_no_hello_has_no_fingerprint_and_is_not_waited_for() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"\x15\x03\x01\x00\x02\x01\x00",
        b"\x16\x02\x01\x00\x02\x01\x00",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
    ] {
        assert_eq!(hello(bytes), Hello::Other, "{bytes:02x?}");
    }
    let body = Sketch::default().body();
    for cut in 0..body.len() {
        // At its very beginning the block of extensions may be left out.
        assert!(ja4(&body[..cut]).is_none() || cut == 43, "{cut}");
    }
    assert_eq!(ja4(&[&body[..], &[0]].concat()), None);
}

proptest! {
    #[test]
    fn any_bytes_have_one_fingerprint_of_the_form_or_none(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let records = record(&message(&bytes));
        prop_assert_eq!(hello(&records), Hello::Whole(bytes.clone()));
        if let Some(text) = ja4(&bytes) {
            prop_assert_eq!(text.len(), 36);
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
        }
    }
}

/// What a client offers.
#[derive(Clone)]
struct Sketch {
    legacy_version: u16,
    versions: Vec<u16>,
    ciphers: Vec<u16>,
    extensions: Vec<u16>,
    signatures: Vec<u16>,
    protocol: Vec<u8>,
}

impl Default for Sketch {
    fn default() -> Self {
        Self {
            legacy_version: 0x0303,
            versions: vec![0x0304, 0x0303],
            ciphers: vec![0x1301, 0x1302],
            extensions: vec![ALPN, SIGNATURE_ALGORITHMS],
            signatures: vec![0x0403],
            protocol: b"h2".to_vec(),
        }
    }
}

impl Sketch {
    fn fingerprint(&self) -> String {
        ja4(&self.body()).unwrap().to_string()
    }

    fn body(&self) -> Vec<u8> {
        let extensions: Vec<u8> = self
            .extensions
            .iter()
            .flat_map(|kind| {
                let said = match *kind {
                    ALPN => {
                        let mut name = vec![u8::try_from(self.protocol.len()).unwrap()];
                        name.extend(&self.protocol);
                        long(&name)
                    }
                    SIGNATURE_ALGORITHMS => long(&bytes_of(&self.signatures)),
                    SUPPORTED_VERSIONS => {
                        let versions = bytes_of(&self.versions);
                        let mut said = vec![u8::try_from(versions.len()).unwrap()];
                        said.extend(versions);
                        said
                    }
                    _ => vec![9, 9, 9],
                };
                [kind.to_be_bytes().to_vec(), long(&said)].concat()
            })
            .collect();
        let mut body = self.legacy_version.to_be_bytes().to_vec();
        body.extend([7; 32]);
        body.push(0);
        body.extend(long(&bytes_of(&self.ciphers)));
        body.extend([1, 0]);
        if !self.extensions.is_empty() {
            body.extend(long(&extensions));
        }
        body
    }
}

fn bytes_of(numbers: &[u16]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn message(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[CLIENT_HELLO], &length[1..], body].concat()
}

fn record(part: &[u8]) -> Vec<u8> {
    [&[HANDSHAKE_RECORD, 3, 1], &long(part)[..]].concat()
}
