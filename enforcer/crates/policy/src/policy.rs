//! A policy that passed every check, and the ways to one.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use enforcer_authn::{IssuerPlan, KeyPlan};
use enforcer_authz::{Roles, Vocabulary};
use enforcer_cache::Bounds;
use enforcer_inspect::Head;
use enforcer_limits::Throttle;
use ring::digest::{SHA256, digest};
use toml::de::DeTable;

use crate::analysis::lint;
use crate::codes::{INCOMPLETE, SYNTAX, TOO_LARGE};
use crate::parse::{
    Agent, AuditPlan, Base, Case, Charged, ConnectionsPlan, Detection, Guard, HostRules,
    IdentityPlan, LEVEL_MAX, Listener, Matched, Route, Sections, Serves, Tightening, Timeouts,
    WhenFull, read,
};
use crate::problem::{Problem, Problems, Report};
use crate::text::{Span, Text};
use crate::tls;

/// What an operator decided, checked; immutable.
#[derive(Debug)]
pub struct Policy {
    file: PathBuf,
    sha256: Arc<str>,
    sections: Sections,
    warnings: Vec<Problem>,
}

/// No policy came out of a file.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read the policy file {}", .file.display())]
    Read {
        /// Its path.
        file: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The file has problems.
    #[error(transparent)]
    Problems(#[from] Problems),
}

/// The largest policy file, in bytes.
const FILE_MAX: usize = 8 << 20;

impl Policy {
    /// Reads the policy `text`; `file` names it in problems, and relative paths are relative to its
    /// folder. Does no I/O: what a policy knows from files (keys and secrets of issuers, regions) is
    /// absent, so that no token is good and every region unknown.
    pub fn parse(text: &str, file: &Path) -> Result<Self, Problems> {
        Self::checked(text, file, false)
    }

    /// The same with the files that it names: certificates, keys, secrets, regions.
    pub fn parse_with_files(text: &str, file: &Path) -> Result<Self, Problems> {
        Self::checked(text, file, true)
    }

    /// Reads a policy file, and the files that it names.
    pub fn load(file: &Path) -> Result<Self, LoadError> {
        let refused = |source| LoadError::Read { file: file.to_owned(), source };
        let mut bytes = Vec::new();
        let limit = u64::try_from(FILE_MAX).unwrap_or(u64::MAX).saturating_add(1);
        File::open(file)
            .and_then(|file| file.take(limit).read_to_end(&mut bytes))
            .map_err(refused)?;
        let text = String::from_utf8(bytes)
            .map_err(|error| refused(io::Error::new(io::ErrorKind::InvalidData, error)))?;
        Ok(Self::parse_with_files(&text, file)?)
    }

    fn checked(text: &str, file: &Path, reads_files: bool) -> Result<Self, Problems> {
        let lines = Text::new(text, file.display().to_string().into());
        let mut report = Report::default();
        let sections = read_text(text, file, &lines, reads_files, &mut report);
        if sections.is_none() && !report.has_errors() {
            // Every section that gives nothing has told why; a hole in that must not load.
            report.add(&INCOMPLETE, Span::default(), "a section could not be read", None);
        }
        // What a policy means is asked of one that is whole.
        let policy = sections.filter(|_| !report.has_errors()).map(|sections| {
            let sha256 = hex_sha256(text.as_bytes());
            Self { file: file.to_owned(), sha256, sections, warnings: Vec::new() }
        });
        if let Some(policy) = &policy {
            lint(policy, text, &mut report);
        }
        let warnings = report.finish(&lines)?;
        policy.map(|policy| Self { warnings, ..policy }).ok_or_else(Problems::default)
    }

    /// The file as it was named.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// SHA-256 of the file's bytes, in hex.
    pub const fn sha256(&self) -> &Arc<str> {
        &self.sha256
    }

    /// What somebody should look at, though the policy can be used.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// The route that decides on a request, whether its path is canonical or one that a route has
    /// opted out for.
    pub fn route<'p>(&'p self, head: &'p Head) -> Option<Matched<'p>> {
        let (host, path) = (head.host.as_str(), head.path.as_str());
        if head.path.needs().is_empty() {
            return self.route_for(host, path);
        }
        Some(Matched { route: self.exact_route(host, path)?, path: path.into() })
    }

    /// The route that decides on a canonical host and path, as `enforcer-inspect` gives them.
    pub fn route_for<'p>(&'p self, host: &str, path: &'p str) -> Option<Matched<'p>> {
        let (route, path) = self.sections.table.find(host, path)?;
        Some(Matched { route: self.sections.routes.get(route)?, path })
    }

    /// The route for just this host and text, of those whose paths have no canonical form.
    pub fn exact_route(&self, host: &str, text: &str) -> Option<&Arc<Route>> {
        self.sections.routes.get(self.sections.table.find_exact(host, text)?)
    }

    /// `[agent]`.
    pub const fn agent(&self) -> &Agent {
        &self.sections.agent
    }

    /// `[listen]`, in the order of the file; at least one.
    pub fn listeners(&self) -> &[Listener] {
        &self.sections.listeners
    }

    /// The listener called `name`.
    pub fn listener(&self, name: &str) -> Option<&Listener> {
        self.listeners().iter().find(|listener| &*listener.name == name)
    }

    /// `[kernel]`; `None`: the kernel part is off.
    pub const fn kernel(&self) -> Option<&enforcer_kernel::Config> {
        match &self.sections.kernel {
            Some(kernel) => Some(&kernel.config),
            None => None,
        }
    }

    /// `[kernel] when_full`; what it would be without it when there is no such section.
    pub fn when_full(&self) -> WhenFull {
        self.sections.kernel.as_ref().map(|kernel| kernel.when_full).unwrap_or_default()
    }

    /// `[guard]`.
    pub const fn guard(&self) -> &Guard {
        &self.sections.guard
    }

    /// `[audit]`.
    pub const fn audit(&self) -> &AuditPlan {
        &self.sections.audit
    }

    /// `[cache]`.
    pub const fn cache(&self) -> Bounds {
        self.sections.cache
    }

    /// `[timeouts]`.
    pub const fn timeouts(&self) -> &Timeouts {
        &self.sections.timeouts
    }

    /// `[connections]`.
    pub const fn connections(&self) -> &ConnectionsPlan {
        &self.sections.connections
    }

    /// `[role]`: every role, closed over inclusion.
    pub const fn roles(&self) -> &Roles {
        &self.sections.roles
    }

    /// `[limit]`, in the order of the file.
    pub fn limits(&self) -> &[Charged] {
        &self.sections.limits
    }

    /// The limit called `name`, as the record of an API key names it.
    pub fn limit(&self, name: &str) -> Option<&Charged> {
        self.limits().iter().find(|charged| &**charged.limit.name() == name)
    }

    /// `[issuer]`, in the order of the file.
    pub fn issuers(&self) -> &[Arc<IssuerPlan>] {
        &self.sections.issuers
    }

    /// `[keys]`.
    pub const fn keys(&self) -> &KeyPlan {
        &self.sections.keys
    }

    /// `[identity]`.
    pub const fn identity(&self) -> &IdentityPlan {
        &self.sections.identity
    }

    /// `[detect.profile]`; without `[detect]` no profiles are kept.
    pub const fn profiling(&self) -> &enforcer_detect::profile::Plan {
        &self.sections.profiling
    }

    /// `[detect]`; without it nothing is in force.
    pub const fn detection(&self) -> &Detection {
        &self.sections.detection
    }

    /// `[throttle]`; `None`: refusals have no consequence.
    pub const fn throttle(&self) -> Option<&Throttle> {
        self.sections.throttle.as_ref()
    }

    /// What holds while an incident has `level`; levels above the highest are the highest.
    pub fn incident(&self, level: u8) -> &Tightening {
        let [lowest, .., highest] = &*self.sections.incidents;
        let found = self.sections.incidents.get(usize::from(level.min(LEVEL_MAX)));
        found.unwrap_or(if level == 0 { lowest } else { highest })
    }

    /// `[incident.N.trigger]`: when levels open by themselves.
    pub fn triggers(&self) -> &[enforcer_detect::court::TriggerPlan] {
        &self.sections.triggers
    }

    /// `[host]`: what holds on the virtual host `host`.
    pub fn host_rules(&self, host: &str) -> HostRules {
        self.sections.hosts.get(host).copied().unwrap_or_default()
    }

    /// The country of `address`, as two capital letters; `None` where `[region]` does not know it.
    pub fn region_of(&self, address: IpAddr) -> Option<&str> {
        self.sections.region.database.as_ref()?.of(address)
    }

    /// The names that conditions of this policy may use.
    pub fn vocabulary(&self) -> Vocabulary<'_> {
        Vocabulary {
            roles: &self.sections.roles,
            networks: &self.sections.networks,
            windows: &self.sections.windows,
            issuers: &self.sections.issuer_names,
            has_regions: self.sections.region.file.is_some(),
        }
    }

    /// `[[test]]`, in the order of the file.
    pub fn tests(&self) -> &[Case] {
        &self.sections.cases
    }

    /// `[upstream]`, in the order of the file.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<enforcer_upstream::Plan>> {
        self.sections.upstreams.iter().map(|upstream| &upstream.plan)
    }

    /// What is said of the load of upstreams, in the order of the file.
    pub fn gates(&self) -> impl Iterator<Item = &Arc<enforcer_limits::GatePlan>> {
        self.sections.upstreams.iter().filter_map(|upstream| upstream.gate.as_ref())
    }

    /// `[[route]]`, in the order of the file.
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.sections.routes
    }

    /// `[[rule]]`, in the order of the file.
    pub fn rules(&self) -> &[enforcer_detect::Rule] {
        &self.sections.rules
    }

    /// `[notify]`, in the order of the file.
    pub fn receivers(&self) -> &[Arc<enforcer_notify::Receiver>] {
        &self.sections.receivers
    }

    /// What differs in `next` and takes effect only after a restart.
    ///
    /// Everything else a reload puts in force at once: certificates, issuers, roles, routes, limits,
    /// incidents, upstreams, rules, timeouts, guards, durability, and of the kernel its mode, budgets,
    /// egress, lease, and what it does when it is full.
    pub fn needs_restart(&self, next: &Self) -> Vec<&'static str> {
        let fixed = |policy: &Self| {
            policy.kernel().map(|kernel| {
                let interfaces = kernel.interfaces.clone();
                (interfaces, kernel.attach, kernel.blocks, kernel.sources, kernel.pins.clone())
            })
        };
        let places = |policy: &Self| -> Vec<_> {
            let place = |listener: &Listener| {
                let kind = match &listener.serves {
                    Serves::Plain => (0, 0),
                    Serves::Redirect { port } => (1, *port),
                    Serves::Tls(_) => (2, 0),
                };
                (Arc::clone(&listener.name), listener.addresses.clone(), listener.mode, kind)
            };
            policy.listeners().iter().map(place).collect()
        };
        let changes = [
            ("agent", self.agent() != next.agent()),
            ("listen", places(self) != places(next)),
            ("kernel", fixed(self) != fixed(next)),
            ("audit.origin", self.audit().origin != next.audit().origin),
            ("audit.queue", self.audit().queue != next.audit().queue),
            ("identity", self.identity() != next.identity()),
        ];
        changes.into_iter().filter(|(_, differs)| *differs).map(|(section, _)| section).collect()
    }
}

