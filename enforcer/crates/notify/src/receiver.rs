//! One receiver as a policy wants it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::{Kind, Notice, Permits, Roots, Severity, SigningKey, Target};

/// Whom to tell what, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// As the policy names it.
    pub name: Arc<str>,
    /// In which form, and where.
    pub form: Form,
    /// Nothing that matters less.
    pub severity: Severity,
    /// Only these kinds; empty: every kind.
    pub kinds: Vec<Kind>,
    /// How long the first notice of a group waits for others.
    pub group_wait: Duration,
    /// How long after a group was told more of it waits.
    pub group_interval: Duration,
    /// More notices than this in a minute are told as one digest a minute.
    pub digest: usize,
    /// For one request, from the look-up of the name to the answer.
    pub timeout: Duration,
    /// What may be talked to beside the public internet.
    pub permits: Permits,
    /// Whom its certificate leads back to.
    pub roots: Roots,
}

/// What a receiver understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// JSON, signed as Standard Webhooks say.
    Webhook {
        /// Where.
        target: Target,
        /// Who signs; the newest first, at least one.
        keys: Arc<[SigningKey]>,
    },
    /// An incoming webhook of Slack.
    Slack {
        /// Where; its path is a secret.
        target: Target,
    },
    /// `PagerDuty`'s Events API v2.
    PagerDuty {
        /// Where.
        target: Target,
        /// The key of an integration.
        routing_key: Routing,
    },
    /// Prometheus' Alertmanager, API v2.
    Alertmanager {
        /// Its root; `/api/v2/alerts` follows.
        target: Target,
        /// What it asks for, if anything.
        token: Option<Token>,
        /// How often alerts that go on are told again.
        resend: Duration,
    },
    /// A syslog server.
    Syslog {
        /// Where.
        target: Target,
        /// In which words.
        format: SyslogFormat,
        /// Under which facility.
        facility: Facility,
    },
}

/// The words of a syslog message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyslogFormat {
    /// RFC 5424 with structured data.
    Rfc5424,
    /// The Common Event Format behind a header of RFC 5424.
    Cef,
}

/// A facility of syslog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facility(u8);

/// A secret that goes into a payload or a field; never printed.
macro_rules! secret {
    ($( #[$doc:meta] )* $name:ident) => {
        $( #[$doc] )*
        #[derive(Clone, PartialEq, Eq)]
        pub struct $name(Arc<Zeroizing<String>>);

        impl $name {
            /// The text of it, if it is one that can be sent: visible ASCII.
            pub fn new(text: &str) -> Option<Self> {
                let is_visible = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
                is_visible.then(|| Self(Arc::new(Zeroizing::new(text.to_owned()))))
            }

            pub(crate) fn expose(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("…")
            }
        }
    };
}

secret! {
    /// The routing key of an integration.
    Routing
}
secret! {
    /// A bearer token.
    Token
}

impl Receiver {
    /// Whether it wants to know of `notice`; tests are for whoever is tested.
    pub fn wants(&self, notice: &Notice) -> bool {
        notice.severity() >= self.severity
            && (self.kinds.is_empty() || self.kinds.contains(&notice.kind()))
    }

    /// Where it is.
    pub const fn target(&self) -> &Target {
        match &self.form {
            Form::Webhook { target, .. }
            | Form::Slack { target }
            | Form::PagerDuty { target, .. }
            | Form::Alertmanager { target, .. }
            | Form::Syslog { target, .. } => target,
        }
    }
}

impl Form {
    /// The word for it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::Slack { .. } => "slack",
            Self::PagerDuty { .. } => "pagerduty",
            Self::Alertmanager { .. } => "alertmanager",
            Self::Syslog { .. } => "syslog",
        }
    }
}

impl Facility {
    /// Their names, in the order of their numbers.
    pub const NAMES: &[&str] = &[
        "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron",
        "authpriv", "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2",
        "local3", "local4", "local5", "local6", "local7",
    ];

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        let number = Self::NAMES.iter().position(|known| *known == name)?;
        u8::try_from(number).ok().map(Self)
    }

    pub(crate) const fn number(self) -> u8 {
        self.0
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use enforcer_model::Timestamp;

    use super::*;

    pub(crate) fn receiver(name: &str) -> Receiver {
        let key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
        Receiver {
            name: name.into(),
            form: Form::Webhook {
                target: Target::http("https://hooks.example/in").unwrap(),
                keys: [key].into(),
            },
            severity: Severity::Warning,
            kinds: Vec::new(),
            group_wait: Duration::from_secs(5),
            group_interval: Duration::from_secs(300),
            digest: 20,
            timeout: Duration::from_secs(15),
            permits: Permits::default(),
            roots: Roots::System,
        }
    }

    #[test]
    fn a_receiver_is_told_what_it_asked_for() {
        let notice = |kind, severity| Notice::new(kind, severity, Timestamp::from_unix_ns(1), "t");
        let some = Receiver { kinds: vec![Kind::Finding], ..receiver("one") };

        assert!(some.wants(&notice(Kind::Finding, Severity::Warning)));
        assert!(some.wants(&notice(Kind::Finding, Severity::Critical)));
        assert!(!some.wants(&notice(Kind::Finding, Severity::Info)));
        assert!(!some.wants(&notice(Kind::IncidentOpened, Severity::Critical)));
        assert!(receiver("all").wants(&notice(Kind::IncidentOpened, Severity::Critical)));
    }

    #[test]
    fn facilities_have_the_numbers_of_the_standard_and_secrets_are_not_printed() {
        let number = |name| Facility::named(name).map(Facility::number);
        assert_eq!((number("kern"), number("authpriv")), (Some(0), Some(10)));
        assert_eq!((number("local0"), number("local7"), number("x")), (Some(16), Some(23), None));
        assert_eq!(format!("{:?}", Routing::new("R0UT1NG")), "Some(…)");
        assert!(Token::new("two words").is_none() && Token::new("").is_none());
    }
}
