//! Learning rates that the curve of a range test suggests.

use serde::Serialize;

use super::range::{End, Point, RangeTest, Sweep};

/// Steps that a test needs for a suggestion.
pub const FEWEST: usize = 20;

/// Of the first steps, one in so many says nothing: their mean is of few losses.
const WARMING_UP: usize = 10;
/// Nor do the last steps, where the loss explodes.
const EXPLODING: usize = 5;
/// Points that a curve needs.
const ENOUGH: usize = 8;
/// Less than this share of the loss is no descent,
const DESCENT: f64 = 0.03;
/// nor is less than so many deviations of the mean that the curve begins with: it is chance.
const DEVIATIONS: f64 = 2.0;

/// A rule that reads a rate off the curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Where the loss falls fastest with the logarithm of the rate.
    Steepest,
    /// In the middle of the longest descent.
    Valley,
    /// A tenth of the rate with the lowest loss.
    TenthOfMinimum,
}

impl Rule {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Steepest => "steepest",
            Self::Valley => "valley",
            Self::TenthOfMinimum => "minimum / 10",
        }
    }

    /// What it means.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Steepest => "where the loss falls fastest",
            Self::Valley => "in the middle of the longest descent",
            Self::TenthOfMinimum => "a tenth of the rate with the lowest loss",
        }
    }
}

/// A rate that a rule suggests.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Suggestion {
    /// The rule.
    pub rule: Rule,
    /// The rate.
    pub lr: f64,
    /// Smoothed loss there.
    pub loss: f64,
}

/// What a curve suggests.
#[derive(Debug, Clone, PartialEq)]
pub struct Suggestions {
    /// One of each rule.
    pub all: [Suggestion; 3],
    /// The rule to follow.
    pub recommended: Rule,
    /// Whether the loss was still falling at the last rate.
    pub still_falling: bool,
}

impl Suggestions {
    /// The suggestion of a rule.
    pub fn by(&self, rule: Rule) -> Suggestion {
        let found = self.all.iter().find(|it| it.rule == rule);
        *found.unwrap_or(&self.all[0])
    }
}

/// A curve that suggests nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Nothing {
    /// It ends, at this rate, before it is a curve.
    TooShort(f64),
    /// It goes up, to this rate, without having come down.
    Rises(f64),
    /// It goes neither up nor down: the share of the loss that it falls by at most.
    Flat(f64),
}

/// Reads a test's curve.
pub fn suggest(test: &RangeTest, sweep: Sweep) -> Result<Suggestions, Nothing> {
    let all = &test.points;
    let last = all.last().map_or(sweep.from, |point| point.lr);
    let end = all.len().saturating_sub(EXPLODING);
    let begin = (sweep.steps / WARMING_UP).min(end);
    let points = &all[begin..end];
    if points.len() < ENOUGH {
        return Err(Nothing::TooShort(last));
    }
    let lowest = minimum(points);
    let start = points[0].smoothed;
    let chance = DEVIATIONS * noise(&all[..=begin + lowest]) / (begin as f64 + 1.0).sqrt();
    let share = |loss: f64| loss / start.abs().max(f64::MIN_POSITIVE);
    let fall = share(start - points[lowest].smoothed);
    if fall < DESCENT.max(share(chance)) {
        return Err(match test.end {
            End::Through if points[points.len() - 1].smoothed < 2.0 * start => {
                Nothing::Flat(fall.max(0.0))
            }
            _ => Nothing::Rises(last),
        });
    }
    let at = |rule: Rule, index: usize| Suggestion {
        rule,
        lr: points[index].lr,
        loss: points[index].smoothed,
    };
    let tenth = points[lowest].lr / 10.0;
    let suggestions = [
        at(Rule::Steepest, steepest(points)),
        at(Rule::Valley, valley(points)),
        Suggestion {
            lr: tenth,
            ..at(Rule::TenthOfMinimum, nearest(points, tenth))
        },
    ];
    let [_, valley, tenth] = &suggestions;
    Ok(Suggestions {
        recommended: match valley.lr <= tenth.lr {
            true => Rule::Valley,
            // A descent so short that its middle is close to where the loss rises.
            false => Rule::TenthOfMinimum,
        },
        all: suggestions,
        still_falling: test.end == End::Through && lowest + 1 == points.len(),
    })
}

/// Deviation of the losses of steps, from the differences between neighbours.
fn noise(points: &[Point]) -> f64 {
    let squares = points
        .windows(2)
        .map(|pair| (pair[1].loss - pair[0].loss).powi(2));
    let pairs = points.len().saturating_sub(1).max(1);
    (squares.sum::<f64>() / (2 * pairs) as f64).sqrt()
}

/// Index of the lowest smoothed loss.
fn minimum(points: &[Point]) -> usize {
    let losses = points.iter().map(|point| point.smoothed).enumerate();
    let lowest = losses.min_by(|a, b| a.1.total_cmp(&b.1));
    lowest.map_or(0, |(index, _)| index)
}

/// Index before the largest fall of the loss by the logarithm of the rate.
fn steepest(points: &[Point]) -> usize {
    let slopes = points
        .windows(2)
        .map(|pair| (pair[1].smoothed - pair[0].smoothed) / (pair[1].lr.ln() - pair[0].lr.ln()));
    let steepest = slopes.enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
    steepest.map_or(0, |(index, _)| index)
}

/// Index of the rate nearest to one.
fn nearest(points: &[Point], lr: f64) -> usize {
    let distances = points.iter().map(|point| (point.lr - lr).abs()).enumerate();
    let nearest = distances.min_by(|a, b| a.1.total_cmp(&b.1));
    nearest.map_or(0, |(index, _)| index)
}

/// Index in the middle of the valley, as fastai finds it: of the sequences of points, neighbours or
/// not, whose losses fall from each to the next, the longest (the first of them) ends where the
/// valley does; that the valley is as long as the sequence has points tells where it begins; and a
/// third and half a third of the way down is the middle.
fn valley(points: &[Point]) -> usize {
    // Points of the longest falling sequence that ends at each.
    let mut lengths: Vec<usize> = Vec::with_capacity(points.len());
    let mut end = 0;
    for (index, point) in points.iter().enumerate() {
        let before = points[..index].iter().zip(&lengths);
        let higher = before.filter(|(other, _)| other.smoothed > point.smoothed);
        let longest = higher.map(|(_, length)| *length).max();
        lengths.push(longest.unwrap_or(0) + 1);
        if lengths[index] > lengths[end] {
            end = index;
        }
    }
    let length = lengths.get(end).copied().unwrap_or(0);
    let third = length / 3;
    // A sequence of all points begins one before the first.
    let middle = (end + third + length / 6).saturating_sub(length);
    middle.min(points.len().saturating_sub(1))
}

#[cfg(test)]
mod tests;
