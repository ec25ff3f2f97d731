//! A pass over batches that ranks divide among them: in rounds, after each of which all have what each
//! has computed.

use std::ops::Range;

use super::feed::FeedError;
use crate::ranks::Ranks;

/// Batches of a rank in a round: few, so that what waits is little, and more than one, so that a slow
/// one holds up the others less.
const IN_A_ROUND: usize = 2;

/// Batches dealt out to ranks.
pub(super) struct Deal<'a> {
    ranks: &'a Ranks,
    order: &'a [Vec<usize>],
    each: usize,
}

impl<'a> Deal<'a> {
    /// One alone gets batch after batch.
    pub(super) fn new(ranks: &'a Ranks, order: &'a [Vec<usize>]) -> Self {
        let each = if ranks.is_alone() { 1 } else { IN_A_ROUND };
        Self { ranks, order, each }
    }

    /// The batches of this rank, of all rounds.
    pub(super) fn own(&self) -> Vec<Vec<usize>> {
        let own = self.rounds().flat_map(|(round, own)| &round[own]);
        own.cloned().collect()
    }

    fn rounds(&self) -> impl Iterator<Item = (&'a [Vec<usize>], Range<usize>)> {
        let rounds = self.order.chunks(self.each * self.ranks.count());
        rounds.map(|round| (round, self.ranks.part(round.len())))
    }

    /// Calls `compute` for each of this rank's batches, and `each` with the values of every batch, in
    /// order, on all ranks. A picture has so many `values`. Ends early, everywhere, if `stop` says so on
    /// any rank.
    pub(super) fn run<E: From<FeedError>>(
        &self,
        values: usize,
        mut compute: impl FnMut(&[usize]) -> Result<Vec<f32>, E>,
        mut each: impl FnMut(&[usize], &[f32]) -> Result<(), E>,
        stop: impl Fn() -> bool,
    ) -> Result<(), E> {
        let broken = |error| E::from(FeedError::from(error));
        for (round, own) in self.rounds() {
            let wanted = stop() || self.ranks.asked();
            if self.ranks.is_alone() && wanted {
                return Err(FeedError::Interrupted.into());
            }
            if wanted {
                self.ranks.ask();
            }
            let mut computed = Vec::new();
            for batch in &round[own] {
                computed.extend(compute(batch)?);
            }
            let all = self.ranks.gather_values(computed).map_err(broken)?;
            let mut rest = all.as_slice();
            for batch in round {
                let (of_batch, others) = rest
                    .split_at_checked(batch.len() * values)
                    .ok_or_else(short)?;
                each(batch, of_batch)?;
                rest = others;
            }
            if !self.ranks.is_alone() && self.ranks.agree(wanted).map_err(broken)? {
                return Err(FeedError::Interrupted.into());
            }
        }
        Ok(())
    }
}

fn short() -> FeedError {
    let message = "ranks do not agree on how many values a picture has";
    candle_core::Error::Msg(message.into()).into()
}
