//! `[notify.NAME]`: who is told what happens, in which form, and where.

use std::sync::Arc;
use std::time::Duration;

use enforcer_notify::{
    Facility, Form, Kind, Permits, Receiver, Roots, Routing, Scheme, Severity, SigningKey,
    SyslogFormat, Target, Token,
};
use zeroize::Zeroizing;

use super::{Base, HOUR, MILLISECOND, MINUTE, SECOND, issuers};
use crate::codes::{FILE_WRONG, MISSING_KEY, MISSING_PART, TOO_MANY, WRONG_VALUE};
use crate::files;
use crate::grammar::{Fields, Key, Named, Need, PATH, PERMIT, Shape, WORDS};
use crate::problem::Report;

/// Receivers that a policy may have.
const RECEIVERS_MAX: usize = 16;
/// Keys that sign while secrets change.
const KEYS_MAX: usize = 8;
/// What may be allowed beside the public internet.
const PERMITS_MAX: usize = 64;

/// The alert endpoint that `PagerDuty` documents.
const PAGERDUTY: &str = "https://events.pagerduty.com/v2/enqueue";

pub(super) static KEYS: &[Key] = &[
    Key::required(
        "kind",
        Shape::Choice(&["webhook", "slack", "pagerduty", "alertmanager", "syslog"]),
        "What it understands.",
    ),
    Key::optional(
        "url",
        Shape::Text(&WORDS),
        "Where it is: `https://…`; for syslog `udp://`, `tcp://`, `tls://` or `unix:/dev/log`. \
         PagerDuty has one by itself.",
    ),
    Key::optional(
        "url_file",
        Shape::Text(&PATH),
        "File with the URL, where that is a secret, as with Slack.",
    ),
    Key::optional(
        "secret",
        Shape::OneOrMore(&Shape::Text(&PATH)),
        "Files with what messages are signed with: `whsec_…` or `whsk_…`, a line each; every one of \
         them signs, so old and new ones stand side by side while they change. For PagerDuty: the \
         file with the routing key.",
    ),
    Key::optional(
        "token",
        Shape::Text(&PATH),
        "File with the bearer token that an Alertmanager asks for.",
    ),
    Key::with_default(
        "severity",
        Shape::Choice(Severity::WORDS),
        Need::Text("warning"),
        "Nothing that matters less is told.",
    ),
    Key::optional(
        "kinds",
        Shape::List(&Shape::Choice(Kind::WORDS)),
        "Only these kinds are told. Without it: every kind.",
    ),
    Key::with_default(
        "group_wait",
        Shape::Span(Duration::ZERO, HOUR),
        Need::Text("5s"),
        "How long the first notice of an incident, or of a rule about one entity, waits for others.",
    ),
    Key::with_default(
        "group_interval",
        Shape::Span(Duration::ZERO, HOUR.saturating_mul(24)),
        Need::Text("5m"),
        "How long more of the same waits after it was told; what is graver or asks for somebody does not.",
    ),
    Key::with_default(
        "digest",
        Shape::Count(1, 1_000),
        Need::Count(20),
        "More notices than this in a minute are told as one digest a minute.",
    ),
    Key::with_default(
        "resend",
        Shape::Span(SECOND, HOUR),
        Need::Text("1m"),
        "How often an Alertmanager is told again of incidents that go on.",
    ),
    Key::with_default(
        "timeout",
        Shape::Span(MILLISECOND.saturating_mul(100), MINUTE),
        Need::Text("15s"),
        "For one request, from the look-up of the name to the answer.",
    ),
    Key::optional(
        "allow_private",
        Shape::List(&Shape::Text(&PERMIT)),
        "Networks and names of hosts that may be talked to though they are not on the public \
         internet. Without it: none.",
    ),
    Key::optional(
        "ca",
        Shape::Text(&PATH),
        "PEM file with the authorities that vouch for it. Without it: those of the system.",
    ),
    Key::with_default(
        "format",
        Shape::Choice(&["rfc5424", "cef"]),
        Need::Text("rfc5424"),
        "The words of syslog messages.",
    ),
    Key::with_default(
        "facility",
        Shape::Choice(Facility::NAMES),
        Need::Text("local0"),
        "The facility of syslog messages.",
    ),
];

