//! Syslog by RFC 5424: a header, structured data, and the title for people.
//!
//! Every value is escaped where it stands, and a line end never comes through: one message stays
//! one, whatever a client wrote.

use enforcer_model::Timestamp;

use super::{cef, counts};
use crate::{Bundle, Facility, Notice, Severity, SyslogFormat};

/// Bytes of a message: what every receiver of RFC 5426 should take.
pub(crate) const MESSAGE_MAX: usize = 2_048;
/// The id of our structured data; 32473 is the number set aside for examples (RFC 5612).
const DATA_ID: &str = "enforcer@32473";
/// Bytes of one value.
const VALUE_MAX: usize = 256;

/// The messages, in their order, without framing.
pub(crate) fn messages(
    bundle: &Bundle,
    format: SyslogFormat,
    facility: Facility,
    host: &str,
) -> Vec<Vec<u8>> {
    let host = header_word(host, 255);
    let line = |at: Timestamp, severity: Severity, id: &str, fields: &[Field<'_>], words: &str| {
        let priority = u32::from(facility.number()) * 8 + level(severity);
        let head = format!(
            "<{priority}>1 {at} {host} enforcer {} {} ",
            std::process::id(),
            header_word(id, 32)
        );
        let text = match format {
            SyslogFormat::Rfc5424 => {
                // The mark of UTF-8 (RFC 5424, 6.4).
                format!(
                    "{head}{} \u{feff}{}",
                    data(fields, MESSAGE_MAX - head.len() - 200),
                    one_line(words)
                )
            }
            SyslogFormat::Cef => {
                let room = MESSAGE_MAX - head.len() - 2;
                format!("{head}- {}", cef::event(id, severity, at, &host, fields, words, room))
            }
        };
        cut_bytes(&text, MESSAGE_MAX).as_bytes().to_vec()
    };
    let mut messages = Vec::new();
    if let Some(digest) = &bundle.digest {
        let (kinds, rules, about) =
            (counts(&digest.kinds), counts(&digest.rules), counts(&digest.about));
        let count = bundle.count.to_string();
        let fields =
            [("count", &*count), ("kinds", &*kinds), ("rules", &*rules), ("about", &*about)];
        messages.push(line(bundle.until, bundle.severity, "digest", &fields, &bundle.title()));
    } else {
        messages.extend(bundle.notices.iter().map(|notice| {
            let fields = fields(notice);
            line(notice.at(), notice.severity(), notice.kind().as_str(), &fields, notice.title())
        }));
    }
    for words in super::left_out(bundle) {
        messages.push(line(bundle.until, Severity::Warning, "left-out", &[], &words));
    }
    messages
}

/// A name and its value.
pub(crate) type Field<'a> = (&'a str, &'a str);

fn fields(notice: &Notice) -> Vec<Field<'_>> {
    let named = [
        ("incident", notice.incident()),
        ("decision", notice.decision()),
        ("rule", notice.rule()),
        ("about", notice.about()),
        ("text", Some(notice.text()).filter(|text| !text.is_empty())),
    ];
    let mut fields = vec![("severity", notice.severity().as_str())];
    fields.extend(named.into_iter().filter_map(|(name, value)| Some((name, value?))));
    fields.extend(notice.facts().iter().map(|(name, value)| (name.as_str(), value.as_str())));
    fields
}

