//! `enforcer tokens`: revoke, restore, list, inspect.

use std::io::Read;

use clap::{Args, Subcommand};
use enforcer_admin::call::{
    AskedToken, IssuerRow, RevocationRow, TokenInspected, TokenRevoke, TokensListed, TokensRevoked,
};
use enforcer_admin::{Answer, Call};
use enforcer_authn::jwt::Parsed;
use enforcer_authn::{RevocationId, TokenTarget};
use enforcer_model::{Clock, Expiry, SystemClock, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};

use super::quarantine::{Ttl, exact_span, parse_span, parse_ttl};
use super::{Context, Exit, Failure, Table, counted, mismatched, recorded};

/// Tokens of issuers
#[derive(Debug, Subcommand)]
pub(crate) enum Tokens {
    /// Take tokens, or a certificate, back; in force before the command returns
    Revoke(Revoke),
    /// End a revocation
    Restore(Restore),
    /// What is taken back, and how the issuers are
    List(List),
    /// What a token says, and what the agent would say to it
    Inspect(Inspect),
}

/// Take tokens, or a certificate, back; in force before the command returns
#[derive(Args, Debug)]
pub(crate) struct Revoke {
    /// `jti:ID`, `sub:SUBJECT`, `kid:ID`, `client:ID`, `before:TIME` (or `before:now`, `before:2h`
    /// ago) or `cert:SHA256`
    #[arg(value_parser = parse_target)]
    target: TokenTarget,
    /// Only tokens of this issuer, as the policy names it
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// How long: `15m`, `7d`, or `forever`; by default until the token ends, where that is known,
    /// else for ever
    #[arg(long = "for", value_name = "TIME", value_parser = parse_ttl)]
    ttl: Option<Ttl>,
    /// Why; goes on record
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// End a revocation
#[derive(Args, Debug)]
pub(crate) struct Restore {
    /// Such as `R-17`
    id: RevocationId,
    /// Why; goes on record
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// What is taken back, and how the issuers are
#[derive(Args, Debug)]
pub(crate) struct List {}

/// What a token says, and what the agent would say to it
#[derive(Args, Debug)]
pub(crate) struct Inspect {
    /// The token, or `-` to read it from standard input, where no list of processes shows it
    token: String,
}

/// What a token says of itself, and what the agent says of it.
#[derive(Debug, Serialize)]
struct Inspected {
    /// Read and not believed; none for a token that says nothing by itself.
    unverified: Option<Value>,
    /// Why it cannot be read.
    unreadable: Option<String>,
    /// None where the agent could not be asked.
    agent: Option<TokenInspected>,
}

/// Longest token that is read, with room for what a shell adds.
const INPUT_MAX: u64 = 64 * 1024;

impl Tokens {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::Revoke(verb) => verb.execute(context),
            Self::Restore(verb) => verb.execute(context),
            Self::List(List {}) => list(context),
            Self::Inspect(verb) => verb.execute(context),
        }
    }
}

impl Revoke {
    fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let call = Call::TokenRevoke(TokenRevoke {
            target: self.target.to_string(),
            issuer: self.issuer.clone(),
            ttl_seconds: self.ttl.and_then(Ttl::seconds),
            reason: self.reason.clone(),
        });
        let Answer::TokensRevoked(revoked) = context.ask(&call)? else { return Err(mismatched()) };
        context.printer.item(&revoked, &revoked_told(&revoked))?;
        let is_whole = revoked.not_stored.is_none() && revoked.audit.is_some();
        Ok(if is_whole { Exit::Done } else { Exit::PartlyApplied })
    }
}

impl Restore {
    fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let call = Call::TokenRestore { id: self.id.to_string(), reason: self.reason.clone() };
        let Answer::TokensRevoked(ended) = context.ask(&call)? else { return Err(mismatched()) };
        context.printer.item(&ended, &restored_told(&ended, SystemClock.now().wall))?;
        Ok(if ended.audit.is_some() { Exit::Done } else { Exit::PartlyApplied })
    }
}