/// The receivers, in the order of the file.
pub(super) fn read(root: Fields<'_>, base: Base<'_>, report: &mut Report) -> Vec<Arc<Receiver>> {
    let entries = root.named("notify");
    if entries.len() > RECEIVERS_MAX {
        let message = format!("{} receivers are more than {RECEIVERS_MAX}", entries.len());
        report.add(&TOO_MANY, root.span_of("notify"), message, "leave some out".to_owned());
        return Vec::new();
    }
    entries.iter().filter_map(|entry| receiver(entry, base, report)).map(Arc::new).collect()
}

fn receiver(entry: &Named<'_>, base: Base<'_>, report: &mut Report) -> Option<Receiver> {
    let fields = entry.fields(KEYS)?;
    let permits = permits(fields, report);
    let roots = roots(fields, base, report);
    let form = form(fields, base, report);
    let permits = permits?;
    if let Some(form) = &form {
        clear(fields, form, &permits, report);
    }
    Some(Receiver {
        name: entry.name.into(),
        form: form?,
        severity: fields.parsed("severity")?,
        kinds: fields.all_parsed("kinds").into_iter().map(|(kind, _)| kind).collect(),
        group_wait: fields.duration("group_wait")?,
        group_interval: fields.duration("group_interval")?,
        digest: usize::try_from(fields.count("digest")?).ok()?,
        timeout: fields.duration("timeout")?,
        permits,
        roots: roots?,
    })
}

fn form(fields: Fields<'_>, base: Base<'_>, report: &mut Report) -> Option<Form> {
    let kind = fields.text("kind")?;
    let usable: &[&str] = match kind {
        "webhook" => &["secret"],
        "pagerduty" => &["secret"],
        "alertmanager" => &["token", "resend"],
        "syslog" => &["format", "facility"],
        _ => &[],
    };
    let special = ["secret", "token", "resend", "format", "facility"];
    for key in special.iter().filter(|key| fields.has(key) && !usable.contains(key)) {
        let message = format!("`{key}` is of no use for {kind}");
        report.add(&MISSING_PART, fields.span_of(key), message, "remove it".to_owned());
    }
    let target = target(fields, kind, base, report);
    match kind {
        "webhook" => {
            let keys = keys(fields, base, report);
            Some(Form::Webhook { target: target?, keys: keys?.into() })
        }
        "slack" => Some(Form::Slack { target: target? }),
        "pagerduty" => {
            let routing_key = routing(fields, base, report);
            Some(Form::PagerDuty { target: target?, routing_key: routing_key? })
        }
        "alertmanager" => {
            let token = token(fields, base, report);
            let resend = fields.duration("resend")?;
            Some(Form::Alertmanager { target: target?, token: token?, resend })
        }
        _ => Some(Form::Syslog {
            target: target?,
            format: match fields.text("format")? {
                "cef" => SyslogFormat::Cef,
                _ => SyslogFormat::Rfc5424,
            },
            facility: Facility::named(fields.text("facility")?)?,
        }),
    }
}

