//! `enforcer certs`: what listeners show, until when, and new files.

use std::time::Duration;

use clap::{Args, Subcommand};
use enforcer_admin::call::{
    CertificateRow, CertificatesReloaded, CertsOrder, ExpiryWarning, ListenerReloaded, OcspRow,
};
use enforcer_admin::{Answer, Call};

use super::quarantine::span;
use super::{Context, Exit, Failure, Table, mismatched, recorded};

/// Certificates of listeners
#[derive(Debug, Subcommand)]
pub(crate) enum Certs {
    /// Each certificate: for whom, by whom, how long; `!` marks those that need somebody
    List(List),
    /// Read the files again; what cannot be used leaves its listener as it is
    Reload(Reload),
}

/// Each certificate
#[derive(Args, Debug)]
pub(crate) struct List {}

/// Read the files again
///
/// Connections go on; handshakes from here on see the new ones. Exit code 6 when some listeners stay
/// as they were, 1 when all do.
#[derive(Args, Debug)]
pub(crate) struct Reload {}

const HEADER: &[&str] =
    &["LISTENER", "NAMES", "SUBJECT", "ISSUER", "NOT AFTER", "LEFT", "OCSP", "SHA-256"];

impl Certs {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::List(List {}) => list(context),
            Self::Reload(Reload {}) => reload(context),
        }
    }
}

fn list(context: &Context) -> Result<Exit, Failure> {
    let call = Call::Certs { order: CertsOrder::List };
    let Answer::Certificates(all) = context.ask(&call)? else { return Err(mismatched()) };
    let rows = all.certificates.iter().map(cells).collect();
    context.printer.list(&all.certificates, &Table { header: HEADER, rows })?;
    if all.certificates.is_empty() && !context.printer.is_for_programs() {
        context.printer.say("no listener has TLS");
    }
    Ok(Exit::Done)
}

fn reload(context: &Context) -> Result<Exit, Failure> {
    let call = Call::Certs { order: CertsOrder::Reload };
    let Answer::CertificatesReloaded(reloaded) = context.ask(&call)? else {
        return Err(mismatched());
    };
    context.printer.item(&reloaded, &told(&reloaded))?;
    let refused = reloaded.listeners.iter().filter(|one| one.refused.is_some()).count();
    Ok(match (refused, reloaded.listeners.len() - refused) {
        (0, _) if reloaded.audit.is_some() => Exit::Done,
        (0, _) => Exit::PartlyApplied,
        (_, 0) => Exit::Failed,
        (_, _) => Exit::PartlyApplied,
    })
}

fn cells(row: &CertificateRow) -> Vec<String> {
    let default = if row.default { " (default)" } else { "" };
    vec![
        format!("{}{default}", row.listener),
        row.names.join(","),
        row.subject.clone(),
        row.issuer.clone(),
        row.not_after.to_string(),
        left(row),
        row.ocsp.as_ref().map_or_else(|| "-".to_owned(), ocsp),
        row.sha256.clone(),
    ]
}

/// How long it lasts, with a mark where that is not long.
fn left(row: &CertificateRow) -> String {
    let days = row.days_left;
    match row.warning {
        None => format!("{days} d"),
        Some(ExpiryWarning::Soon) => format!("! {days} d"),
        Some(ExpiryWarning::VerySoon) => format!("!! {days} d"),
        Some(ExpiryWarning::Invalid) if days >= 0 => "!! NOT YET VALID".to_owned(),
        Some(ExpiryWarning::Invalid) => "!! EXPIRED".to_owned(),
    }
}

fn ocsp(staple: &OcspRow) -> String {
    let age = staple.age_seconds.map(|age| span(Duration::from_secs(age)));
    match (&staple.problem, age) {
        (Some(problem), _) => format!("! {problem}"),
        (None, Some(age)) => format!("{age} old"),
        (None, None) => "stapled".to_owned(),
    }
}

fn told(reloaded: &CertificatesReloaded) -> Vec<String> {
    let mut lines: Vec<_> = reloaded.listeners.iter().flat_map(told_listener).collect();
    if reloaded.listeners.is_empty() {
        lines.push("no listener has TLS".to_owned());
    }
    lines.push(format!("  audit   {}", recorded(reloaded.audit)));
    lines
}

