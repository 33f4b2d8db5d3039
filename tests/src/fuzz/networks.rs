//! Files of networks, as `enforcer blocks import` reads them.

use enforcer_admin::call::Networks;
use enforcer_admin::networks_file::{BAD_TOLD, HostBits, read_networks};
use enforcer_model::Prefix;

/// A file of networks.
///
/// It gives networks, or bad lines, each inside the file and the first ones told in their order;
/// never both. What is read is the same when it is written a line each and read again, and on the
/// wire. Clearing host bits gives no more bad lines than refusing them, and every network that was
/// read without.
pub fn networks_file(bytes: &[u8]) {
    let mut seen = 0;
    let refused = read_networks(bytes, HostBits::Refuse, &mut |bytes| {
        assert!(bytes >= seen, "read backwards");
        seen = bytes;
    });
    let masked = read_networks(bytes, HostBits::Mask, &mut |_| ());
    match (&refused, &masked) {
        (Ok(networks), Ok(same)) => {
            assert_eq!(networks, same);
            again(networks);
        }
        (Ok(_), Err(bad)) => panic!("only bad when host bits are cleared: {bad:?}"),
        (Err(bad), Ok(networks)) => {
            assert!(bad.total <= networks.len(), "more bad lines than networks");
            again(networks);
        }
        (Err(bad), Err(less)) => assert!(less.total <= bad.total),
    }
    for bad in [refused.err(), masked.err()].into_iter().flatten() {
        assert_eq!(bad.first.len(), bad.total.min(BAD_TOLD));
        assert!(bad.first.is_sorted_by_key(|bad| bad.line), "told out of order");
        let lines = bytes.split(|byte| *byte == b'\n').count();
        // A list in JSON counts its values, which may share a line.
        let most = lines.max(bytes.len());
        assert!(bad.first.iter().all(|bad| (1..=most).contains(&bad.line)), "{bad:?}");
    }
}

fn again(networks: &[Prefix]) {
    let lines: Vec<_> = networks.iter().map(ToString::to_string).collect();
    let read = read_networks(lines.join("\n").as_bytes(), HostBits::Refuse, &mut |_| ());
    assert_eq!(read.expect("what was read can be written"), networks);
    let wire = serde_json::to_string(&Networks(networks.to_vec())).expect("text is JSON");
    let read: Networks = serde_json::from_str(&wire).expect("what was written can be read");
    assert_eq!(read.0, networks);
}