fn target(fields: Fields<'_>, kind: &str, base: Base<'_>, report: &mut Report) -> Option<Target> {
    let parse = |text: &str| match kind {
        "syslog" => Target::syslog(text),
        _ => Target::http(text),
    };
    let (key, text) = match (fields.text("url"), fields.has("url_file")) {
        (Some(_), true) => {
            let message = "`url` and `url_file` are two places of one receiver";
            let hint = "keep one of them".to_owned();
            report.add(&WRONG_VALUE, fields.span_of("url_file"), message, hint);
            return None;
        }
        (Some(text), false) => ("url", Zeroizing::new(text.to_owned())),
        (None, true) => match line(fields, "url_file", base, report)? {
            Some(text) => ("url_file", text),
            // Without files nothing is sent either.
            None => ("url_file", Zeroizing::new(unread(kind).to_owned())),
        },
        (None, false) if kind == "pagerduty" => ("url", Zeroizing::new(PAGERDUTY.to_owned())),
        (None, false) => {
            let message = format!("a receiver of the kind {kind} needs a `url`");
            let hint = "write `url = \"https://…\"`, or `url_file` where it is a secret".to_owned();
            report.add(&MISSING_KEY, fields.span(), message, hint);
            return None;
        }
    };
    match parse(&text) {
        Ok(target) => Some(target),
        Err(error) => {
            let why = error.to_string();
            let (message, hint) =
                why.split_once(": ").unwrap_or((&why, "write `https://host/path`"));
            let what = if key == "url" {
                format!("the url is {message}")
            } else {
                format!("the url in {} is {message}", fields.text(key).unwrap_or_default())
            };
            report.add(&WRONG_VALUE, fields.span_of(key), what, hint.to_owned());
            None
        }
    }
}

/// What stands for a secret URL while no files are read.
fn unread(kind: &str) -> &'static str {
    if kind == "syslog" { "unix:/dev/log" } else { "https://unread.invalid/" }
}

/// Tells when a URL without TLS could only be refused.
fn clear(fields: Fields<'_>, form: &Form, permits: &Permits, report: &mut Report) {
    let target = match form {
        Form::Webhook { target, .. }
        | Form::Slack { target }
        | Form::PagerDuty { target, .. }
        | Form::Alertmanager { target, .. }
        | Form::Syslog { target, .. } => target,
    };
    let is_clear = match target.scheme() {
        Scheme::Http | Scheme::Udp | Scheme::Tcp => true,
        Scheme::Https | Scheme::Tls | Scheme::Unix => false,
    };
    if is_clear && permits.is_empty() {
        let key = if fields.has("url") { "url" } else { "url_file" };
        let message =
            format!("{target} would be told without TLS, and no private address is allowed");
        let hint = format!(
            "write `https://` or `tls://`, or allow it: `allow_private = [\"{}\"]`",
            target.host()
        );
        report.add(&MISSING_PART, fields.span_of(key), message, hint);
    }
}

fn permits(fields: Fields<'_>, report: &mut Report) -> Option<Permits> {
    let mut permits = Permits::default();
    let written = fields.texts("allow_private");
    if written.len() > PERMITS_MAX {
        let message = format!("{} entries are more than {PERMITS_MAX}", written.len());
        report.add(&TOO_MANY, fields.span_of("allow_private"), message, "join networks".to_owned());
        return None;
    }
    for (text, _) in written {
        // What is neither network nor name was told with its form.
        permits.allow(text).ok()?;
    }
    Some(permits)
}

fn roots(fields: Fields<'_>, base: Base<'_>, report: &mut Report) -> Option<Roots> {
    if !fields.has("ca") {
        return Some(Roots::System);
    }
    let Some(pem) = issuers::contents(fields, "ca", issuers::FILE_MAX, base, report)? else {
        return Some(Roots::System);
    };
    match Roots::from_pem(&pem) {
        Ok(roots) => Some(roots),
        Err(error) => {
            let hint = "it begins with `-----BEGIN CERTIFICATE-----`";
            issuers::wrong(fields, "ca", &error.to_string(), hint, report);
            None
        }
    }
}

