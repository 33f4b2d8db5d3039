//! Where a request comes from, when trusted proxies stand in front.

use enforcer_inspect::{Disagreement, walk};
use enforcer_policy::Policy;
use http::HeaderMap;

use crate::entry::Origin;

/// The origin of one request of a connection; none where it is the connection's own.
///
/// A peer that `policy` does not trust says what it likes: its headers are not looked at, and go.
pub(crate) fn believed(
    origin: &Origin,
    headers: &HeaderMap,
    policy: &Policy,
) -> Result<Option<Origin>, Disagreement> {
    let Some(listener) = policy.listener(&origin.listener) else { return Ok(None) };
    let trusts = |address| listener.trusted.covering(address).is_some();
    if !trusts(origin.source.address()) {
        return Ok(None);
    }
    let walked = walk(headers, origin.source, |source| trusts(source.address()))?;
    Ok(walked.map(|walked| {
        let is_peer = walked.source() == origin.source;
        Origin {
            source: walked.source(),
            source_by: if is_peer { origin.source_by } else { Some(walked.by) },
            source_doubt: walked.doubt,
            forwarded_by: Some(walked.by),
            hops: walked.hops,
            ..origin.clone()
        }
    }))
}
