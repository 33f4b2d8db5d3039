//! A path, the one that is made of it, and the query behind it: one meaning each, or none.

use enforcer_inspect::{OptOut, OptOuts, Path, Rewrite, fold, query_values};

/// Lines of five: a path, what is cut off it, what is put in front, a query, and a key of it.
///
/// What is accepted as a path has one meaning: no decoder finds a dot segment, an empty segment, a
/// separator or another escape in it. With opt-outs it is accepted for just what it needs, and no
/// decoder, however often it decodes, finds a dot segment, a control byte or something else than
/// text. A path that is written anew has one meaning as well, ends in bytes of the old one, and is
/// cut at the border of a segment. A key of a query that is read stands there once, in one spelling.
pub fn path(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let (path, cut, front, query, name) = (line(), line(), line(), line(), line());
    for text in [path, cut, front] {
        if text.parse::<Path>().is_ok() {
            one_meaning(text);
        }
        exact(text);
    }
    if let (Ok(path), Ok(rewrite)) = (path.parse::<Path>(), Rewrite::new(cut, front)) {
        rewritten(&path, &rewrite, cut, front);
    }
    // Another query is refused with the head that it came in.
    if !name.is_empty() && query.bytes().all(|byte| byte.is_ascii_graphic()) {
        read(query, name);
    }
}

/// Asserts that an accepted `path` cannot be read in two ways, and that folding keeps it.
pub(super) fn one_meaning(path: &str) {
    assert!(path.len() <= Path::MAX && path.bytes().all(|byte| byte.is_ascii_graphic()));
    let decoded = decoded_segments(path);
    let folded = fold(path);
    assert_eq!(fold(&folded), folded, "folding is not done with one fold");
    let trimmed = path.strip_suffix('/').filter(|shorter| !shorter.is_empty()).unwrap_or(path);
    assert_eq!(decoded_segments(&folded), decoded_segments(trimmed), "folding changed the path");
    for segment in &decoded {
        let text = std::str::from_utf8(segment);
        assert!(text.is_ok(), "{path} is not UTF-8");
        assert!(!matches!(text, Ok("." | "..")), "{path} climbs");
        let cuts = |byte: &u8| matches!(byte, 0..=31 | b'/' | b'\\' | b';' | b'?' | b'#' | 127);
        assert!(!segment.iter().any(cuts), "{path} has other segments once it is decoded");
        assert_eq!(&decode(segment), segment, "{path} is decoded twice");
    }
    let (_last, inner) = decoded.split_last().expect("a path begins with a slash");
    assert!(!inner.iter().any(Vec::is_empty), "{path} has an empty segment");
}

fn exact(text: &str) {
    let all: OptOuts = OptOut::ALL.iter().copied().collect();
    let Ok(path) = Path::exact(text, all) else {
        assert!(text.parse::<Path>().is_err(), "{text} is canonical, and no route may have it");
        return;
    };
    assert_eq!(path.as_str(), text, "the path was repaired");
    let needs = path.needs();
    assert_eq!(needs.is_empty(), text.parse::<Path>().is_ok(), "{text} needs {needs:?}");
    assert_eq!(Path::exact(text, needs).as_ref(), Ok(&path));
    for one in needs.iter() {
        let less: OptOuts = OptOut::ALL.iter().copied().filter(|other| *other != one).collect();
        assert!(Path::exact(text, less).is_err(), "{text} without {one:?}");
    }
    let mut read = text.as_bytes().to_vec();
    // Each decoder in a row makes the text shorter, or is the last.
    for _ in 0..text.len() {
        harmless(&read, text);
        let again = decode(&read);
        if again == read {
            break;
        }
        read = again;
    }
    harmless(&read, text);
}

fn harmless(read: &[u8], text: &str) {
    assert!(std::str::from_utf8(read).is_ok(), "{text} is not UTF-8");
    assert!(!read.iter().any(u8::is_ascii_control), "{text} has a control byte");
    for name in read.split(|byte| matches!(byte, b'/' | b'\\')) {
        let name = name.split(|byte| *byte == b';').next().unwrap_or_default();
        assert!(!matches!(name, b"." | b".."), "{text} climbs");
    }
}

