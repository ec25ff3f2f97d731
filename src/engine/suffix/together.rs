//! A step of which this process computes some chunks: its part of what [`super::team`] describes.

use std::ops::Range;

use candle_core::{Result, Tensor, bail};

use super::plan::Plan;
use super::run::{Chunk, Compiled, Values};
use super::sums::{Spot, Sums};
use super::team::{self, Desk, Team};
use crate::engine::params::Params;
use crate::graph::Graph;

/// What a step that several processes share needs beside its chunks.
pub(super) struct Share<'a> {
    pub(super) team: &'a dyn Team,
    pub(super) desk: &'a Desk<'a>,
    /// Of what is joined within the step.
    pub(super) totals: &'a mut Sums,
}

impl Compiled {
    /// Which pictures of a batch this process of a team computes.
    pub(super) fn pictures(&self, batch: usize, team: &dyn Team) -> Range<usize> {
        let (size, _) = self.portions(batch);
        let Range { start, end } = team.part(batch.div_ceil(size));
        (start * size).min(batch)..(end * size).min(batch)
    }

    pub(super) fn exchanged(&self) -> usize {
        let blocks = self.program.blocks.iter();
        let exchanged = blocks.filter(|block| block.stage.is_some());
        exchanged.map(|block| block.values).sum()
    }

    /// The same with some of the chunks, and the totals of all.
    #[expect(clippy::type_complexity, reason = "three parts of one result")]
    pub(super) fn together(
        &self,
        graph: &Graph,
        plan: &Plan,
        params: &Params,
        step: &mut Values<'_>,
        team: &dyn Team,
    ) -> Result<(Vec<f32>, Vec<(String, Tensor)>, Vec<Sums>)> {
        let pictures = self.pictures(step.batch, team);
        step.offset = pictures.start;
        let (size, round) = self.portions(step.batch);
        let blocks = &self.program.blocks;
        let (desk, ready) = Desk::new(blocks, pictures.len().div_ceil(size));
        let mut totals = self.memory_of_sums();
        let (logits, statistics, memory) = std::thread::scope(|scope| {
            let hand_on = move || team::hand_on(team, blocks, &ready);
            let talk = scope.spawn(move || team::pledged(team, hand_on));
            let (logits, statistics, mut done) = team::pledged(team, || {
                let desk = desk;
                let mut done: Vec<Sums> = Vec::new();
                let (mut logits, mut statistics) = (Vec::new(), Vec::new());
                // A process without a chunk joins what the others have, too.
                let starts = std::iter::once(pictures.start);
                let starts = starts.chain(pictures.clone().step_by(round).skip(1));
                for first in starts {
                    let portion = first..(first + round).min(pictures.end);
                    let mut chunks = self.chunks(portion, size);
                    for chunk in &mut chunks {
                        chunk.index += done.len();
                    }
                    let share = Share {
                        team,
                        desk: &desk,
                        totals: &mut totals,
                    };
                    let run = self.run(graph, plan, params, step, &mut chunks, Some(share));
                    statistics.extend(run?);
                    for chunk in chunks {
                        logits.extend(chunk.logits);
                        done.push(chunk.sums);
                    }
                }
                let logits = team.gather(logits)?;
                team::take_totals(team, blocks, &mut totals)?;
                Ok((logits, statistics, done))
            })?;
            let talked = talk.join();
            let talked = talked.unwrap_or_else(|_| bail!("the exchange panicked"))?;
            for (block, parts) in talked {
                for (sums, part) in done.iter_mut().zip(parts) {
                    sums.blocks[block] = part;
                }
            }
            Ok::<_, candle_core::Error>((logits, statistics, done))
        })?;
        self.keep_sums(memory);
        Ok((logits, statistics, vec![totals]))
    }

    /// What the chunks of all processes have for a norm, one after the other.
    pub(super) fn parts(
        &self,
        norm: usize,
        spot: Spot,
        chunks: &[Chunk],
        share: Option<&Share<'_>>,
    ) -> Result<Vec<f32>> {
        let length = 2 * self.program.norms[norm].channels;
        let own = chunks.iter().flat_map(|chunk| chunk.sums.at(spot, length));
        let own: Vec<f32> = own.copied().collect();
        match share {
            Some(share) => share.team.gather(own),
            None => Ok(own),
        }
    }
}
