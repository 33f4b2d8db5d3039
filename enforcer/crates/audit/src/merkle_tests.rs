use std::convert::Infallible;

use proptest::prelude::*;

use super::*;

/// The leaves and roots that Certificate Transparency implementations share as test vectors.
const LEAVES: [&str; 8] = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
];
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

/// RFC 6962, section 2.1, word by word.
fn root_by_definition(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => sha256(&[]),
        [leaf] => *leaf,
        _ => {
            let middle = leaves.len().next_power_of_two() / 2;
            let (left, right) = leaves.split_at(middle);
            node_hash(&root_by_definition(left), &root_by_definition(right))
        }
    }
}

struct Leaves(Vec<Hash>);

impl Nodes for Leaves {
    type Error = Infallible;

    fn node(&mut self, height: u32, index: u64) -> Result<Hash, Infallible> {
        let width = 1 << height;
        let first = usize::try_from(index).unwrap() * width;
        Ok(root_by_definition(&self.0[first..first + width]))
    }
}

fn leaves(count: u64) -> Vec<Hash> {
    (0..count).map(|index| leaf_hash(&index.to_be_bytes())).collect()
}

fn tree(leaves: &[Hash]) -> Tree {
    let mut tree = Tree::default();
    leaves.iter().for_each(|leaf| tree.append(*leaf, |_| ()));
    tree
}

#[test]
fn the_shared_vectors_of_certificate_transparency_hold() {
    let mut tree = Tree::default();
    assert_eq!(hex(&tree.root()), ROOTS[0]);

    for (leaf, root) in LEAVES.iter().zip(&ROOTS[1..]) {
        tree.append(leaf_hash(&unhex(leaf)), |_| ());

        assert_eq!(hex(&tree.root()), *root, "size {}", tree.size());
    }
}

#[test]
fn every_inclusion_proof_of_every_tree_below_200_verifies_in_its_place_and_no_other() {
    let mut all = Leaves(leaves(200));
    for size in 1..200 {
        let root = tree(&all.0[..usize::try_from(size).unwrap()]).root();
        for index in 0..size {
            let Ok(path) = inclusion_path(&mut all, index, size);
            let leaf = all.0[usize::try_from(index).unwrap()];

            assert_eq!(root_from_inclusion(leaf, index, size, &path), Some(root));
            for other in [index ^ 1, index + 1, size] {
                assert_ne!(root_from_inclusion(leaf, other, size, &path), Some(root));
            }
            let short = path.split_last().map_or(&[][..], |(_, rest)| rest);
            if size > 1 {
                assert_ne!(root_from_inclusion(leaf, index, size, short), Some(root));
            }
            let long = [&path[..], &[root]].concat();
            assert_ne!(root_from_inclusion(leaf, index, size, &long), Some(root));
        }
    }
}

#[test]
fn tiles_are_those_of_the_specification() {
    // Its example: a tree of 70,000 has 273 full tiles and a partial one of 112 at level 0, one
    // full and a partial one of 17 at level 1, and a partial one of 1 at level 2.
    let all = leaves(70_000);
    let mut tree = Tree::default();
    let mut tiles = Vec::new();
    all.iter().for_each(|leaf| tree.append(*leaf, |tile| tiles.push(tile)));

    let full = |level| tiles.iter().filter(|tile| tile.level == level).count();
    assert_eq!([full(0), full(1), full(2)], [273, 1, 0]);
    assert_eq!(tree.partial().iter().map(Vec::len).collect::<Vec<_>>(), [112, 17, 1]);
    let last = tiles.iter().rfind(|tile| tile.level == 0).unwrap();
    assert_eq!((last.index, last.first(), last.end()), (272, 69_632, 69_888));
    assert_eq!(last.hashes, all[69_632..69_888]);
    assert_eq!(tree.partial()[1][16], root_of(&last.hashes));
}

#[test]
fn a_tree_is_not_resumed_with_tiles_of_another_size() {
    let tree = tree(&leaves(700));

    assert_eq!(Tree::resume(700, tree.partial().to_vec()), Some(tree.clone()));
    assert_eq!(Tree::resume(701, tree.partial().to_vec()), None);
    assert_eq!(Tree::resume(700, tree.partial()[..1].to_vec()), None);
}

proptest! {
    #[test]
    fn a_grown_a_resumed_and_a_defined_tree_have_one_root(size in 0..2_000u64, more in 0..600u64) {
        let all = leaves(size + more);
        let (now, later) = all.split_at(usize::try_from(size).unwrap());
        let grown = tree(now);
        let mut resumed = Tree::resume(size, grown.partial().to_vec()).unwrap();

        later.iter().for_each(|leaf| resumed.append(*leaf, |_| ()));

        prop_assert_eq!(&grown.root(), &root_by_definition(now));
        prop_assert_eq!(&resumed.root(), &root_by_definition(&all));
        prop_assert_eq!(resumed, tree(&all));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().as_chunks::<2>().0;
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.iter().map(byte).collect()
}