fn list(context: &Context) -> Result<Exit, Failure> {
    let mut listed = page(context, None)?;
    while let Some(after) = listed.next.take() {
        let more = page(context, Some(after))?;
        listed.revocations.extend(more.revocations);
        listed.next = more.next;
    }
    if context.printer.is_for_programs() {
        context.printer.item(&listed, &[])?;
        return Ok(Exit::Done);
    }
    let header = &["ID", "TARGET", "ISSUER", "SINCE", "UNTIL", "BY", "REASON"];
    let rows = listed.revocations.iter().map(revocation_row).collect();
    context.printer.list(&listed.revocations, &Table { header, rows })?;
    for issuer in &listed.issuers {
        context.printer.say(&issuer_told(issuer));
    }
    Ok(Exit::Done)
}

fn page(context: &Context, after: Option<String>) -> Result<TokensListed, Failure> {
    let Answer::Tokens(listed) = context.ask(&Call::TokenList { after })? else {
        return Err(mismatched());
    };
    Ok(listed)
}

impl Inspect {
    fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let token = self.read()?;
        let is_signed = token.bytes().filter(|&byte| byte == b'.').count() == 2;
        let (unverified, unreadable) = match Parsed::parse(token.as_bytes()) {
            Ok(parsed) => (Some(unverified(&parsed)), None),
            Err(error) if is_signed => (None, Some(super::chain(&error))),
            Err(_) => (None, None),
        };
        // What it says of itself is told even where nobody can say what it is worth.
        let asked = context.ask(&Call::TokenInspect { token: AskedToken(token) });
        let (agent, exit) = match asked {
            Ok(Answer::TokenInspected(agent)) => {
                let is_good = ["accepted", "depends"].contains(&agent.verdict.as_str());
                let exit = if is_good { Exit::Done } else { Exit::VerificationFailed };
                (Some(*agent), Ok(exit))
            }
            Ok(_) => return Err(mismatched()),
            Err(failure) => (None, Err(failure)),
        };
        let inspected = Inspected { unverified, unreadable, agent };
        context.printer.item(&inspected, &inspected_told(&inspected))?;
        exit
    }

    fn read(&self) -> Result<String, Failure> {
        let mut token = String::new();
        if self.token == "-" {
            let mut input = std::io::stdin().lock().take(INPUT_MAX);
            let read = input.read_to_string(&mut token);
            read.map_err(|error| Failure::failed(format!("cannot read the token: {error}")))?;
        } else {
            token.push_str(&self.token);
        }
        let is_scheme =
            |word: &str| ["Bearer", "DPoP"].iter().any(|scheme| word.eq_ignore_ascii_case(scheme));
        // Alone, or as it is copied from a request.
        let words: Vec<_> = token.split_whitespace().take(3).collect();
        match words.as_slice() {
            [scheme, token] if is_scheme(scheme) => Ok((*token).to_owned()),
            [token] if !is_scheme(token) => Ok((*token).to_owned()),
            _ => Err(Failure::usage("that is not one token")
                .hint("give the token alone, or `-` and the token on standard input")),
        }
    }
}

/// Header and claims, without the signature.
fn unverified(parsed: &Parsed<'_>) -> Value {
    let header = parsed.header();
    json!({
        "header": {
            "alg": header.algorithm().as_str(),
            "kid": header.key_id(),
            "typ": header.typ(),
        },
        "claims": parsed.claims(),
    })
}

fn revoked_told(revoked: &TokensRevoked) -> Vec<String> {
    let TokensRevoked { revocation, cut, not_stored, audit } = revoked;
    let mut lines = vec![format!("revoked  {}  {}", described(revocation), revocation.id)];
    lines.push(format!("  until   {}", revocation.until));
    lines.push(format!("  cut     {}", counted(*cut, "request")));
    lines.extend(not_stored.iter().map(|why| format!("  NOT on disk: {why}")));
    lines.push(format!("  audit   {}", recorded(*audit)));
    lines.push(format!("undo: enforcer tokens restore {} --reason 'undo'", revocation.id));
    lines
}