fn told_listener(one: &ListenerReloaded) -> Vec<String> {
    let name = &one.listener;
    if let Some(why) = &one.refused {
        return vec![format!("{name}  NOT changed, the old certificates stay: {why}")];
    }
    if one.added.is_empty() && one.removed.is_empty() {
        return vec![format!("{name}  unchanged ({} in force)", one.unchanged)];
    }
    let mut lines = vec![format!("{name}  changed ({} unchanged)", one.unchanged)];
    lines.extend(one.added.iter().map(|row| told_certificate("new", row)));
    lines.extend(one.removed.iter().map(|row| told_certificate("gone", row)));
    lines
}

fn told_certificate(word: &str, row: &CertificateRow) -> String {
    let short = row.sha256.get(..16).unwrap_or(&row.sha256);
    format!(
        "  {word:<7} {}  until {}  ({})  {short}…",
        row.names.join(","),
        row.not_after,
        left(row)
    )
}

/// What `status` says of a certificate that somebody has to see to.
pub(super) fn summary(row: &CertificateRow) -> String {
    format!(
        "cert     {}  {}  {}  until {}",
        row.listener,
        row.names.join(","),
        left(row),
        row.not_after
    )
}

#[cfg(test)]
mod tests {
    use enforcer_model::Timestamp;

    use super::*;

    #[test]
    fn what_needs_somebody_is_marked_without_colour() {
        let row = |days_left, warning| CertificateRow { days_left, warning, ..certificate() };

        assert_eq!(left(&row(90, None)), "90 d");
        assert_eq!(left(&row(29, Some(ExpiryWarning::Soon))), "! 29 d");
        assert_eq!(left(&row(2, Some(ExpiryWarning::VerySoon))), "!! 2 d");
        assert_eq!(left(&row(-1, Some(ExpiryWarning::Invalid))), "!! EXPIRED");
        assert_eq!(left(&row(9, Some(ExpiryWarning::Invalid))), "!! NOT YET VALID");
    }

    #[test]
    fn a_certificate_is_a_row_with_all_that_tells_it_from_others() {
        let cells = cells(&certificate());

        assert_eq!(cells.len(), HEADER.len());
        assert_eq!(
            cells.join("|"),
            "public (default)|api.test,*.api.test|CN=api.test|CN=Our CA|1970-01-31T00:00:00.000000Z|\
             30 d|1h old|aabbccddeeff00112233"
        );
    }

    #[test]
    fn a_reload_tells_of_each_listener_what_became_of_it() {
        let listener = |listener: &str, refused: Option<&str>, added| ListenerReloaded {
            listener: listener.to_owned(),
            refused: refused.map(str::to_owned),
            added,
            removed: Vec::new(),
            unchanged: 1,
        };
        let reloaded = CertificatesReloaded {
            listeners: vec![
                listener("public", None, vec![certificate()]),
                listener("internal", None, Vec::new()),
                listener("partners", Some("no private key in p.key"), Vec::new()),
            ],
            audit: Some(7),
        };

        assert_eq!(
            told(&reloaded).join("\n"),
            "public  changed (1 unchanged)\n  \
             new     api.test,*.api.test  until 1970-01-31T00:00:00.000000Z  (30 d)  aabbccddeeff0011…\n\
             internal  unchanged (1 in force)\n\
             partners  NOT changed, the old certificates stay: no private key in p.key\n  \
             audit   #7"
        );
    }

    fn certificate() -> CertificateRow {
        CertificateRow {
            listener: "public".to_owned(),
            default: true,
            names: vec!["api.test".to_owned(), "*.api.test".to_owned()],
            subject: "CN=api.test".to_owned(),
            issuer: "CN=Our CA".to_owned(),
            not_before: Timestamp::from_unix_seconds(0),
            not_after: Timestamp::from_unix_seconds(30 * 86_400),
            days_left: 30,
            warning: None,
            sha256: "aabbccddeeff00112233".to_owned(),
            file: "cert.pem".into(),
            ocsp: Some(OcspRow {
                file: "cert.ocsp".into(),
                age_seconds: Some(3_600),
                next_update: None,
                problem: None,
            }),
        }
    }
}
