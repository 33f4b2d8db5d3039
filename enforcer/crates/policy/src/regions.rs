//! Which country an address is in: an operator's database (`.mmdb`), in memory.
//!
//! Read whole and verified when the policy is loaded, so that a look-up is a walk over bits that
//! cannot fail half-way. What the database does not know is unknown.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;

use maxminddb::{MaxMindDbError, PathElement, Reader, WithinOptions};

/// A country database.
pub(crate) struct Regions(Reader<Vec<u8>>);

/// The largest database that is read, in bytes.
pub(crate) const FILE_MAX: u64 = 512 << 20;

const COUNTRY: &[PathElement<'_>] = &[PathElement::Key("country"), PathElement::Key("iso_code")];

/// A file is no database that knows countries.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegionsError {
    #[error("it is not a database in MaxMind's format: {0}")]
    Format(#[from] MaxMindDbError),
    #[error("no address in it has a `country`")]
    NoCountry,
}

impl Regions {
    /// The database in `bytes`, every record of which was looked at.
    pub(crate) fn new(bytes: Vec<u8>) -> Result<Self, RegionsError> {
        let reader = Reader::from_source(bytes)?;
        let mut seen = HashSet::new();
        let mut countries = 0_usize;
        // A tree with a circle in it would have more networks than there are leaves.
        let most = usize::try_from(reader.metadata().node_count).unwrap_or(usize::MAX);
        for (n, network) in reader.networks(WithinOptions::default())?.enumerate() {
            if n > most.saturating_mul(2) {
                let circle = MaxMindDbError::invalid_database("its search tree has a circle");
                return Err(circle.into());
            }
            let found = network?;
            if found.offset().is_some_and(|offset| seen.insert(offset)) {
                countries += usize::from(found.decode_path::<&str>(COUNTRY)?.is_some());
            }
        }
        if countries == 0 { Err(RegionsError::NoCountry) } else { Ok(Self(reader)) }
    }

    /// The ISO 3166 code of the country, in two capital letters.
    pub(crate) fn of(&self, address: IpAddr) -> Option<&str> {
        let found = self.0.lookup(address.to_canonical()).ok()?;
        let code = found.decode_path::<&str>(COUNTRY).ok()??;
        let is_code = code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase());
        is_code.then_some(code)
    }
}

impl fmt::Debug for Regions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = self.0.metadata();
        write!(f, "Regions({}, {} nodes)", facts.database_type, facts.node_count)
    }
}
