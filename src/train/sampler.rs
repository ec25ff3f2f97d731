//! Which pictures an epoch has, and in which order; which of them validate.

use rand::seq::SliceRandom;

use crate::config::Sampling;
use crate::rng;

/// The order of a training split's pictures in every epoch.
#[derive(Debug, Clone)]
pub struct Sampler {
    sampling: Sampling,
    seed: u64,
    pictures: usize,
    /// Positions of the pictures of each class that has any.
    by_class: Vec<Vec<usize>>,
}

impl Sampler {
    /// For pictures of these classes, by position.
    pub fn new(sampling: Sampling, seed: u64, labels: &[usize]) -> Self {
        Self {
            sampling,
            seed,
            pictures: labels.len(),
            by_class: by_class(labels),
        }
    }

    /// The positions of an epoch, in order; those beyond the number of pictures are pictures over
    /// again, as [`super::feed::Feed`] understands them.
    pub fn order(&self, epoch: u64) -> Vec<usize> {
        let mut order = match self.sampling {
            Sampling::Shuffle => (0..self.pictures).collect(),
            Sampling::Balanced => self.balanced(epoch),
        };
        order.shuffle(&mut rng::stream(self.seed, "shuffle", &[epoch]));
        order
    }

    /// As many pictures as there are, the same number of every class; where that does not come
    /// out even, classes drawn for this epoch have one more. A class gives all its pictures as
    /// often as that is whole, and for the rest some of them drawn without replacement.
    fn balanced(&self, epoch: u64) -> Vec<usize> {
        let classes = self.by_class.len();
        let mut favoured: Vec<usize> = (0..classes).collect();
        favoured.shuffle(&mut rng::stream(self.seed, "balance classes", &[epoch]));
        let rest = self.pictures % classes.max(1);
        let mut drawn = Vec::with_capacity(self.pictures);
        for (rank, &class) in favoured.iter().enumerate() {
            let mut members = self.by_class[class].clone();
            let mut quota = self.pictures / classes + usize::from(rank < rest);
            let indices = [epoch, class as u64];
            members.shuffle(&mut rng::stream(self.seed, "balance", &indices));
            let mut copy = 0;
            while quota > 0 {
                let taken = quota.min(members.len());
                let again = members[..taken].iter();
                drawn.extend(again.map(|member| member + copy * self.pictures));
                quota -= taken;
                copy += 1;
            }
        }
        // The draw must not depend on the order of classes beyond what was drawn of each.
        drawn.sort_unstable();
        drawn
    }
}

/// So many positions of pictures with these labels, ascending: the classes in proportion, drawn
/// from the seed. All of them where there are no more.
pub fn stratified(labels: &[usize], count: usize, seed: u64) -> Vec<usize> {
    if count >= labels.len() {
        return (0..labels.len()).collect();
    }
    let classes = by_class(labels);
    let exact = |members: &Vec<usize>| (members.len() * count, labels.len());
    let mut quotas: Vec<usize> = classes
        .iter()
        .map(|members| {
            let (share, whole) = exact(members);
            share / whole
        })
        .collect();
    // Largest remainders first; between equals the earlier class.
    let mut by_remainder: Vec<usize> = (0..classes.len()).collect();
    by_remainder.sort_by_key(|&class| {
        let (share, whole) = exact(&classes[class]);
        std::cmp::Reverse(share % whole)
    });
    let missing = count - quotas.iter().sum::<usize>();
    for &class in by_remainder.iter().take(missing) {
        quotas[class] += 1;
    }
    let mut chosen = Vec::with_capacity(count);
    for (class, (mut members, quota)) in classes.into_iter().zip(quotas).enumerate() {
        members.shuffle(&mut rng::stream(seed, "validation", &[class as u64]));
        chosen.extend(&members[..quota]);
    }
    chosen.sort_unstable();
    chosen
}

fn by_class(labels: &[usize]) -> Vec<Vec<usize>> {
    let classes = labels.iter().max().map_or(0, |most| most + 1);
    let mut by_class = vec![Vec::new(); classes];
    for (position, &label) in labels.iter().enumerate() {
        by_class[label].push(position);
    }
    by_class.retain(|members| !members.is_empty());
    by_class
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 60, 25, 0, 12 and 3 pictures of five classes.
    fn labels() -> Vec<usize> {
        let counts = [60, 25, 0, 12, 3];
        let labels = counts.iter().enumerate();
        labels
            .flat_map(|(class, &count)| vec![class; count])
            .collect()
    }

    fn count(labels: &[usize], positions: &[usize]) -> [usize; 5] {
        let mut counts = [0; 5];
        for &position in positions {
            counts[labels[position % labels.len()]] += 1;
        }
        counts
    }

    #[test]
    fn a_shuffled_epoch_has_every_picture_once() {
        let sampler = Sampler::new(Sampling::Shuffle, 7, &labels());
        let [first, again, second] = [1, 1, 2].map(|epoch| sampler.order(epoch));
        assert_eq!(first, again);
        assert_ne!(first, second);
        let mut sorted = first;
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..100));
    }

    #[test]
    fn a_balanced_epoch_has_every_class_equally_often() {
        let labels = labels();
        let sampler = Sampler::new(Sampling::Balanced, 7, &labels);
        let mut seen = [0; 100];
        for epoch in 1..=40 {
            let order = sampler.order(epoch);
            assert_eq!(order, sampler.order(epoch));
            assert_eq!(count(&labels, &order), [25, 25, 0, 25, 25]);
            let mut times = [0; 100];
            for &position in &order {
                times[position % 100] += 1;
                seen[position % 100] += 1;
            }
            let mut distinct = order;
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), 100, "what comes again is a copy");
            assert!(
                times[..60].iter().all(|&times| times <= 1),
                "of a large class"
            );
            assert!(times[85..97].iter().all(|&times| times == 2 || times == 3));
            assert!(times[97..].iter().all(|&times| times == 8 || times == 9));
        }
        assert!(seen[..60].iter().all(|&times| times > 0), "all take part");
    }

    #[test]
    fn what_does_not_come_out_even_goes_to_other_classes_each_time() {
        let labels = [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2];
        let sampler = Sampler::new(Sampling::Balanced, 7, &labels);
        let mut totals = [0; 5];
        for epoch in 0..300 {
            let counts = count(&labels, &sampler.order(epoch));
            assert_eq!(counts.iter().sum::<usize>(), 11);
            assert!(counts[..3].iter().all(|&count| count == 3 || count == 4));
            for (total, count) in totals.iter_mut().zip(counts) {
                *total += count;
            }
        }
        let even = |total: &usize| (1050..=1150).contains(total);
        assert!(totals[..3].iter().all(even), "{totals:?}");
    }

    #[test]
    fn a_part_has_the_classes_in_proportion() {
        let labels = labels();
        let part = stratified(&labels, 40, 7);
        assert_eq!(count(&labels, &part), [24, 10, 0, 5, 1]);
        assert!(part.is_sorted());
        assert_eq!(part, stratified(&labels, 40, 7));
        assert_ne!(part, stratified(&labels, 40, 8));
        assert!(stratified(&labels, 100, 7).into_iter().eq(0..100));
    }
}