fn restored_told(ended: &TokensRevoked, now: Timestamp) -> Vec<String> {
    let revocation = &ended.revocation;
    let until = match revocation.until {
        Expiry::At(end) => exact_span(end.since(now)),
        Expiry::Never => "forever".to_owned(),
    };
    let issuer = revocation.issuer.as_ref();
    let issuer = issuer.map_or_else(String::new, |name| format!(" --issuer {name}"));
    vec![
        format!("restored  {}  {}", described(revocation), revocation.id),
        format!("  audit   {}", recorded(ended.audit)),
        format!(
            "undo: enforcer tokens revoke {}{issuer} --for {until} --reason 'undo of {}'",
            quoted(&revocation.target),
            revocation.id
        ),
    ]
}

fn described(revocation: &RevocationRow) -> String {
    match &revocation.issuer {
        Some(issuer) => format!("{} of {issuer}", revocation.target),
        None => revocation.target.clone(),
    }
}

/// As a shell takes it: a subject may have any letter.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/@".contains(c);
    if word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn revocation_row(one: &RevocationRow) -> Vec<String> {
    vec![
        one.id.clone(),
        one.target.clone(),
        one.issuer.clone().unwrap_or_else(|| "any".to_owned()),
        one.since.to_string(),
        one.until.to_string(),
        one.by.to_string(),
        one.reason.clone(),
    ]
}

pub(super) fn issuer_told(issuer: &IssuerRow) -> String {
    let IssuerRow { name, url, usable, keys, skipped, last_good, failure, .. } = issuer;
    let mut line = format!("issuer {name}  {url}  {}", counted(*keys, "key"));
    if *skipped > 0 {
        line.push_str(&format!(", {skipped} unusable"));
    }
    if let Some(time) = last_good {
        line.push_str(&format!(", fetched {time}"));
    }
    if !usable {
        line.push_str(", NOT usable yet");
    }
    if let Some(why) = failure {
        line.push_str(&format!(", last tried in vain: {why}"));
    }
    line
}

fn inspected_told(inspected: &Inspected) -> Vec<String> {
    let Inspected { unverified, unreadable, agent } = inspected;
    let mut lines = Vec::new();
    match (unverified, unreadable) {
        (Some(said), _) => {
            lines.push("says of itself, which proves nothing:".to_owned());
            for part in ["header", "claims"] {
                let said = said.get(part).and_then(Value::as_object).into_iter().flatten();
                lines.extend(
                    said.filter(|(_, value)| !value.is_null())
                        .map(|(name, value)| format!("  {part}.{name}  {}", word(name, value))),
                );
            }
        }
        (None, Some(why)) => lines.push(format!("cannot be read: {why}")),
        (None, None) => lines.push("says nothing by itself: only its issuer knows it".to_owned()),
    }
    let Some(agent) = agent else { return lines };
    lines.push("the agent's checks:".to_owned());
    for check in &agent.checks {
        let sign = match check.outcome.as_str() {
            "pass" => "pass    ".to_owned(),
            "depends" => "depends ".to_owned(),
            reason => format!("FAIL {reason}:"),
        };
        lines.push(format!("  {:<13} {sign} {}", check.what, check.detail));
    }
    let who = agent.principal.as_ref().map_or_else(String::new, |who| format!("  {who}"));
    lines.push(match agent.verdict.as_str() {
        "accepted" => format!("verdict: accepted{who}"),
        "depends" => format!("verdict: accepted from its holder only{who}"),
        reason => format!("verdict: refused, {reason}"),
    });
    lines
}

/// A time also as people read it.
fn word(name: &str, value: &Value) -> String {
    match (name, value.as_u64()) {
        ("auth_time" | "exp" | "iat" | "nbf", Some(seconds)) => {
            format!("{value}  ({})", Timestamp::from_unix_seconds(seconds))
        }
        _ => value.to_string(),
    }
}

/// `before:now` and `before:2h` are times too.
fn parse_target(text: &str) -> Result<TokenTarget, String> {
    if let Some(time) = text.strip_prefix("before:") {
        let now = SystemClock.now().wall;
        let ago = if time == "now" { Some(std::time::Duration::ZERO) } else { parse_span(time) };
        if let Some(ago) = ago {
            let ago = u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX);
            let ns = now.unix_ns().saturating_sub(ago);
            return Ok(TokenTarget::IssuedBefore(Timestamp::from_unix_ns(ns)));
        }
    }
    text.parse().map_err(|error: enforcer_authn::TokenTargetError| error.to_string())
}

