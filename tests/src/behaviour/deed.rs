//! One request of the made-up world.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use enforcer_detect::Request;
use enforcer_model::{RequestId, Source, Timestamp};

use super::world::ROLES;

/// A request, as small as can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deed {
    /// Second since 1970.
    pub at: u32,
    /// Whose it is.
    pub who: u32,
    /// Place of the role in [`ROLES`].
    pub role: usize,
    /// The /24 it comes from.
    pub network: u32,
    /// The TLS client.
    pub client: u32,
    /// Place of the route, and whether it writes.
    pub route: u16,
    /// Whether it writes.
    pub writes: bool,
    /// The object, if it is about one.
    pub object: Option<u64>,
    /// The answer.
    pub status: u16,
    /// Bytes of the answer.
    pub bytes: u32,
}

/// The texts that a request borrows.
#[derive(Debug, Default)]
pub struct Texts {
    identity: String,
    client: String,
    route: String,
    object: String,
    path: String,
}

impl Deed {
    /// The request as detection sees it.
    pub fn request<'a>(&self, texts: &'a mut Texts) -> Request<'a> {
        use std::fmt::Write as _;
        let texts_of = |text: &mut String, words: std::fmt::Arguments<'_>| {
            text.clear();
            text.write_fmt(words).unwrap_or_default();
        };
        texts_of(&mut texts.identity, format_args!("key:{:012}", self.who));
        texts_of(&mut texts.client, format_args!("t13d1516h2_{:012x}", self.client));
        texts_of(&mut texts.route, format_args!("route-{}", self.route));
        texts_of(&mut texts.path, format_args!("/v1/route-{}", self.route));
        if let Some(object) = self.object {
            texts_of(&mut texts.object, format_args!("{object}"));
            texts.path.push('/');
            texts.path.push_str(&texts.object);
        }
        let address = Ipv4Addr::from((self.network << 8) | 7);
        Request {
            at: Timestamp::from_unix_seconds(self.at.into()),
            id: RequestId::from_bits(u128::from(self.at) << 64 | u128::from(self.who)),
            source: Source::new(IpAddr::V4(address)),
            through: None,
            identity: Some(&texts.identity),
            role: ROLES.get(self.role).map(|role| role.name),
            credential: None,
            ja4: Some(&texts.client),
            user_agent: None,
            region: None,
            method: if self.writes { "POST" } else { "GET" },
            host: Some("api.example.com"),
            path: Some(&texts.path),
            route: Some(&texts.route),
            object: self.object.is_some().then_some(&*texts.object),
            status: self.status,
            reason: None,
            permitted: self.status < 400,
            upstream: None,
            bytes_in: 200,
            bytes_out: self.bytes.into(),
            exposed: enforcer_model::Exposed::default(),
            incident: 0,
            duration: Duration::from_millis(20),
        }
    }
}
