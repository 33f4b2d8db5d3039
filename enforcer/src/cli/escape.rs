//! Words of clients, operators and policies, made fit for a terminal.

/// `text` on one line, without anything that moves the cursor, breaks the line, separates columns,
/// colours, or turns the direction of reading around.
pub(crate) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() || is_steering(letter) {
            safe.extend(letter.escape_default());
        } else {
            safe.push(letter);
        }
    }
    safe
}

/// The same for a text of many lines: its own line ends and tabs stay.
pub(crate) fn escaped_lines(text: &str) -> String {
    let line = |line: &str| line.split('\t').map(escaped).collect::<Vec<_>>().join("\t");
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The same for a JSON document, where such letters stand inside strings only.
pub(crate) fn escaped_json(document: &str) -> String {
    let mut safe = String::with_capacity(document.len());
    for letter in document.chars() {
        if letter != '\n' && (letter.is_control() || is_steering(letter)) {
            safe.push_str(&format!("\\u{:04x}", u32::from(letter)));
        } else {
            safe.push(letter);
        }
    }
    safe
}

/// Marks, embeddings, overrides and isolates of direction (UAX #9); separators of lines and
/// paragraphs.
fn is_steering(letter: char) -> bool {
    matches!(letter,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_is_left() {
        assert_eq!(escaped("a\u{1b}[31mb\nc\td\r\u{9b}e"), "a\\u{1b}[31mb\\nc\\td\\r\\u{9b}e");
        assert_eq!(escaped("user\u{202e}toor"), "user\\u{202e}toor");
        assert_eq!(escaped("größer als 3 €"), "größer als 3 €");
    }

    #[test]
    fn an_escaped_document_is_the_same_document() {
        let words = "\u{9b}31m \u{7f} \u{202e} ü \u{1b}\n\t";
        let document = serde_json::to_string_pretty(&[words]).unwrap();

        let safe = escaped_json(&document);

        assert!(!safe.chars().any(|c| c != '\n' && (c.is_control() || c == '\u{202e}')), "{safe}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&safe).unwrap(), [words]);
    }

    #[test]
    fn a_text_of_many_lines_keeps_its_lines_and_tabs() {
        assert_eq!(escaped_lines("a\n\tb\u{7}\n\nc\n"), "a\n\tb\\u{7}\n\nc");
    }
}