#[cfg(test)]
mod tests {
    use enforcer_admin::call::TokenCheck;
    use enforcer_model::Author;

    use super::*;

    #[test]
    fn what_is_taken_back_comes_with_what_brings_it_back() {
        let lines = revoked_told(&revoked());

        assert_eq!(
            lines,
            [
                "revoked  sub:o'neil of corp  R-7",
                "  until   forever",
                "  cut     2 requests",
                "  audit   #9",
                "undo: enforcer tokens restore R-7 --reason 'undo'",
            ]
        );
        let undo = restored_told(&revoked(), Timestamp::from_unix_seconds(100)).pop().unwrap();
        assert_eq!(
            undo,
            r"undo: enforcer tokens revoke 'sub:o'\''neil' --issuer corp --for forever --reason 'undo of R-7'"
        );
    }

    #[test]
    fn what_is_not_on_disk_is_told() {
        let mut revoked = revoked();
        revoked.not_stored = Some("the disk is full".to_owned());

        assert!(revoked_told(&revoked).contains(&"  NOT on disk: the disk is full".to_owned()));
    }

    #[test]
    fn a_time_may_be_said_as_now_or_as_so_long_ago() {
        let before = |text: &str| {
            let target = parse_target(text).unwrap();
            let TokenTarget::IssuedBefore(time) = target else { panic!("{target}") };
            time
        };

        let (now, earlier) = (before("before:now"), before("before:2h"));
        assert!(now.since(earlier).as_secs().abs_diff(7_200) <= 1);
        assert_eq!(
            before("before:2026-11-22T10:00:00Z"),
            Timestamp::from_unix_seconds(1_795_341_600)
        );
        for wrong in ["before:", "before:soon", "jti:", "alice", "cert:00", "sub"] {
            assert!(parse_target(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_inspected_token_shows_what_it_says_and_each_check_and_no_signature() {
        let check = |what: &str, outcome: &str, detail: &str| TokenCheck {
            what: what.to_owned(),
            outcome: outcome.to_owned(),
            detail: detail.to_owned(),
        };
        let inspected = Inspected {
            unverified: Some(json!({
                "header": { "alg": "ES256", "kid": null },
                "claims": { "exp": 1_795_341_600, "sub": "alice" },
            })),
            unreadable: None,
            agent: Some(TokenInspected {
                verdict: "token-expired".to_owned(),
                principal: None,
                issuer: Some("corp".to_owned()),
                checks: vec![
                    check("signature", "pass", "made with that key"),
                    check("time", "token-expired", "its time ended"),
                ],
            }),
        };

        assert_eq!(
            inspected_told(&inspected),
            [
                "says of itself, which proves nothing:",
                "  header.alg  \"ES256\"",
                "  claims.exp  1795341600  (2026-11-22T10:00:00.000000Z)",
                "  claims.sub  \"alice\"",
                "the agent's checks:",
                "  signature     pass     made with that key",
                "  time          FAIL token-expired: its time ended",
                "verdict: refused, token-expired",
            ]
        );
    }

    #[test]
    fn a_token_is_taken_as_it_is_copied() {
        let read = |text: &str| Inspect { token: text.to_owned() }.read();

        assert_eq!(read(" Bearer a.b.c\n").unwrap(), "a.b.c");
        assert_eq!(read("a.b.c").unwrap(), "a.b.c");
        for wrong in ["", "  ", "a b", "Bearer "] {
            assert_eq!(read(wrong).unwrap_err().exit, Exit::Usage, "{wrong:?}");
        }
    }

    fn revoked() -> TokensRevoked {
        TokensRevoked {
            revocation: RevocationRow {
                id: "R-7".to_owned(),
                target: "sub:o'neil".to_owned(),
                issuer: Some("corp".to_owned()),
                since: Timestamp::from_unix_seconds(0),
                until: Expiry::Never,
                by: Author::Agent,
                reason: "left".to_owned(),
            },
            cut: 2,
            not_stored: None,
            audit: Some(9),
        }
    }
}