/// `[enforcer@32473 name="value" …]`, as many as there is room for.
fn data(fields: &[Field<'_>], room: usize) -> String {
    let mut text = format!("[{DATA_ID}");
    for (name, value) in fields {
        let value: String = one_line(cut_bytes(value, VALUE_MAX))
            .chars()
            .flat_map(|c| {
                // RFC 5424, 6.3.3.
                let escape = matches!(c, '"' | '\\' | ']').then_some('\\');
                escape.into_iter().chain([c])
            })
            .collect();
        let param = format!(" {}=\"{value}\"", param_name(name));
        if text.len() + param.len() + 1 > room {
            break;
        }
        text.push_str(&param);
    }
    text.push(']');
    text
}

/// 32 visible characters at most, without what would end a name.
fn param_name(name: &str) -> String {
    header_word(name, 32).replace(['=', ']', '"'], "_")
}

/// Visible ASCII of at most `most` characters; `-` where nothing is left.
fn header_word(text: &str, most: usize) -> String {
    let word: String =
        text.chars().map(|c| if c.is_ascii_graphic() { c } else { '_' }).take(most).collect();
    if word.is_empty() { "-".to_owned() } else { word }
}

pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// At most `most` bytes, never half a character.
pub(crate) fn cut_bytes(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

const fn level(severity: Severity) -> u32 {
    match severity {
        Severity::Critical => 2,
        Severity::Error => 3,
        Severity::Warning => 4,
        Severity::Info => 6,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Kind;
    use crate::forms::tests::{at, bundle, digest, notice};

    fn local0() -> Facility {
        Facility::named("local0").unwrap()
    }

    fn lines(bundle: &Bundle, format: SyslogFormat) -> Vec<String> {
        let messages = messages(bundle, format, local0(), "edge-1");
        messages.into_iter().map(|message| String::from_utf8(message).unwrap()).collect()
    }

    #[test]
    fn a_message_has_the_header_data_and_words_of_the_standard() {
        let told = lines(&bundle(vec![notice()]), SyslogFormat::Rfc5424);

        let pid = std::process::id();
        assert_eq!(
            told[0],
            format!(
                "<131>1 {} edge-1 enforcer {pid} incident-opened [enforcer@32473 severity=\"error\" \
                 incident=\"INC-0042\" rule=\"bola-enumeration\" about=\"source:192.0.2.7\" \
                 text=\"see `enforcer incident show INC-0042`\" route=\"orders\"] \
                 \u{feff}60 objects <script> & more",
                at(0)
            )
        );
        assert!(told[1].ends_with("3 earlier notices were dropped"));
    }

    #[test]
    fn what_would_end_a_value_is_escaped_and_a_line_end_never_comes_through() {
        let hostile = Notice::new(Kind::Finding, Severity::Critical, at(0), "a\n<0>1 forged")
            .with_fact("k=\"] x", "q\"uote] back\\slash\nline");
        let told = lines(&bundle(vec![hostile]), SyslogFormat::Rfc5424);

        assert!(told[0].contains(r#"k____x="q\"uote\] back\\slash line""#), "{}", told[0]);
        assert!(!told[0].contains('\n'));
        assert!(told[0].starts_with("<130>1 "));
    }

    #[test]
    fn a_digest_is_one_message() {
        let told = lines(&digest(57), SyslogFormat::Rfc5424);

        assert!(
            told[0].contains(" digest [enforcer@32473 count=\"57\" kinds=\"57 finding\""),
            "{}",
            told[0]
        );
        assert_eq!(told.len(), 3);
    }

    proptest! {
        #[test]
        fn whatever_it_tells_a_message_is_one_line_of_bounded_length(
            words in "\\PC{0,300}[\\x00-\\x20\"\\]\\\\=|]{0,50}\\PC{0,1500}", is_cef: bool,
        ) {
            let mut hostile = Notice::new(Kind::Finding, Severity::Error, at(0), &words)
                .with_text(&words).with_about(&words).with_rule(&words);
            for number in 0..16 {
                hostile = hostile.with_fact(&format!("{number}{words}"), &words);
            }
            let format = if is_cef { SyslogFormat::Cef } else { SyslogFormat::Rfc5424 };
            for message in messages(&bundle(vec![hostile]), format, local0(), &words) {
                prop_assert!(message.len() <= MESSAGE_MAX);
                let text = String::from_utf8(message).unwrap();
                prop_assert!(!text.chars().any(char::is_control), "{:?}", text);
            }
        }
    }
}
