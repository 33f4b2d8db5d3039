//! The forms of places: where clients are met, where requests go, and what certificates call them.

use std::net::SocketAddr;

use enforcer_notify::Permits;
use enforcer_upstream::{Target, TargetError};

use super::forms::{Form, NAME, NETWORK, Refused, brief};
use crate::parse::mode;

pub(crate) static ADDRESS: Form = Form {
    what: "an address with a port",
    example: "0.0.0.0:8443",
    pattern: "^(\\d{1,3}(\\.\\d{1,3}){3}|\\[[0-9A-Fa-f:.]+\\]):\\d{1,5}$",
    check: |text| match text.parse::<SocketAddr>() {
        Ok(_) => Ok(()),
        Err(_) => Err(not_an_address(text)),
    },
};

pub(crate) static PLACE: Form = Form {
    what: "an address with a port, or a Unix socket",
    example: "0.0.0.0:8443",
    pattern: "^(\\d{1,3}(\\.\\d{1,3}){3}:\\d{1,5}|\\[[0-9A-Fa-f:.]+\\]:\\d{1,5}|unix:.{1,90})$",
    check: |text| match text.strip_prefix("unix:") {
        // A socket's path has 108 bytes in the kernel, and its name gets a suffix while it is made.
        Some(path) if (1..=90).contains(&path.len()) && !path.contains('\0') => Ok(()),
        Some(_) => Err(Refused::with(
            format!("`{}` cannot be a Unix socket", brief(text)),
            "write `unix:` and a path of at most 90 bytes, such as `unix:/run/enforcer/api.sock`",
        )),
        None => (ADDRESS.check)(text),
    },
};

pub(crate) static MODE: Form = Form {
    what: "permissions of a file",
    example: "0660",
    pattern: "^0[0-7]{3}$",
    check: |text| match mode(text) {
        Some(_) => Ok(()),
        None => Err(Refused::with(
            format!("`{}` are no permissions", brief(text)),
            "write them in octal as `chmod` takes them, such as `0660`",
        )),
    },
};

pub(crate) static PROXIES: Form = Form {
    what: "a network, or the name of one",
    example: "10.0.0.0/8",
    pattern: "^([0-9A-Fa-f:.]+(/\\d{1,3})?|net:.+)$",
    check: |text| match text.strip_prefix("net:") {
        Some(name) => (NAME.check)(name),
        None => (NETWORK.check)(text),
    },
};

pub(crate) static PERMIT: Form = Form {
    what: "a network, or the name of a host",
    example: "10.0.0.7/32",
    pattern: "^([0-9A-Fa-f:.]+(/\\d{1,3})?|[A-Za-z0-9._-]{1,253})$",
    check: |text| match Permits::default().allow(text) {
        Ok(()) => Ok(()),
        Err(_) => Err(Refused::with(
            format!("`{}` is neither a network nor the name of a host", brief(text)),
            "write a network without host bits, such as `10.0.0.7/32`, or a name without wildcards",
        )),
    },
};

pub(crate) static HOST_ADDRESS: Form = Form {
    what: "a host with its port",
    example: "127.0.0.1:9000",
    pattern: "^(unix:/.+|[^\\s/]+:\\d{1,5})$",
    check: |text| match text.parse::<Target>() {
        Ok(_) => Ok(()),
        Err(TargetError::Malformed) => Err(Refused::with(
            format!("`{}` is not a host", brief(text)),
            "write an address or a name with a port, such as `10.0.4.2:8443`, `[::1]:9000` or \
             `orders.internal:8443`, or a socket: `unix:/run/orders.sock`",
        )),
        Err(error) => Err(Refused { message: format!("`{}`: {error}", brief(text)), hint: None }),
    },
};

pub(crate) static BALANCE: Form = Form {
    what: "a way to choose among hosts",
    example: "least-loaded",
    pattern: "^(least-loaded|round-robin)$",
    check: |text| match text {
        "least-loaded" | "round-robin" => Ok(()),
        _ => Err(Refused::with(
            format!("`{}` is not a way to choose among hosts", brief(text)),
            "write \"least-loaded\", \"round-robin\" or { hash = \"principal\" }",
        )),
    },
};

pub(crate) static HASH_KEY: Form = Form {
    what: "what requests have in common",
    example: "principal",
    pattern: "^(principal|ip|path|header\\.[!-~]+)$",
    check: |text| {
        let header = text.strip_prefix("header.").map(str::parse::<http::HeaderName>);
        match (text, header) {
            ("principal" | "ip" | "path", _) | (_, Some(Ok(_))) => Ok(()),
            (_, _) => Err(Refused::with(
                format!("`{}` is nothing that requests have in common", brief(text)),
                "one of principal, ip, path, or `header.NAME`",
            )),
        }
    },
};

pub(crate) static SERVER_NAME: Form = Form {
    what: "the name in a certificate",
    example: "orders.internal",
    pattern: "^[^\\s/]{1,253}$",
    check: |text| match rustls::pki_types::ServerName::try_from(text) {
        Ok(_) => Ok(()),
        Err(_) => Err(Refused::with(
            format!("`{}` is not a name that a certificate can show", brief(text)),
            "write a host name or an address, without a port",
        )),
    },
};

pub(crate) static TARGET: Form = Form {
    what: "a path with its query",
    example: "/healthz",
    pattern: "^/[!-~]*$",
    check: |text| match text.parse::<http::Uri>() {
        Ok(target) if text.starts_with('/') && target.authority().is_none() => Ok(()),
        Ok(_) | Err(_) => Err(Refused::with(
            format!("`{}` is not a path", brief(text)),
            "write it as it would be asked for, such as `/healthz?deep=1`",
        )),
    },
};

fn not_an_address(text: &str) -> Refused {
    Refused::with(
        format!("`{}` is not an address with a port", brief(text)),
        "write it as `192.0.2.1:8443` or `[2001:db8::1]:8443`; a listener has no name",
    )
}
