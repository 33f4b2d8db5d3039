//! `[notify.NAME]`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use enforcer_notify::{Form, Kind, Severity};

use super::{SMALL, code_of, codes, read};
use crate::Policy;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n";

#[test]
fn receivers_are_what_is_written() {
    let policy = read(&format!(
        "{SMALL}[notify.soc]\nkind='webhook'\nurl='https://soc.example/in'\nsecret=['a','b']\n\
         severity='error'\nkinds=['incident-opened','blast-radius']\ngroup_wait='0s'\n\
         [notify.alerts]\nkind='alertmanager'\nurl='http://alerts.internal:9093'\n\
         allow_private=['alerts.internal','10.0.0.7/32']\ndigest=5\n\
         [notify.page]\nkind='pagerduty'\nsecret='key'\n\
         [notify.log]\nkind='syslog'\nurl='unix:/dev/log'\nformat='cef'\n"
    ))
    .unwrap();

    let [soc, alerts, page, log] = policy.receivers() else { panic!("{:?}", policy.receivers()) };
    assert_eq!((&*soc.name, soc.severity), ("soc", Severity::Error));
    assert_eq!(soc.kinds, [Kind::IncidentOpened, Kind::BlastRadius]);
    assert_eq!((soc.group_wait, soc.group_interval), (Duration::ZERO, Duration::from_secs(300)));
    assert_eq!(soc.target().to_string(), "https://soc.example");
    assert_eq!((alerts.digest, alerts.severity), (5, Severity::Warning));
    assert!(alerts.permits.judge("alerts.internal", "10.9.9.9".parse().unwrap()).is_ok());
    assert_eq!(page.target().to_string(), "https://events.pagerduty.com");
    assert!(matches!(log.form, Form::Syslog { .. }));
}

#[test]
fn what_could_only_be_refused_later_is_refused_now() {
    for (table, code) in [
        ("kind='webhook'\nurl='https://x.example/'\n", "E-POL-003"),
        ("kind='slack'\n", "E-POL-003"),
        ("kind='pagerduty'\n", "E-POL-003"),
        ("kind='slack'\nurl='http://hooks.example/x'\n", "E-POL-022"),
        ("kind='syslog'\nurl='udp://10.0.0.7:514'\n", "E-POL-022"),
        ("kind='slack'\nurl='ftp://hooks.example/x'\n", "E-POL-005"),
        ("kind='syslog'\nurl='https://logs.example'\n", "E-POL-005"),
        ("kind='slack'\nurl='https://a.example'\nurl_file='f'\n", "E-POL-005"),
        ("kind='slack'\nurl='https://a.example'\nsecret='f'\n", "E-POL-022"),
        ("kind='slack'\nurl='https://a.example'\nallow_private=['10.0.0.7/8']\n", "E-POL-005"),
        ("kind='slack'\nurl='https://a.example'\nkinds=['finding','x']\n", "E-POL-005"),
        ("kind='mail'\nurl='https://a.example'\n", "E-POL-005"),
    ] {
        assert_eq!(code_of(&format!("{SMALL}[notify.x]\n{table}")), [code], "{table}");
    }
    let many: String = (0..17)
        .map(|number| format!("[notify.n{number}]\nkind='slack'\nurl='https://a.example'\n"))
        .collect();
    assert_eq!(code_of(&format!("{SMALL}{many}")), ["E-POL-032"]);
}

#[test]
fn secrets_come_from_files_of_which_several_sign_and_none_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.toml");
    let text = format!(
        "{SMALL}[notify.soc]\nkind='webhook'\nurl='https://soc.example/in'\nsecret=['new','old']\n\
         [notify.chat]\nkind='slack'\nurl_file='url'\n"
    );
    let write = |name: &str, words: &str| {
        fs::write(folder.path().join(name), words).unwrap();
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(folder.path().join(name), private).unwrap();
    };
    write("new", "whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk=\n");
    write("old", SECRET);
    write("url", "https://hooks.slack.com/services/T0/B0/s3cret\n");

    let policy = Policy::parse_with_files(&text, &file).unwrap();

    let [soc, chat] = policy.receivers() else { panic!() };
    let Form::Webhook { keys, .. } = &soc.form else { panic!() };
    assert_eq!(keys.len(), 2);
    assert_eq!(chat.target().rest(), "/services/T0/B0/s3cret");
    let shown = format!("{:?}", policy.receivers());
    assert!(!shown.contains("s3cret") && !shown.contains("MfKQ"), "{shown}");
    for (name, words) in [("new", "whpk_AAAA"), ("old", ""), ("url", "https://hooks.example/a b")] {
        let before = fs::read_to_string(folder.path().join(name)).unwrap();
        write(name, words);
        let refused = Policy::parse_with_files(&text, &file).unwrap_err();
        let code = if name == "url" { "E-POL-005" } else { "E-POL-027" };
        assert_eq!(codes(&refused), [code], "{name}");
        assert!(!refused.to_string().contains("/a b"), "{refused}");
        write(name, &before);
    }
}
