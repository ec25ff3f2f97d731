//! Where values lie and how many pictures run at a time: planned once, before the first batch.

use std::ops::Range;

use super::fuse::Step;
use crate::graph::NodeId;

/// Most pictures that one thread carries through the network together.
pub(super) const MOST_PICTURES: usize = 8;

/// Bytes that input, residual and output of a step may take, so that the next step finds them in
/// the second-level cache.
const CACHE_BYTES: usize = 1 << 20;

/// Where a kernel is too large for that cache, more pictures may pass it by together: as many as take
/// so many times its bytes, and no more than fit the third-level cache.
const PER_KERNEL_BYTE: usize = 2;
const LARGE_CACHE_BYTES: usize = 8 << 20;

/// Steps before and after one whose kernels count for it, too: what lies between large kernels
/// should not part them.
const NEIGHBOURS: usize = 2;

/// Where the output of a node lies while a group of pictures runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the n-th input.
    Input(usize),
    /// In the n-th output.
    Output(usize),
    /// Nowhere: the node is fused away.
    Nowhere,
    /// In a slot of the arena. `whole`: it holds the whole group, not only the pictures that the
    /// stage runs together.
    Slot { index: usize, whole: bool },
}

impl Place {
    /// Whether the value of every picture of the group has room of its own.
    pub(super) fn whole(self) -> bool {
        !matches!(self, Self::Slot { whole: false, .. })
    }
}

/// Steps that run with the same number of pictures at a time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stage {
    pub(super) steps: Range<usize>,
    pub(super) pictures: usize,
}

/// The plan of one thread's memory.
#[derive(Debug)]
pub(super) struct Schedule {
    pub(super) stages: Vec<Stage>,
    /// Per node.
    pub(super) places: Vec<Place>,
    /// Floats per slot.
    pub(super) slots: Vec<usize>,
}

impl Schedule {
    /// `elements` are the values per picture of each node's output.
    pub(super) fn plan(
        steps: &[Step],
        elements: &[usize],
        inputs: &[NodeId],
        outputs: &[NodeId],
    ) -> Self {
        let stages = stages(steps, elements);
        let mut places = vec![Place::Nowhere; elements.len()];
        for (index, &id) in inputs.iter().enumerate() {
            places[id] = Place::Input(index);
        }
        for (index, &id) in outputs.iter().enumerate() {
            places[id] = Place::Output(index);
        }
        let mut lives: Vec<Life> = steps
            .iter()
            .enumerate()
            .filter(|(_, step)| places[step.output] == Place::Nowhere)
            // Several steps fill a concatenation; it lives from the first of them on.
            .filter(|(index, step)| steps[..*index].iter().all(|it| it.output != step.output))
            .map(|(index, step)| Life::of(index, step.output, steps, &stages, elements))
            .collect();
        lives.sort_by_key(|life| life.steps.start);
        let mut slots: Vec<(usize, usize)> = Vec::new();
        for life in lives {
            let index = choose(&slots, &life).unwrap_or_else(|| {
                slots.push((0, 0));
                slots.len() - 1
            });
            let (floats, busy_until) = &mut slots[index];
            *floats = (*floats).max(life.floats);
            *busy_until = life.steps.end;
            let whole = life.whole;
            places[life.node] = Place::Slot { index, whole };
        }
        Self {
            stages,
            places,
            slots: slots.into_iter().map(|(floats, _)| floats).collect(),
        }
    }
}

/// The steps during which a value must keep its place.
struct Life {
    node: NodeId,
    steps: Range<usize>,
    floats: usize,
    whole: bool,
}

impl Life {
    fn of(born: usize, node: NodeId, steps: &[Step], stages: &[Stage], elements: &[usize]) -> Self {
        let reads = |step: &Step| step.input == node || step.residual == Some(node);
        let last = steps.iter().rposition(reads).unwrap_or(born);
        let stage = |step| stages.iter().find(|stage| stage.steps.contains(&step));
        match (stage(born), stage(last)) {
            (Some(first), Some(end)) if first != end => Self {
                node,
                // A stage runs several times for one group: the value lives through all of it.
                steps: first.steps.start..end.steps.end,
                floats: elements[node] * MOST_PICTURES,
                whole: true,
            },
            (own, _) => Self {
                node,
                steps: born..last + 1,
                floats: elements[node] * own.map_or(1, |stage| stage.pictures),
                whole: false,
            },
        }
    }
}