impl LoadError {
    /// What to do; problems carry their own hints.
    pub fn hint(&self) -> Option<&'static str> {
        let Self::Read { source, .. } = self else { return None };
        let hints = [
            (io::ErrorKind::InvalidData, "save it as UTF-8 text"),
            (io::ErrorKind::NotFound, "`enforcer init` writes a first one; --policy names another"),
            (io::ErrorKind::PermissionDenied, "run as root, or let the agent's user read it"),
        ];
        let known = hints.iter().find(|(kind, _)| *kind == source.kind());
        Some(known.map_or("--policy names another file", |(_, hint)| *hint))
    }
}

fn read_text(
    text: &str,
    file: &Path,
    lines: &Text<'_>,
    reads_files: bool,
    report: &mut Report,
) -> Option<Sections> {
    if text.len() > FILE_MAX {
        let message = format!("the file has more than {FILE_MAX} bytes");
        report.add(&TOO_LARGE, Span::default(), message, "split the host's services".to_owned());
        return None;
    }
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            let span = error.span().map(Span::from).unwrap_or_default();
            let hint = "the cause is here or shortly before".to_owned();
            report.add(&SYNTAX, span, format!("not TOML: {}", error.message()), hint);
            return None;
        }
    };
    let base = Base { folder: file.parent().unwrap_or(Path::new("")), text: lines, reads_files };
    let (sections, files) = read(&table, base, report);
    if reads_files {
        tls::check(&files, report);
    }
    sections
}

fn hex_sha256(bytes: &[u8]) -> Arc<str> {
    digest(&SHA256, bytes)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>()
        .into()
}
