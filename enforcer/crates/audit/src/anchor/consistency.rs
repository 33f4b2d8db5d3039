//! That a tree continues another one: the consistency proofs of RFC 6962, section 2.1.2.

use crate::merkle::{Hash, Nodes, node_hash, range_root, sha256, split};

/// Hashes in the proof between the largest trees there can be.
pub(super) const PROOF_HASHES_MAX: usize = 63;

/// One tree is not shown to continue the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Inconsistent {
    /// The older tree is the larger one.
    #[error("the older tree is the larger one")]
    Order,
    /// The proof is not one between these sizes.
    #[error("the proof is not one between these sizes")]
    Proof,
    /// It leads to other roots.
    #[error("the trees do not continue one another: the log was forked")]
    Root,
}

/// The proof that the tree of the first `new` leaves continues that of the first `old`. Empty when
/// there is nothing to prove: from an empty tree, or between equal sizes.
pub(crate) fn consistency_path<N: Nodes>(
    nodes: &mut N,
    old: u64,
    new: u64,
) -> Result<Vec<Hash>, N::Error> {
    let mut path = Vec::new();
    if old == 0 || old >= new {
        return Ok(path);
    }
    let (mut from, mut until) = (0, new);
    // Down to the node at which the old tree ends; everything beside the way is part of the proof.
    while until != old {
        let middle = from + split(until - from);
        if old <= middle {
            path.push(range_root(nodes, middle, until)?);
            until = middle;
        } else {
            path.push(range_root(nodes, from, middle)?);
            from = middle;
        }
    }
    // The whole old tree is known to whoever asks.
    if from > 0 {
        path.push(range_root(nodes, from, until)?);
    }
    path.reverse();
    Ok(path)
}

