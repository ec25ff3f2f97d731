//! Train, val, test: a function of content, shares and seed, never of the order of files.

use std::collections::BTreeMap;

use crate::records::Split;
use crate::rng;

/// Content hash of a picture.
pub type Hash = [u8; 32];

/// A class with fewer distinct pictures than splits to fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooFew {
    /// Index of the class.
    pub class: usize,
    /// Distinct pictures it has.
    pub have: usize,
    /// Splits with a share greater than 0.
    pub need: usize,
}

/// Exact ratios within every class. `pictures` holds label and content hash of each; equal hashes
/// (of one label) stay together. `shares` are those of train, val and test and sum to 1.
///
/// Counts are the shares of each class rounded up or down such that the totals over classes are
/// rounded shares of the whole too; after that every split with a share gets at least one picture
/// of every class, and a group of duplicates may shift a count by less than its size.
pub fn by_ratio(
    pictures: &[(usize, Hash)],
    shares: [f64; 3],
    seed: u64,
) -> Result<Vec<Split>, TooFew> {
    // Per class: content hash -> pictures with it.
    let mut classes: BTreeMap<usize, BTreeMap<Hash, Vec<usize>>> = BTreeMap::new();
    for (picture, (class, hash)) in pictures.iter().enumerate() {
        let groups = classes.entry(*class).or_default();
        groups.entry(*hash).or_default().push(picture);
    }
    let need = shares.iter().filter(|share| **share > 0.0).count();
    for (&class, groups) in &classes {
        let have = groups.len();
        if have < need {
            return Err(TooFew { class, have, need });
        }
    }
    let sizes: Vec<usize> = classes
        .values()
        .map(|groups| groups.values().map(Vec::len).sum())
        .collect();
    let counts = counts(&sizes, shares);
    let mut splits = vec![Split::Train; pictures.len()];
    for (groups, counts) in classes.values().zip(counts) {
        fill(groups, counts, seed, &mut splits);
    }
    Ok(splits)
}

/// The split of one content hash: the same whatever other pictures there are.
pub fn by_hash(hash: &Hash, shares: [f64; 3], seed: u64) -> Split {
    let total: f64 = shares.iter().sum();
    // 53 bits make an exact double in [0, 1).
    let place = (key(hash, seed) >> 11) as f64 / (1u64 << 53) as f64 * total;
    if place < shares[0] {
        Split::Train
    } else if place < shares[0] + shares[1] || shares[2] == 0.0 {
        Split::Val
    } else {
        Split::Test
    }
}

/// Which pictures stay when at most `most` of each class do: those of the lowest ranks, whatever
/// order they are found in. `pictures` holds label, content hash and path of each.
pub fn at_most(pictures: &[(usize, Hash, &str)], most: usize, seed: u64) -> Vec<bool> {
    let mut classes: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (picture, (class, ..)) in pictures.iter().enumerate() {
        classes.entry(*class).or_default().push(picture);
    }
    let mut stays = vec![true; pictures.len()];
    for mut members in classes.into_values() {
        members.sort_by_cached_key(|&picture| {
            let (_, hash, path) = pictures[picture];
            (rank(&hash, seed, "max_per_class"), hash, path)
        });
        for &picture in members.iter().skip(most) {
            stays[picture] = false;
        }
    }
    stays
}

/// Rank of a content hash under a seed.
fn key(hash: &Hash, seed: u64) -> u64 {
    rank(hash, seed, "split")
}

fn rank(hash: &Hash, seed: u64, purpose: &str) -> u64 {
    let words: [u64; 4] = std::array::from_fn(|word| {
        u64::from_le_bytes(std::array::from_fn(|byte| hash[8 * word + byte]))
    });
    rng::derive(seed, purpose, &words)
}

/// Pictures of each class in each split: rows sum to `sizes`, columns to the rounded shares of
/// the whole, and every cell is its exact share rounded up or down. Then no cell with a share is 0.
fn counts(sizes: &[usize], shares: [f64; 3]) -> Vec<[usize; 3]> {
    let sum: f64 = shares.iter().sum();
    let exact = |size: usize| shares.map(|share| size as f64 * share / sum);
    let mut cells: Vec<[usize; 3]> = sizes.iter().map(|&size| round(exact(size), size)).collect();
    let total = sizes.iter().sum();
    let target = round(exact(total), total);
    // Move single pictures from columns with too many to columns with too few, straight or over
    // the third column; each move lessens the error by one, and while there is an error there is
    // a move.
    loop {
        let column = |split: usize| cells.iter().map(|row| row[split]).sum::<usize>();
        let Some(from) = (0..3).find(|&split| column(split) > target[split]) else {
            break;
        };
        let Some(to) = (0..3).find(|&split| column(split) < target[split]) else {
            break;
        };
        let can = |row: usize, from: usize, to: usize| {
            let exact = exact(sizes[row]);
            cells[row][from] as f64 > exact[from] && (cells[row][to] as f64) < exact[to]
        };
        let find = |from, to| (0..cells.len()).find(|&row| can(row, from, to));
        let over = 3 - from - to;
        let moves = match find(from, to) {
            Some(row) => vec![(row, from, to)],
            None => match (find(from, over), find(over, to)) {
                (Some(first), Some(second)) => vec![(first, from, over), (second, over, to)],
                _ => break,
            },
        };
        for (row, from, to) in moves {
            cells[row][from] -= 1;
            cells[row][to] += 1;
        }
    }
    for row in &mut cells {
        for split in 0..3 {
            if shares[split] > 0.0 && row[split] == 0 {
                let largest = (0..3).max_by_key(|&other| (row[other], 3 - other));
                if let Some(largest) = largest.filter(|&other| row[other] > 1) {
                    row[largest] -= 1;
                    row[split] += 1;
                }
            }
        }
    }
    cells
}

