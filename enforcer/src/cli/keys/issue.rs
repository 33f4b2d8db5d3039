//! `enforcer keys issue`.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use clap::Args;
use enforcer_admin::call::KeyIssue;
use enforcer_admin::{Answer, Call};
use enforcer_model::{Clock, Prefix, SystemClock, Thumbprint, Timestamp};
use ring::digest;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::super::quarantine::parse_span;
use super::super::{Context, Exit, Failure, mismatched};
use super::told;

/// Longest certificate file that is read.
const CERTIFICATE_MAX: u64 = 1 << 20;

/// Make a key; its secret is shown this once
#[derive(Args, Debug)]
pub(crate) struct Issue {
    /// A name nobody else has
    #[arg(long)]
    name: String,
    /// Whose it is: a person or a team
    #[arg(long, value_name = "TEXT")]
    owner: Option<String>,
    /// Which application uses it
    #[arg(long, value_name = "TEXT")]
    application: Option<String>,
    /// A role of the policy; may be given more than once
    #[arg(long = "role", value_name = "ROLE", required = true)]
    roles: Vec<String>,
    /// A scope, for conditions to look at; may be given more than once
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// A route the key may be used for; may be given more than once; any by default
    #[arg(long = "route", value_name = "ROUTE")]
    routes: Vec<String>,
    /// A network the key may be used from; may be given more than once
    #[arg(long = "network", value_name = "NETWORK")]
    networks: Vec<Prefix>,
    /// The client certificate the key goes with: a PEM or DER file, or its SHA-256 in hexadecimal
    #[arg(long, value_name = "FILE|HEX", value_parser = parse_certificate)]
    certificate: Option<Thumbprint>,
    /// From when on it is valid: `2h` from now, or a time such as `2027-01-31T12:00:00Z`
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    not_before: Option<Timestamp>,
    /// When it ends: `90d`, or a time such as `2027-01-31T12:00:00Z`; never by default
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    expires: Option<Timestamp>,
    /// A limit of the policy that holds for it in addition to the route's; may be given more than
    /// once
    #[arg(long = "limit", value_name = "LIMIT")]
    limits: Vec<String>,
    /// For people
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Make an `enf_test_…` key
    #[arg(long)]
    test: bool,
    /// Only say what would be wrong with it
    #[arg(long)]
    dry_run: bool,
}

impl Issue {
    pub(super) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let asked = KeyIssue {
            name: self.name.clone(),
            owner: self.owner.clone(),
            application: self.application.clone(),
            roles: self.roles.clone(),
            scopes: self.scopes.clone(),
            routes: self.routes.clone(),
            networks: self.networks.clone(),
            certificate: self.certificate,
            not_before: self.not_before,
            expires: self.expires,
            limits: self.limits.clone(),
            notes: self.note.clone().unwrap_or_default(),
            test: self.test,
            dry_run: self.dry_run,
        };
        let answer = context.ask(&Call::KeyIssue(Box::new(asked)))?;
        if let Answer::KeyRehearsed(rehearsed) = &answer {
            return told::rehearsed(context, rehearsed);
        }
        let Answer::KeyIssued(issued) = answer else { return Err(mismatched()) };
        let undo = format!("undo: enforcer keys revoke {} --reason 'not needed'", issued.key.id);
        told::show_credential(context, &issued, vec![undo])
    }
}

fn parse_time(text: &str) -> Result<Timestamp, String> {
    match parse_span(text) {
        Some(span) => Ok(SystemClock.now().wall.saturating_add(span)),
        None => text.parse::<Timestamp>().map_err(|error| format!("{error}, or as `90d`")),
    }
}

fn parse_certificate(text: &str) -> Result<Thumbprint, String> {
    text.parse().or_else(|_not_hex| thumbprint_of(Path::new(text)))
}

/// SHA-256 of the first certificate in a file, which is the holder's own where there is a chain.
fn thumbprint_of(file: &Path) -> Result<Thumbprint, String> {
    let told = file.display();
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|open| open.take(CERTIFICATE_MAX).read_to_end(&mut bytes))
        .map_err(|error| format!("neither 64 hexadecimal digits nor a file: {told}: {error}"))?;
    let der = match CertificateDer::pem_slice_iter(&bytes).next() {
        Some(Ok(der)) => der.as_ref().to_vec(),
        // DER begins with a sequence.
        None | Some(Err(_)) if bytes.first() == Some(&0x30) => bytes,
        None | Some(Err(_)) => return Err(format!("{told} holds no certificate in PEM or DER")),
    };
    let hash = digest::digest(&digest::SHA256, &der);
    let hash =
        hash.as_ref().try_into().map_err(|_length| "SHA-256 has another length".to_owned())?;
    Ok(Thumbprint(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_named_by_its_hash_or_its_file_in_either_form() {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["client.test".to_owned()]).unwrap();
        let (pem, der) = (folder.path().join("a.pem"), folder.path().join("a.der"));
        std::fs::write(&pem, format!("noise\n{}", made.cert.pem())).unwrap();
        std::fs::write(&der, made.cert.der()).unwrap();
        let hash = digest::digest(&digest::SHA256, made.cert.der());
        let expected = Thumbprint(hash.as_ref().try_into().unwrap());

        assert_eq!(parse_certificate(pem.to_str().unwrap()), Ok(expected));
        assert_eq!(parse_certificate(der.to_str().unwrap()), Ok(expected));
        assert_eq!(parse_certificate(&expected.to_string()), Ok(expected));
        assert!(parse_certificate("abc").unwrap_err().contains("neither"));
        std::fs::write(&pem, "nothing").unwrap();
        assert!(parse_certificate(pem.to_str().unwrap()).unwrap_err().contains("no certificate"));
    }
}