/// The free slot that fits best: the smallest that is large enough, else the largest.
fn choose(slots: &[(usize, usize)], life: &Life) -> Option<usize> {
    let free = || {
        let is_free =
            |&(_, &(_, busy_until)): &(usize, &(usize, usize))| busy_until <= life.steps.start;
        slots.iter().enumerate().filter(is_free)
    };
    free()
        .filter(|(_, (floats, _))| *floats >= life.floats)
        .min_by_key(|(_, (floats, _))| *floats)
        .or_else(|| free().max_by_key(|(_, (floats, _))| *floats))
        .map(|(index, _)| index)
}

/// Cuts the steps where more pictures fit in the cache: maps shrink on the way up, and kernels
/// are read once a group. A step never runs with more pictures than a later one.
fn stages(steps: &[Step], elements: &[usize]) -> Vec<Stage> {
    let kernels: Vec<usize> = steps.iter().map(Step::kernel_floats).collect();
    let mut limit = MOST_PICTURES;
    let mut pictures: Vec<usize> = steps
        .iter()
        .enumerate()
        .rev()
        .map(|(index, step)| {
            let residual = step.residual.map_or(0, |id| elements[id]);
            let floats = elements[step.input] + residual + elements[step.output];
            let near = index.saturating_sub(NEIGHBOURS)..(index + NEIGHBOURS + 1).min(steps.len());
            let kernel = kernels[near].iter().max().copied().unwrap_or(0);
            let room =
                (kernel * size_of::<f32>() * PER_KERNEL_BYTE).clamp(CACHE_BYTES, LARGE_CACHE_BYTES);
            let fit = room / (floats * size_of::<f32>()).max(1);
            let power = 1 << fit.max(1).ilog2();
            limit = limit.min(power);
            limit
        })
        .collect();
    pictures.reverse();
    let mut stages: Vec<Stage> = Vec::new();
    for (step, pictures) in pictures.into_iter().enumerate() {
        match stages.last_mut() {
            Some(stage) if stage.pictures == pictures => stage.steps.end = step + 1,
            _ => stages.push(Stage {
                steps: step..step + 1,
                pictures,
            }),
        }
    }
    stages
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::prefix::fuse::Kernel;
    use crate::ops::activation::Activation;

    fn chain(nodes: &[(usize, Option<usize>)]) -> Vec<Step> {
        let step = |(index, &(input, residual)): (usize, &(usize, Option<usize>))| Step {
            kernel: Kernel::Affine {
                scale: vec![],
                offset: vec![],
            },
            input,
            residual,
            activation: Activation::Linear,
            output: index + 1,
        };
        nodes.iter().enumerate().map(step).collect()
    }

    #[test]
    fn slots_are_reused_but_never_while_their_value_is_read() {
        // 0 -> 1 -> 2 -> 3 -> 4 (+ 1) -> 5
        let steps = chain(&[(0, None), (1, None), (2, None), (3, Some(1)), (4, None)]);
        let schedule = Schedule::plan(&steps, &[100; 6], &[0], &[5]);
        assert_eq!(schedule.slots.len(), 3);
        for step in &steps {
            let place = schedule.places[step.output];
            assert_ne!(place, schedule.places[step.input]);
            if let Some(residual) = step.residual {
                assert_ne!(place, schedule.places[residual]);
            }
        }
        assert_ne!(schedule.places[3], schedule.places[1]);
    }

    #[test]
    fn stages_grow_as_maps_shrink() {
        let steps = chain(&[(0, None), (1, None), (2, None), (3, None)]);
        let elements = [400_000, 200_000, 60_000, 1_000, 10];
        let schedule = Schedule::plan(&steps, &elements, &[0], &[4]);
        let groups: Vec<_> = schedule.stages.iter().map(|s| s.pictures).collect();
        assert_eq!(groups, [1, 4, 8]);
        assert!(
            schedule.places[2].whole(),
            "a value that crosses stages holds the whole group"
        );
    }
}
