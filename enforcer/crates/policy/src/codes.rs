//! The codes of a policy's problems and what there is to know about each.

use crate::problem::Severity;

/// One kind of problem.
#[derive(Debug)]
pub(crate) struct Code {
    pub(crate) name: &'static str,
    pub(crate) severity: Severity,
}

/// What there is to know about a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The code.
    pub code: &'static str,
    /// In a few words.
    pub title: &'static str,
    /// Why it matters and what to do.
    pub text: &'static str,
}

macro_rules! codes {
    ($( $name:ident = $code:literal $severity:ident $title:literal $text:literal; )+) => {
        $( pub(crate) static $name: Code =
            Code { name: $code, severity: Severity::$severity }; )+

        impl Explained {
            /// Every code, in order.
            pub const ALL: &[Self] =
                &[ $( Self { code: $code, title: $title, text: $text }, )+ ];
        }
    };
}

/// What the code `E-POL-NNN` means and what to do about it.
pub fn explain(code: &str) -> Option<&'static str> {
    let found = Explained::ALL.iter().find(|known| known.code.eq_ignore_ascii_case(code));
    found.map(|found| found.text)
}

codes! {
    INCOMPLETE = "E-POL-000" Error "could not be read"
        "A section gave no value and no reason. This is a fault of enforcer; the policy is not used. \
         Please report it with the file.";
    SYNTAX = "E-POL-001" Error "not TOML"
        "The file cannot be read as TOML, so nothing else in it was looked at. The place is where \
         reading stopped; the cause is there or shortly before it: a quote or bracket that is not \
         closed, a key or table that is defined twice, a word without quotes.";
    UNKNOWN_KEY = "E-POL-002" Error "unknown key"
        "No such key exists at this place. It is an error because a misspelt key would otherwise be \
         a rule that silently does not exist. Correct the name, move the key to its table, or \
         remove it.";
    MISSING_KEY = "E-POL-003" Error "missing key"
        "A key without which the policy has no meaning is absent and has no default.";
    WRONG_TYPE = "E-POL-004" Error "wrong type"
        "The value is of another type than the key takes. Spans of time, sizes, rates and addresses \
         are written in quotes, with their unit: \"10s\", \"1MiB\", \"100/s\". Counts and true or \
         false have no quotes.";
    WRONG_VALUE = "E-POL-005" Error "wrong value"
        "The value has the right type but not the form or range that the key takes. The message \
         says what is wrong, the hint how it is written.";
    NO_LISTENER = "E-POL-006" Error "no listener"
        "Without a listener nobody can be served. Add a table such as [listen.public] with an \
         address and the files of a certificate.";
    PLAIN_EXPOSED = "E-POL-007" Error "clear text for other hosts"
        "A listener without TLS sends keys and data in clear text. It may therefore listen on \
         loopback addresses only. Towards other hosts give it a certificate, or let it redirect to \
         https.";
    TLS_AND_REDIRECT = "E-POL-008" Error "TLS and redirect"
        "A listener that redirects to https speaks clear text, so a certificate has no use on it. \
         Make two listeners: one with tls, one with redirect, on different addresses.";
    ADDRESS_TWICE = "E-POL-009" Error "address twice"
        "One address and port can belong to one listener only.";
    UNKNOWN_NAME = "E-POL-010" Error "unknown name"
        "A role, limit, upstream, issuer, network, window or route is named that the policy does not \
         define. It is an error because a rule would otherwise be one that never decides.";
    NAME_TWICE = "E-POL-011" Error "name twice"
        "Names of routes and rules appear in metrics, records and commands, so each means one thing; \
         and an entry of a list does not stand in it twice.";
    OPEN_TO_NOBODY = "E-POL-012" Error "route for nobody"
        "A route says who may use it: at least one [[route.allow]], or public = true. With neither, \
         every request to it would be refused.";
    PUBLIC_WITH_ALLOW = "E-POL-013" Error "public route with rules"
        "A public route serves everybody, so its allow rules would never be asked. Remove the rules \
         or remove public; and look twice which of the two was meant.";
    PATTERNS_CONFLICT = "E-POL-014" Error "patterns in conflict"
        "Two routes would match the same paths and neither is narrower. At one place of the path \
         there can be any number of literal segments and one of {x} or {**}. Names inside the \
         braces make no difference.";
    KEY_LIMIT_ON_PUBLIC = "E-POL-015" Error "limit that cannot count"
        "A limit by key, principal, application, role or a claim counts callers. A public route does \
         not ask who the caller is, so the limit could not count as it says. Use one with by = \"ip\".";
    ROLE_CIRCLE = "E-POL-016" Error "roles in a circle"
        "Roles include each other in a circle, so all of them would be the same role. Remove one of \
         the includes.";
    TOO_LARGE = "E-POL-017" Error "policy too large"
        "A policy file has at most 8 MiB and 10,000 routes. Join routes under {x} or {**}.";
    UPSTREAM_IS_LISTENER = "E-POL-018" Error "upstream is a listener"
        "The address of an upstream is one where this agent itself listens: requests would circle \
         until the connections run out.";
    TLS_FILE = "E-POL-019" Error "TLS file cannot be read"
        "A certificate or key file is absent, too large, or the agent may not read it. Relative \
         paths are relative to the folder of the policy file.";
    TLS_PEM = "E-POL-020" Error "TLS file is not PEM"
        "Certificates and private keys are read as PEM: text between BEGIN and END lines. Convert \
         DER with `openssl x509` or `openssl pkey`; remove the passphrase of an encrypted key.";
    TLS_MISMATCH = "E-POL-021" Error "certificate and key do not match"
        "The private key does not belong to the first certificate of the file, or TLS cannot use it. \
         The file begins with the certificate of this host; those that vouch for it follow.";
    MISSING_PART = "E-POL-022" Error "half of a setting"
        "Some settings have a meaning only beside another: a burst with a rate, strict with a quota, \
         shed with concurrent, a flood threshold with the budget that newcomers then share, ports and \
         escalation with a budget, a lease with on_agent_loss = \"observe\". It is an error because \
         the half that stands there would do nothing.";
    TOO_MANY_NETWORKS = "E-POL-023" Error "more networks than the kernel takes"
        "Never-block lists and budget classes are looked up by longest prefix, in tables of 4,096 \
         networks for each family. Neighbours can be joined under a shorter prefix. Blocks have no \
         such limit: lists of a million networks go in with `enforcer blocks import`.";
    CONDITION = "E-POL-024" Error "condition not understood"
        "A condition holds a name that does not exist, compares what cannot be equal, or is not \
         written as conditions are: attributes such as ip, mtls, roles, claims.tenant or param.id, \
         compared with ==, !=, <, <=, >, >= or in, and joined with &&, ||, ! and parentheses. The \
         mark shows the part.";
    NO_REGIONS = "E-POL-025" Error "region without a database"
        "A condition or limit reads the region of an address, and the policy names no database that \
         knows one. It is refused rather than never true: add [region] with database = \"FILE\", a \
         country database in MaxMind's format.";
    FILE_UNREADABLE = "E-POL-026" Error "file cannot be read"
        "A file with keys, a secret, authorities or regions is absent, too large, or the agent may \
         not read it. Relative paths are relative to the folder of the policy file.";
    FILE_WRONG = "E-POL-027" Error "file holds something else"
        "A file does not hold what its key in the policy says: a JSON Web Key Set, a secret of at \
         least 32 bytes, PEM certificates, or a country database in MaxMind's format.";
    EXCLUDES = "E-POL-028" Error "settings that exclude each other"
        "Two settings contradict each other, so that one of them would not mean what it says: two \
         kinds of limit in one, two sources of keys, HS256 beside algorithms with public keys, a \
         caller's proof wanted on a public route, a rewrite of a path that must stay as it is.";
    OPT_OUT = "E-POL-029" Error "path that is refused"
        "A route's path has no canonical form, so that a service could read another path in it. Such \
         requests are refused, unless a route opts out with `paths` for just this path: without \
         {x} and {**}, to be matched and forwarded byte for byte.";
    STRIP_OUTSIDE = "E-POL-030" Error "prefix that is not there"
        "What a route strips must be the beginning of its own pattern, in literal segments; else a \
         request could match the route and not have the prefix.";
    ISSUER_TWICE = "E-POL-031" Error "issuer twice"
        "Two [issuer] entries name the same url, so nobody can say under which terms a token of it \
         is accepted. Make them one: it can have several audiences.";
    TOO_MANY = "E-POL-032" Error "too many"
        "The policy has more of something than a decision can look at in bounded time: 512 roles, \
         128 rules or 16 limits on a route, 64 issuers, 4,096 windows or sets of networks.";
    NEVER_ADMITS = "E-POL-033" Error "limit that admits nothing"
        "One request costs more than the limit holds at once, so that no request would ever be \
         admitted. Raise the burst or the quota, or lower the cost.";
    RESERVED = "E-POL-034" Error "name with a meaning"
        "`anonymous` and `all` stand for callers without a credential and for all limits wherever \
         roles and limits are named, so no role and no limit can have these names.";
    TEST_FORM = "E-POL-035" Error "test not understood"
        "A [[test]] is a request in a sentence, such as `GET api.example.com/v1/orders as reader from \
         203.0.113.9`, and the answer that is expected: `allow`, `allow: RULE`, `deny`, `deny: TEXT`, \
         `404` or `400: REASON`. The mark shows the part that was not understood.";
    DETECTION_RULE = "E-POL-036" Error "rule of detection not understood"
        "A file that `[detect] rules` names has a rule that is not understood: an unknown key, a condition \
         with a mistake, a threshold that can never be met. The message says the file, line and column; \
         `enforcer rules check FILE` shows the line itself.";
    UNUSED = "E-POL-101" Warning "unused"
        "Something is defined and nothing uses it. Often a route or rule names another one by \
         mistake.";
    SHADOWED = "E-POL-102" Warning "rule without effect"
        "The rule never decides: all that it allows is allowed by earlier rules of the route, or denied \
         by those that deny, or asks for a role that no credential gives together with what the route \
         requires.";
    CASE_TWINS = "E-POL-103" Warning "patterns that differ only in case"
        "Paths are compared with their case. An upstream that ignores case would answer a request \
         for one of them under the rules of the other.";
    GUARDS_EVERYTHING = "E-POL-104" Warning "never-block list covers everybody"
        "A network of length zero in a never-block list contains every address, so no block can be \
         made.";
    REDIRECT_WITHOUT_TLS = "E-POL-105" Warning "redirect to nowhere"
        "A listener redirects to https, and no listener of this policy speaks TLS. That is right only \
         when another program of this host answers on port 443.";
    NO_ROUTE = "E-POL-106" Warning "no route"
        "Without routes every request is answered with 404. The kernel part and the admin socket \
         work all the same.";
    KEY_EXPOSED = "E-POL-107" Warning "private key open to everybody"
        "The permissions of a private key's file let every user of the host read or change it.";
    STEPS = "E-POL-108" Warning "rate between two steps"
        "The kernel counts what a source sends in steps of a clock: 8 ns for packets, 4,096 ns for \
         TCP connections, 64 KiB for bytes at once. A rate between two steps is kept by the more \
         generous one. Where that is off by more than one in a hundred it is told, with the rates \
         that are kept exactly.";
    NO_EFFECT = "E-POL-109" Warning "setting without effect"
        "The setting changes nothing where it stands: an incident level that is no stricter than the \
         one below it, a factor on a limit that is no rate, an opt-out that the path does not need.";
    AUDIENCE_SHARED = "E-POL-110" Warning "two issuers with one audience"
        "Tokens of two issuers are accepted for the same audience. That is right when both are meant \
         to vouch for callers of this service; else one of them vouches for more than it should.";
    NEVER_TRUE = "E-POL-111" Warning "condition that is never true"
        "No request can make the condition true, so its rule never decides: two parts exclude each \
         other, or a value is compared with what it can never be.";
    ALWAYS_TRUE = "E-POL-112" Warning "condition that is always true"
        "Every request that the rule is about makes the condition true, so it asks for nothing. Often an \
         `||` stands where `&&` was meant.";
    FOR_NOBODY = "E-POL-113" Warning "route that nobody can use"
        "No request is ever answered by this route: what its rules ask for cannot be, is denied again, or \
         other routes take all of its requests.";
    OPEN_TO_ANYBODY = "E-POL-114" Warning "rules that ask for no credential"
        "The route is not public, and yet its rules would allow a request without any credential. Say \
         which was meant: a rule with a role or `!anonymous`, or public = true with rules that deny.";
    OVERLAP = "E-POL-115" Warning "looser route inside a stricter one"
        "A route lies inside the {**} of another and allows what the other would refuse. That is right \
         when it is an exception on purpose; the hint shows a request that it is about.";
    TEST_OF_NOTHING = "E-POL-116" Warning "test that names nothing"
        "The request of a [[test]] leads to no route, or names a role that the policy does not have, so \
         the test says nothing about the rules that it was written for.";
    UNDECIDED = "E-POL-117" Warning "not decided"
        "A question about all requests was not answered within its bound of work. Nothing is known to be \
         wrong there, and nothing is known to be right.";
}