fn rewritten(path: &Path, rewrite: &Rewrite, cut: &str, front: &str) {
    let segments = |path: &str| -> Vec<String> {
        let folded = fold(path).into_owned();
        folded.split('/').filter(|one| !one.is_empty()).map(str::to_owned).collect()
    };
    let (old, cut, front) = (segments(path.as_str()), segments(cut), segments(front));
    let rest = old.strip_prefix(cut.as_slice());
    let Ok(new) = path.rewritten(rewrite) else {
        let fits = path.as_str().len() < Path::MAX / 2;
        assert!(rest.is_none() || !fits, "{path} begins with what is cut off");
        return;
    };
    one_meaning(new.as_str());
    let rest = rest.expect("nothing is cut off that is not there");
    assert_eq!(segments(new.as_str()), [&front, rest].concat(), "{path} became {new}");
    let kept: Vec<&str> = path.as_str().rsplit('/').take(rest.len()).collect();
    let stays: Vec<&str> = new.as_str().rsplit('/').take(rest.len()).collect();
    assert_eq!(kept, stays, "what is left of {path} was written anew");
}

fn read(query: &str, name: &str) {
    let names = [name];
    let Ok(values) = query_values(Some(query), &names) else { return };
    let parts: Vec<&str> = query.split(['&', ';']).collect();
    let is_meant = |part: &&&str| {
        let key = part.split('=').next().unwrap_or_default();
        lenient(key) == lenient(name)
    };
    let meant: Vec<&&str> = parts.iter().filter(is_meant).collect();
    match (values.as_slice(), meant.as_slice()) {
        ([], []) => {}
        ([(key, value)], [part]) => {
            let (written, text) = part.split_once('=').unwrap_or((part, ""));
            assert_eq!((&**key, form(written)), (name, name.as_bytes().to_vec()));
            assert_eq!(value.as_bytes(), form(text), "{query}");
            assert!(!value.chars().any(char::is_control), "{query}");
        }
        _ => panic!("{query} says {meant:?} of {name}, and was read as {values:?}"),
    }
}

/// A key as a framework may read it that is in the mood for it.
fn lenient(key: &str) -> Vec<u8> {
    let key = form(key);
    let key = key.split(|byte| *byte == 0).next().unwrap_or_default().trim_ascii();
    let bracket = key.iter().skip(1).position(|byte| *byte == b'[').map(|at| at + 1);
    let key = key.get(..bracket.unwrap_or(key.len())).unwrap_or_default();
    let plain = |byte: &u8| match byte {
        b'-' | b'.' | b' ' | b'[' => b'_',
        byte => byte.to_ascii_lowercase(),
    };
    key.iter().map(plain).collect()
}

/// As a form is decoded: escapes, and blanks for plus signs.
fn form(text: &str) -> Vec<u8> {
    let blanks: Vec<u8> = text.bytes().map(|b| if b == b'+' { b' ' } else { b }).collect();
    decode_bytes(&blanks, false)
}

/// What stands between the slashes, decoded once. The path begins with a slash.
fn decoded_segments(path: &str) -> Vec<Vec<u8>> {
    path.split('/').skip(1).map(|segment| decode(segment.as_bytes())).collect()
}

/// Decodes `%41` and, as some servers do, `%u0041`; leaves alone what is no escape.
fn decode(text: &[u8]) -> Vec<u8> {
    decode_bytes(text, true)
}

fn decode_bytes(text: &[u8], unicode: bool) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = text;
    while let [first, behind @ ..] = rest {
        rest = match behind {
            [high, low, behind @ ..] if *first == b'%' && hex(&[*high, *low]).is_some() => {
                decoded.extend(hex(&[*high, *low]).and_then(|code| u8::try_from(code).ok()));
                behind
            }
            [b'u' | b'U', a, b, c, d, behind @ ..]
                if unicode && *first == b'%' && hex(&[*a, *b, *c, *d]).is_some() =>
            {
                let letter = hex(&[*a, *b, *c, *d]).and_then(char::from_u32).unwrap_or('\u{FFFD}');
                decoded.extend(letter.to_string().bytes());
                behind
            }
            _ => {
                decoded.push(*first);
                behind
            }
        };
    }
    decoded
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |code, digit| Some(code << 4 | char::from(*digit).to_digit(16)?))
}
