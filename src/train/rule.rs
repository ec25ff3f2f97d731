//! The formulas of the optimizers: one step of one parameter, on slices and on tensors.

use candle_core::{Result, Tensor};

use crate::config::OptimizerConfig;
use crate::engine::suffix::{self, RuleKind};

/// Most moments that any rule keeps for a parameter.
pub(super) const MAX_MOMENTS: usize = 3;

/// A rule with the numbers of one step filled in; all combined in f64, as PyTorch does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    Sgd {
        lr: f64,
        momentum: f64,
        nesterov: bool,
        l2: f64,
    },
    Rmsprop {
        lr: f64,
        rho: f64,
        momentum: f64,
        epsilon: f64,
        centered: bool,
        l2: f64,
    },
    Adam {
        /// Learning rate over the first moment's bias correction.
        rate: f64,
        /// Root of the second moment's bias correction.
        correction: f64,
        beta1: f64,
        beta2: f64,
        epsilon: f64,
        l2: f64,
        /// What decoupled weight decay leaves of a parameter.
        keep: f64,
    },
}

impl Rule {
    /// Names of the moments that a rule keeps, in the order in which it takes them.
    pub(super) fn moments(config: &OptimizerConfig) -> &'static [&'static str] {
        match *config {
            OptimizerConfig::Sgd { momentum: 0.0, .. } => &[],
            OptimizerConfig::Sgd { .. } => &["momentum"],
            OptimizerConfig::Rmsprop {
                momentum, centered, ..
            } => match (momentum > 0.0, centered) {
                (false, false) => &["square"],
                (false, true) => &["square", "mean"],
                (true, false) => &["square", "momentum"],
                (true, true) => &["square", "mean", "momentum"],
            },
            OptimizerConfig::Adam { .. } | OptimizerConfig::Adamw { .. } => &["m", "v"],
        }
    }

    /// The rule for step number `step`, counted from 1.
    pub(super) fn new(config: &OptimizerConfig, lr: f64, step: u64) -> Self {
        let adam = |beta1: f64, beta2: f64, epsilon, l2, keep| Self::Adam {
            rate: lr / (1.0 - beta1.powf(step as f64)),
            correction: (1.0 - beta2.powf(step as f64)).sqrt(),
            beta1,
            beta2,
            epsilon,
            l2,
            keep,
        };
        match *config {
            OptimizerConfig::Sgd {
                momentum,
                nesterov,
                weight_decay: l2,
                ..
            } => Self::Sgd {
                lr,
                momentum,
                nesterov,
                l2,
            },
            OptimizerConfig::Rmsprop {
                rho,
                momentum,
                epsilon,
                centered,
                weight_decay: l2,
                ..
            } => Self::Rmsprop {
                lr,
                rho,
                momentum,
                epsilon,
                centered,
                l2,
            },
            OptimizerConfig::Adam {
                beta1,
                beta2,
                epsilon,
                weight_decay,
                ..
            } => adam(beta1, beta2, epsilon, weight_decay, 1.0),
            OptimizerConfig::Adamw {
                beta1,
                beta2,
                epsilon,
                weight_decay,
                ..
            } => adam(beta1, beta2, epsilon, 0.0, 1.0 - lr * weight_decay),
        }
    }

    /// The numbers of the same step on a GPU, for a rule that keeps so many moments.
    pub(super) fn there(&self, moments: usize) -> suffix::Rule {
        let moments = moments as i32;
        match *self {
            Self::Sgd {
                lr,
                momentum,
                nesterov,
                l2,
            } => suffix::Rule {
                kind: RuleKind::Sgd as i32,
                moments,
                nesterov: i32::from(nesterov),
                lr: lr as f32,
                momentum: momentum as f32,
                l2: l2 as f32,
                ..suffix::Rule::default()
            },
            Self::Rmsprop {
                lr,
                rho,
                momentum,
                epsilon,
                centered,
                l2,
            } => suffix::Rule {
                kind: RuleKind::Rmsprop as i32,
                moments,
                centered: i32::from(centered),
                lr: lr as f32,
                rho: rho as f32,
                share: (1.0 - rho) as f32,
                momentum: momentum as f32,
                epsilon: epsilon as f32,
                l2: l2 as f32,
                ..suffix::Rule::default()
            },
            Self::Adam {
                rate,
                correction,
                beta1,
                beta2,
                epsilon,
                l2,
                keep,
            } => suffix::Rule {
                kind: RuleKind::Adam as i32,
                moments,
                lr: rate as f32,
                correction: correction as f32,
                share1: (1.0 - beta1) as f32,
                rho: beta2 as f32,
                share: (1.0 - beta2) as f32,
                epsilon: epsilon as f32,
                l2: l2 as f32,
                keep: keep as f32,
                ..suffix::Rule::default()
            },
        }
    }

    /// Updates one chunk; moments that the rule does not keep are empty.
    pub(super) fn apply(
        &self,
        value: &[f32],
        gradient: &[f32],
        [first, second, third]: [&mut [f32]; MAX_MOMENTS],
        updated: &mut [f32],
    ) {
        let inputs = value.iter().zip(gradient).zip(updated);
        match *self {
            Self::Sgd {
                lr,
                momentum,
                nesterov,
                l2,
            } => {
                let (lr, momentum, l2) = (lr as f32, momentum as f32, l2 as f32);
                if first.is_empty() {
                    for ((&p, &g), new) in inputs {
                        *new = p - lr * (g + l2 * p);
                    }
                    return;
                }
                for (((&p, &g), new), velocity) in inputs.zip(first) {
                    let g = g + l2 * p;
                    *velocity = momentum * *velocity + g;
                    let direction = if nesterov {
                        g + momentum * *velocity
                    } else {
                        *velocity
                    };
                    *new = p - lr * direction;
                }
            }
            Self::Rmsprop {
                lr,
                rho,
                momentum,
                epsilon,
                centered,
                l2,
            } => {
                let (share, rho) = ((1.0 - rho) as f32, rho as f32);
                let (lr, epsilon, l2) = (lr as f32, epsilon as f32, l2 as f32);
                let direction = |p: f32, g: f32, square: &mut f32| {
                    let g = g + l2 * p;
                    *square = rho * *square + share * g * g;
                    g
                };
                let (mean, velocity) = if centered {
                    (second, third)
                } else {
                    (third, second)
                };
                // Every combination is a loop of its own, so that each is vectorised.
                match (centered, momentum > 0.0) {
                    (false, false) => {
                        for (((&p, &g), new), square) in inputs.zip(first) {
                            let g = direction(p, g, square);
                            *new = p - lr * (g / (square.sqrt() + epsilon));
                        }
                    }
                    (true, false) => {
                        for ((((&p, &g), new), square), mean) in inputs.zip(first).zip(mean) {
                            let g = direction(p, g, square);
                            *mean += share * (g - *mean);
                            *new = p - lr * (g / (spread(*square, *mean) + epsilon));
                        }
                    }
                    (false, true) => {
                        let momentum = momentum as f32;
                        for ((((&p, &g), new), square), velocity) in inputs.zip(first).zip(velocity)
                        {
                            let g = direction(p, g, square);
                            *velocity = momentum * *velocity + g / (square.sqrt() + epsilon);
                            *new = p - lr * *velocity;
                        }
                    }
                    (true, true) => {
                        let momentum = momentum as f32;
                        for (((((&p, &g), new), square), mean), velocity) in
                            inputs.zip(first).zip(mean).zip(velocity)
                        {
                            let g = direction(p, g, square);
                            *mean += share * (g - *mean);
                            let scaled = g / (spread(*square, *mean) + epsilon);
                            *velocity = momentum * *velocity + scaled;
                            *new = p - lr * *velocity;
                        }
                    }
                }
            }
            Self::Adam {
                rate,
                correction,
                beta1,
                beta2,
                epsilon,
                l2,
                keep,
            } => {
                let (share1, share2) = ((1.0 - beta1) as f32, (1.0 - beta2) as f32);
                let (rate, correction, beta2) = (rate as f32, correction as f32, beta2 as f32);
                let (epsilon, l2, keep) = (epsilon as f32, l2 as f32, keep as f32);
                for ((((&p, &g), new), mean), square) in inputs.zip(first).zip(second) {
                    let g = g + l2 * p;
                    *mean += share1 * (g - *mean);
                    *square = beta2 * *square + share2 * g * g;
                    *new = keep * p - rate * (*mean / (square.sqrt() / correction + epsilon));
                }
            }
        }
    }

    /// The same with tensor operations, for devices other than the CPU; returns the new value.
    pub(super) fn apply_tensors(
        &self,
        value: &Tensor,
        gradient: &Tensor,
        moments: &mut [Tensor],
    ) -> Result<Tensor> {
        match *self {
            Self::Sgd {
                lr,
                momentum,
                nesterov,
                l2,
            } => {
                let g = (gradient + (value * l2)?)?;
                let direction = match moments {
                    [velocity, ..] => {
                        *velocity = ((&*velocity * momentum)? + &g)?;
                        if nesterov {
                            (g + (&*velocity * momentum)?)?
                        } else {
                            velocity.clone()
                        }
                    }
                    [] => g,
                };
                value - (direction * lr)?
            }
            Self::Rmsprop {
                lr,
                rho,
                momentum,
                epsilon,
                centered,
                l2,
            } => {
                let g = (gradient + (value * l2)?)?;
                moments[0] = ((&moments[0] * rho)? + (g.sqr()? * (1.0 - rho))?)?;
                let variance = if centered {
                    moments[1] = (&moments[1] + ((&g - &moments[1])? * (1.0 - rho))?)?;
                    (&moments[0] - moments[1].sqr()?)?.relu()?
                } else {
                    moments[0].clone()
                };
                let mut direction = (g / (variance.sqrt()? + epsilon)?)?;
                if momentum > 0.0
                    && let Some(velocity) = moments.last_mut()
                {
                    direction = ((&*velocity * momentum)? + direction)?;
                    *velocity = direction.clone();
                }
                value - (direction * lr)?
            }
            Self::Adam {
                rate,
                correction,
                beta1,
                beta2,
                epsilon,
                l2,
                keep,
            } => {
                let g = (gradient + (value * l2)?)?;
                moments[0] = (&moments[0] + ((&g - &moments[0])? * (1.0 - beta1))?)?;
                moments[1] = ((&moments[1] * beta2)? + (g.sqr()? * (1.0 - beta2))?)?;
                let root = ((moments[1].sqrt()? * (1.0 / correction))? + epsilon)?;
                (value * keep)? - ((&moments[0] / root)? * rate)?
            }
        }
    }
}

/// Standard deviation from the mean square and the mean. Rounding can push the difference a little
/// below 0, where PyTorch's root is not a number; here it is 0.
fn spread(square: f32, mean: f32) -> f32 {
    (square - mean * mean).max(0.0).sqrt()
}