/// Largest remainder: whole numbers next to `exact` that sum to `total`.
fn round(exact: [f64; 3], total: usize) -> [usize; 3] {
    // Shares such as 0.1 are not exact doubles: 999.9999999 is meant to be 1000.
    let mut whole = exact.map(|value| (value + 1e-9).floor() as usize);
    let mut order = [0, 1, 2];
    let rest = |split: usize| exact[split] - whole[split] as f64;
    order.sort_by(|&a, &b| rest(b).total_cmp(&rest(a)).then(a.cmp(&b)));
    let missing = total.saturating_sub(whole.iter().sum());
    for &split in order.iter().take(missing) {
        whole[split] += 1;
    }
    whole
}

/// Deals the groups of one class to the splits.
fn fill(groups: &BTreeMap<Hash, Vec<usize>>, counts: [usize; 3], seed: u64, splits: &mut [Split]) {
    let mut ranked: Vec<(u64, &Hash, &Vec<usize>)> = groups
        .iter()
        .map(|(hash, pictures)| (key(hash, seed), hash, pictures))
        .collect();
    // Groups of duplicates first, the largest leading, while there is room for them; then the
    // single pictures in the order of their keys.
    ranked.sort_by(|a, b| b.2.len().cmp(&a.2.len()).then((a.0, a.1).cmp(&(b.0, b.1))));
    let mut room = counts.map(|count| count as i64);
    let mut dealt: [Vec<&Vec<usize>>; 3] = Default::default();
    for (_, _, pictures) in ranked {
        // Single pictures fill the held-out splits first: any order would do, as keys are random.
        let split = match pictures.len() {
            1 => [2, 1, 0].into_iter().find(|&split| room[split] > 0),
            _ => None,
        };
        let split = split
            .or_else(|| (0..3).rev().max_by_key(|&split| room[split]))
            .unwrap_or(0);
        room[split] -= pictures.len() as i64;
        dealt[split].push(pictures);
    }
    // Groups may have left no picture for a split; then it gets the smallest of another's.
    for split in 0..3 {
        if counts[split] > 0 && dealt[split].is_empty() {
            let most = (0..3).rev().max_by_key(|&other| dealt[other].len());
            let spare = most.and_then(|most| dealt[most].pop());
            dealt[split].extend(spare);
        }
    }
    for (groups, split) in dealt.iter().zip(Split::ALL) {
        for &picture in groups.iter().copied().flatten() {
            splits[picture] = split;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NO_COPIES: usize = usize::MAX;

    fn hash(picture: u32) -> Hash {
        *blake3::hash(&picture.to_le_bytes()).as_bytes()
    }

    /// Pictures of classes of the given sizes; in every `copies` the second repeats the first.
    fn pictures(sizes: &[usize], copies: usize) -> Vec<(usize, Hash)> {
        let mut all = Vec::new();
        for (class, &size) in sizes.iter().enumerate() {
            for index in 0..size {
                let number = if index % copies == 1 && copies < NO_COPIES {
                    index - 1
                } else {
                    index
                };
                all.push((class, hash((class * 100_000 + number) as u32)));
            }
        }
        all
    }

    fn shares() -> impl Strategy<Value = [f64; 3]> {
        prop_oneof![
            Just([0.8, 0.1, 0.1]),
            Just([0.7, 0.3, 0.0]),
            Just([0.6, 0.25, 0.15]),
            Just([0.98, 0.01, 0.01]),
        ]
    }

    fn count(pictures: &[(usize, Hash)], splits: &[Split], class: usize, split: Split) -> usize {
        let pairs = pictures.iter().zip(splits);
        pairs
            .filter(|((c, _), s)| *c == class && **s == split)
            .count()
    }

    proptest! {
        #[test]
        fn the_order_of_files_does_not_matter(
            sizes in prop::collection::vec(6usize..60, 1..6),
            shares in shares(),
            seed in 0u64..1000,
            turn in 0usize..1000,
        ) {
            let forward = pictures(&sizes, 7);
            let mut turned = forward.clone();
            turned.reverse();
            let middle = turn % turned.len();
            turned.rotate_left(middle);
            let find = |all: &[(usize, Hash)]| -> BTreeMap<Hash, Split> {
                let splits = by_ratio(all, shares, seed).unwrap();
                all.iter().map(|(_, hash)| *hash).zip(splits).collect()
            };
            prop_assert_eq!(find(&forward), find(&turned));
        }

        #[test]
        fn counts_are_exact_by_class_and_overall(
            sizes in prop::collection::vec(100usize..500, 1..8),
            shares in shares(),
            seed in 0u64..1000,
        ) {
            let all = pictures(&sizes, NO_COPIES);
            let splits = by_ratio(&all, shares, seed).unwrap();
            let total: usize = sizes.iter().sum();
            for (share, split) in shares.into_iter().zip(Split::ALL) {
                let mut overall = 0;
                for (class, &size) in sizes.iter().enumerate() {
                    let got = count(&all, &splits, class, split);
                    overall += got;
                    prop_assert!((got as f64 - share * size as f64).abs() < 1.0);
                }
                prop_assert!((overall as f64 - share * total as f64).abs() < 1.0);
            }
        }

        #[test]
        fn duplicates_stay_together_and_no_split_is_empty(
            sizes in prop::collection::vec(8usize..60, 1..6),
            copies in 2usize..9,
            seed in 0u64..1000,
        ) {
            let all = pictures(&sizes, copies);
            let splits = by_ratio(&all, [0.8, 0.1, 0.1], seed).unwrap();
            let mut of: BTreeMap<Hash, Split> = BTreeMap::new();
            for ((_, hash), split) in all.iter().zip(&splits) {
                prop_assert_eq!(of.entry(*hash).or_insert(*split), split);
            }
            for class in 0..sizes.len() {
                for split in Split::ALL {
                    prop_assert!(count(&all, &splits, class, split) > 0);
                }
            }
        }
    }

    #[test]
    fn a_hash_split_keeps_every_picture_where_it_was() {
        let split = |n: u32| by_hash(&hash(n), [0.8, 0.1, 0.1], 3);
        let of: Vec<Split> = (0..10_000).map(split).collect();
        let share = |split| of.iter().filter(|s| **s == split).count() as f64 / 1e4;
        assert!((share(Split::Train) - 0.8).abs() < 0.015);
        assert!((share(Split::Test) - 0.1).abs() < 0.015);
        // Shifting the boundary between val and test moves nothing in or out of train.
        for (n, old) in of.iter().enumerate() {
            let new = by_hash(&hash(n as u32), [0.8, 0.2, 0.0], 3);
            assert_eq!(*old == Split::Train, new == Split::Train);
            assert_ne!(new, Split::Test);
        }
        assert_ne!(
            of,
            (0..10_000)
                .map(|n| by_hash(&hash(n), [0.8, 0.1, 0.1], 4))
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn seeds_give_different_splits_and_equal_ones_the_same() {
        let all = pictures(&[50, 50], NO_COPIES);
        let of = |seed| by_ratio(&all, [0.8, 0.1, 0.1], seed).unwrap();
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn the_same_few_stay_whatever_the_order() {
        let all = pictures(&[50, 3, 20], 7);
        let names: Vec<String> = (0..all.len()).map(|index| index.to_string()).collect();
        let named: Vec<(usize, Hash, &str)> = all
            .iter()
            .zip(&names)
            .map(|((class, hash), name)| (*class, *hash, name.as_str()))
            .collect();
        let of = |pictures: &[(usize, Hash, &str)], seed| -> Vec<String> {
            let stays = at_most(pictures, 10, seed);
            let stay = pictures.iter().zip(stays).filter(|(_, stays)| *stays);
            let mut stay: Vec<String> = stay.map(|((.., name), _)| (*name).to_owned()).collect();
            stay.sort();
            stay
        };
        let mut turned = named.clone();
        turned.reverse();
        assert_eq!(of(&named, 1), of(&turned, 1));
        assert_eq!(of(&named, 1).len(), 23);
        assert_ne!(of(&named, 1), of(&named, 2));
    }

    #[test]
    fn too_few_pictures_are_refused() {
        let all = pictures(&[5, 2], NO_COPIES);
        let refused = by_ratio(&all, [0.8, 0.1, 0.1], 1);
        assert_eq!(
            refused,
            Err(TooFew {
                class: 1,
                have: 2,
                need: 3
            })
        );
        assert!(by_ratio(&all, [0.8, 0.2, 0.0], 1).is_ok());
    }
}