/// Whether `path` shows that the tree of `new` leaves with the root `new_root` continues the one of
/// `old` leaves with `old_root` (RFC 9162, section 2.1.4.2).
pub fn verify_consistency(
    (old, old_root): (u64, Hash),
    (new, new_root): (u64, Hash),
    path: &[Hash],
) -> Result<(), Inconsistent> {
    if old > new {
        return Err(Inconsistent::Order);
    }
    if path.len() > PROOF_HASHES_MAX {
        return Err(Inconsistent::Proof);
    }
    let empty = sha256(&[]);
    if (old == 0 && old_root != empty) || (new == 0 && new_root != empty) {
        return Err(Inconsistent::Root);
    }
    if old == 0 || old == new {
        return match path {
            [] if old == 0 || old_root == new_root => Ok(()),
            [] => Err(Inconsistent::Root),
            [..] => Err(Inconsistent::Proof),
        };
    }
    // A perfect old tree is itself the first node, and stands in no proof.
    let (seed, rest) = if old.is_power_of_two() {
        (&old_root, path)
    } else {
        path.split_first().ok_or(Inconsistent::Proof)?
    };
    let (mut place, mut last) = (old - 1, new - 1);
    let inside = place.trailing_ones();
    (place, last) = (place >> inside, last >> inside);
    let (mut then, mut now) = (*seed, *seed);
    for sibling in rest {
        if last == 0 {
            return Err(Inconsistent::Proof);
        }
        if place % 2 == 1 || place == last {
            then = node_hash(sibling, &then);
            now = node_hash(sibling, &now);
            // A right edge without a sibling goes up unchanged. At zero there is nothing left of it.
            let unpaired = if place == 0 { 0 } else { place.trailing_zeros() };
            (place, last) = (place >> unpaired, last >> unpaired);
        } else {
            now = node_hash(&now, sibling);
        }
        (place, last) = (place >> 1, last >> 1);
    }
    match last {
        0 if then == old_root && now == new_root => Ok(()),
        0 => Err(Inconsistent::Root),
        _ => Err(Inconsistent::Proof),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;
    use crate::merkle::{Tree, leaf_hash, root_of};

    /// A tree of numbered leaves.
    struct Numbers;

    impl Nodes for Numbers {
        type Error = Infallible;

        fn node(&mut self, height: u32, index: u64) -> Result<Hash, Infallible> {
            let width = 1 << height;
            let leaves: Vec<_> = (index * width..(index + 1) * width).map(leaf).collect();
            Ok(root_of(&leaves))
        }
    }

    #[test]
    fn every_tree_is_shown_to_continue_every_smaller_one_and_no_other() {
        let roots: Vec<_> = (0..=40).map(root).collect();
        for new in 0..=40_u64 {
            for old in 0..=new {
                let path = consistency_path(&mut Numbers, old, new).unwrap();
                let (then, now) = ((old, at(&roots, old)), (new, at(&roots, new)));

                assert_eq!(verify_consistency(then, now, &path), Ok(()), "{old} to {new}");
                for other in (1..=40).filter(|other| *other != old && old > 0) {
                    let wrong = verify_consistency((old, at(&roots, other)), now, &path);
                    assert!(wrong.is_err(), "{other} as {old} to {new}");
                }
                for other in (0..=40).filter(|other| *other != new && old > 0) {
                    let wrong = verify_consistency(then, (new, at(&roots, other)), &path);
                    assert!(wrong.is_err(), "{old} to {other} as {new}");
                }
            }
        }
    }

    #[test]
    fn the_proofs_are_those_of_the_standard() {
        // RFC 6962, section 2.1.3: seven leaves; PROOF(3), PROOF(4) and PROOF(6).
        let node = |from, until| range_root(&mut Numbers, from, until).unwrap();
        let proof = |old| consistency_path(&mut Numbers, old, 7).unwrap();

        assert_eq!(proof(3), [node(2, 3), node(3, 4), node(0, 2), node(4, 7)]);
        assert_eq!(proof(4), [node(4, 7)]);
        assert_eq!(proof(6), [node(4, 6), node(6, 7), node(0, 4)]);
    }

    #[test]
    fn an_empty_tree_is_continued_by_any_and_needs_no_proof() {
        let empty = (0, sha256(&[]));

        assert_eq!(verify_consistency(empty, (5, root(5)), &[]), Ok(()));
        assert_eq!(verify_consistency(empty, (5, root(5)), &[[1; 32]]), Err(Inconsistent::Proof));
        assert_eq!(verify_consistency(empty, (0, [1; 32]), &[]), Err(Inconsistent::Root));
        assert_eq!(verify_consistency((0, [1; 32]), (5, root(5)), &[]), Err(Inconsistent::Root));
        assert_eq!(verify_consistency((6, root(6)), (5, root(5)), &[]), Err(Inconsistent::Order));
    }

    proptest! {
        #[test]
        fn a_proof_that_is_longer_shorter_or_altered_shows_nothing(
            old in 1..200_u64, more in 1..200_u64, place: prop::sample::Index, bit in 0..8_u32,
        ) {
            let new = old + more;
            let path = consistency_path(&mut Numbers, old, new).unwrap();
            let (then, now) = ((old, root(old)), (new, root(new)));
            prop_assert_eq!(verify_consistency(then, now, &path), Ok(()));

            let mut altered = path.clone();
            let place = place.index(path.len() * 32);
            altered[place / 32][place % 32] ^= 1 << bit;
            prop_assert!(verify_consistency(then, now, &altered).is_err());
            let longer = [path.as_slice(), &[[7; 32]]].concat();
            prop_assert!(verify_consistency(then, now, &longer).is_err());
            prop_assert!(verify_consistency(then, now, &path[..path.len() - 1]).is_err());
            prop_assert!(verify_consistency(then, now, &path[1..]).is_err());
        }

        #[test]
        fn no_proof_of_random_hashes_is_accepted(
            old in 1..u64::MAX, more in 1..u64::MAX, path in prop::collection::vec(any::<Hash>(), 0..70),
        ) {
            let new = old.saturating_add(more);
            prop_assert!(verify_consistency((old, [1; 32]), (new, [2; 32]), &path).is_err());
        }
    }

    fn leaf(number: u64) -> Hash {
        leaf_hash(&number.to_be_bytes())
    }

    fn root(size: u64) -> Hash {
        let mut tree = Tree::default();
        (0..size).for_each(|number| tree.append(leaf(number), |_tile| {}));
        tree.root()
    }

    fn at(roots: &[Hash], size: u64) -> Hash {
        roots[usize::try_from(size).unwrap()]
    }
}