/// What signs, the first file first.
fn keys(fields: Fields<'_>, base: Base<'_>, report: &mut Report) -> Option<Vec<SigningKey>> {
    if !fields.has("secret") {
        let message = "a webhook without a `secret` could be forged by anybody";
        let hint = "`echo whsec_$(head -c 32 /dev/urandom | base64) > FILE` makes one; write \
                    `secret = \"FILE\"`";
        report.add(&MISSING_KEY, fields.span(), message, hint.to_owned());
        return None;
    }
    let mut keys = Vec::new();
    for (text, span) in fields.texts("secret") {
        if !base.reads_files {
            continue;
        }
        let file = base.resolve(text);
        let code = &crate::codes::FILE_UNREADABLE;
        let found = files::contents(&file, issuers::FILE_MAX, code, span, report)?;
        let found = Zeroizing::new(found);
        files::private(&file, span, report);
        let Ok(lines) = std::str::from_utf8(&found) else {
            let hint = "a line each: `whsec_…` or `whsk_…`".to_owned();
            report.add(&FILE_WRONG, span, format!("{text} cannot be used: it is no text"), hint);
            return None;
        };
        let before = keys.len();
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            match line.parse() {
                Ok(key) => keys.push(key),
                Err(error) => {
                    let message = format!("{text} cannot be used: {error}");
                    let hint = "`echo whsec_$(head -c 32 /dev/urandom | base64) > FILE` makes one";
                    report.add(&FILE_WRONG, span, message, hint.to_owned());
                    return None;
                }
            }
        }
        if keys.len() == before {
            let message = format!("{text} cannot be used: there is no key in it");
            let hint = "a line each: `whsec_…` or `whsk_…`".to_owned();
            report.add(&FILE_WRONG, span, message, hint);
            return None;
        }
    }
    if keys.len() > KEYS_MAX {
        let message = format!("{} keys are more than {KEYS_MAX}", keys.len());
        let hint = "leave out those that nobody verifies with any more".to_owned();
        report.add(&TOO_MANY, fields.span_of("secret"), message, hint);
        return None;
    }
    Some(keys)
}

fn routing(fields: Fields<'_>, base: Base<'_>, report: &mut Report) -> Option<Routing> {
    let files = fields.texts("secret");
    let [_] = &*files else {
        let message = "PagerDuty needs one routing key";
        let hint = "write it to a file, and `secret = \"FILE\"`".to_owned();
        report.add(&MISSING_KEY, fields.span_of("secret"), message, hint);
        return None;
    };
    let file = files.first().map(|(file, _)| *file)?;
    if !base.reads_files {
        return Routing::new("unread");
    }
    let span = fields.span_of("secret");
    let path = base.resolve(file);
    let code = &crate::codes::FILE_UNREADABLE;
    let found = Zeroizing::new(files::contents(&path, issuers::FILE_MAX, code, span, report)?);
    files::private(&path, span, report);
    let key = std::str::from_utf8(&found).ok().and_then(|text| Routing::new(text.trim()));
    if key.is_none() {
        let message = format!("{file} cannot be used: it is no routing key");
        report.add(&FILE_WRONG, span, message, "write the key to it, and nothing else".to_owned());
    }
    key
}

fn token(fields: Fields<'_>, base: Base<'_>, report: &mut Report) -> Option<Option<Token>> {
    if !fields.has("token") {
        return Some(None);
    }
    let Some(text) = line(fields, "token", base, report)? else { return Some(None) };
    let token = Token::new(&text);
    if token.is_none() {
        let hint = "write the token to it, and nothing else";
        issuers::wrong(fields, "token", "it is no token", hint, report);
    }
    token.map(Some)
}

/// The line in the file that `key` names; inner none when no files are read.
fn line(
    fields: Fields<'_>,
    key: &str,
    base: Base<'_>,
    report: &mut Report,
) -> Option<Option<Zeroizing<String>>> {
    let Some(found) = issuers::secret(fields, key, base, report)? else { return Some(None) };
    match std::str::from_utf8(&found) {
        Ok(text) => Some(Some(Zeroizing::new(text.trim().to_owned()))),
        Err(_) => {
            issuers::wrong(fields, key, "it is no text", "write it as text", report);
            None
        }
    }
}
