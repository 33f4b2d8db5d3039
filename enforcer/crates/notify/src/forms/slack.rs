//! Slack's incoming webhooks: a line of text for notifications, and blocks to read.
//!
//! `&`, `<` and `>` are Slack's marks, so that a client's words could ring everybody's bell with
//! `<!channel>`; they are escaped in every text. An escape counts with its full length, and is never
//! cut in two.

use serde_json::{Value, json};

use super::{counts, left_out};
use crate::{Bundle, Notice, Severity};

/// Characters in a header.
const HEADER_MAX: usize = 150;
/// Characters in the text beside the blocks.
const TEXT_MAX: usize = 3_000;
/// Characters of one notice: ten of them stay below what a message may have.
const SECTION_MAX: usize = 1_000;
/// Notices in blocks of their own.
const SECTIONS_MAX: usize = 10;

/// The payload.
pub(crate) fn body(bundle: &Bundle, host: &str) -> Vec<u8> {
    let title = bundle.title();
    let mark = match bundle.severity {
        Severity::Critical => ":rotating_light:",
        Severity::Error => ":red_circle:",
        Severity::Warning => ":large_orange_circle:",
        Severity::Info => ":information_source:",
    };
    let header = format!("{mark} {}", escaped(&title, HEADER_MAX - mark.len() - 1));
    let mut blocks =
        vec![json!({ "type": "header", "text": { "type": "plain_text", "text": header } })];
    if let Some(digest) = &bundle.digest {
        let lines = [
            ("Kinds", counts(&digest.kinds)),
            ("Rules", counts(&digest.rules)),
            ("About", counts(&digest.about)),
        ];
        let told = lines.into_iter().filter(|(_, counts)| !counts.is_empty());
        blocks.extend(told.map(|(what, counts)| {
            section(&format!("*{what}:* {}", escaped(&counts, SECTION_MAX - 20)))
        }));
    }
    let shown = if bundle.digest.is_some() { 3 } else { SECTIONS_MAX };
    let skipped = bundle.notices.len().saturating_sub(shown);
    blocks.extend(bundle.notices.iter().skip(skipped).map(|notice| section(&told(notice))));
    let mut footer = vec![format!("{} on {}", bundle.severity, escaped(host, 200))];
    footer.extend(left_out(bundle));
    blocks.push(json!({
        "type": "context",
        "elements": [{ "type": "mrkdwn", "text": footer.join(" · ") }],
    }));
    json!({
        "text": escaped(&format!("[{}] {title}", bundle.severity), TEXT_MAX),
        "blocks": blocks,
        "unfurl_links": false,
        "unfurl_media": false,
    })
    .to_string()
    .into_bytes()
}

fn section(text: &str) -> Value {
    json!({ "type": "section", "text": { "type": "mrkdwn", "text": text } })
}

fn told(notice: &Notice) -> String {
    let mut lines = vec![format!("*{}*", escaped(notice.title(), 300))];
    if !notice.text().is_empty() {
        lines.push(escaped(notice.text(), 400));
    }
    let named = [
        ("about", notice.about()),
        ("incident", notice.incident()),
        ("decision", notice.decision()),
        ("rule", notice.rule()),
    ];
    let named = named.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let facts = notice.facts().iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let words: Vec<_> =
        named.chain(facts).map(|(name, value)| format!("{name}: {value}")).collect();
    if !words.is_empty() {
        lines.push(escaped(&words.join(" · "), SECTION_MAX - 400 - 300 - 10));
    }
    lines.join("\n")
}

/// `text` with Slack's marks escaped, of at most `most` characters.
fn escaped(text: &str, most: usize) -> String {
    let mut kept = String::new();
    let mut room = most.saturating_sub(1);
    for c in text.chars() {
        let mut buffer = [0; 4];
        let (word, length) = match c {
            '&' => ("&amp;", 5),
            '<' => ("&lt;", 4),
            '>' => ("&gt;", 4),
            other => (&*other.encode_utf8(&mut buffer), 1),
        };
        if length > room {
            kept.push('…');
            break;
        }
        room -= length;
        kept.push_str(word);
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Kind;
    use crate::forms::tests::{at, bundle, digest, notice};

    fn parsed(bundle: &Bundle) -> Value {
        serde_json::from_slice(&body(bundle, "edge-1")).unwrap()
    }

    #[test]
    fn a_message_has_a_text_and_blocks_and_marks_are_escaped() {
        let message = parsed(&bundle(vec![notice()]));

        assert_eq!(message["text"], "[error] 60 objects &lt;script&gt; &amp; more");
        let blocks = message["blocks"].as_array().unwrap();
        assert_eq!(blocks[0]["type"], "header");
        assert_eq!(blocks[0]["text"]["type"], "plain_text");
        let section = blocks[1]["text"]["text"].as_str().unwrap();
        assert!(section.contains("about: source:192.0.2.7"), "{section}");
        assert!(section.contains("incident: INC-0042"), "{section}");
        let footer = blocks.last().unwrap()["elements"][0]["text"].as_str().unwrap();
        assert!(footer.contains("3 earlier notices were dropped"), "{footer}");
    }

    #[test]
    fn a_digest_counts_and_shows_the_gravest() {
        let message = parsed(&digest(57));

        assert_eq!(message["text"], "[warning] 57 notices: 57 finding");
        let blocks = message["blocks"].as_array().unwrap();
        assert!(blocks[2]["text"]["text"].as_str().unwrap().contains("57 stuffing"));
        assert_eq!(blocks.len(), 1 + 3 + 3 + 1);
    }

    proptest! {
        #[test]
        fn nothing_a_client_says_breaks_out_or_makes_a_message_too_long(
            words in "[<>&!@a\u{1f4a5}`*\n]{0,2200}", count in 1_usize..40,
        ) {
            let hostile = Notice::new(Kind::Finding, Severity::Error, at(0), &words)
                .with_text(&words)
                .with_about(&words)
                .with_fact(&words, &words);
            let message = parsed(&bundle(vec![hostile; count]));

            let blocks = message["blocks"].as_array().unwrap();
            prop_assert!(blocks.len() <= 50);
            let mut all = 0;
            for block in blocks {
                let text = block["text"]["text"].as_str();
                let text = text.or_else(|| block["elements"][0]["text"].as_str()).unwrap();
                let longest = if block["type"] == "header" { 150 } else { 3_000 };
                prop_assert!(!text.is_empty() && text.chars().count() <= longest);
                prop_assert!(!text.contains('<') && !text.contains('>'));
                let entities = text.matches("&amp;").count()
                    + text.matches("&lt;").count()
                    + text.matches("&gt;").count();
                prop_assert_eq!(text.matches('&').count(), entities);
                all += text.chars().count();
            }
            prop_assert!(all < 13_000, "{}", all);
        }
    }
}
