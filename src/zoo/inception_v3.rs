//! Inception-v3 (Szegedy et al., 2016), <https://arxiv.org/abs/1512.00567>; its auxiliary
//! classifier is in `auxiliary.rs`. Layer names and order are those of keras.applications: unnamed
//! layers are numbered as they are made, and listed by their depth below the end of their block.

use super::auxiliary;
use super::parts::{self, conv, same, window};
use super::registry::{Family, Pretrained};
use crate::config::{Flavour, Interpolation, NormalizeName};
use crate::geometry::Window;
use crate::graph::{GraphBuilder, GraphError, NodeId, Op};

pub(super) const FAMILY: Family = Family {
    name: "inception_v3",
    title: "Inception-v3 (Szegedy et al., 2016)",
    default_size: 299,
    crop: 0.875,
    interpolation: Interpolation::Bicubic,
    normalize: |_| NormalizeName::MinusOneOne,
    widths: None,
    default_weights: &[Pretrained {
        width: 1.0,
        id: "timm/inception_v3.tv_in1k",
        licence: "Apache-2.0",
    }],
    build: |builder, _, flavour| build(builder, flavour),
    classify: |builder, classes, _| parts::classify(builder, "avg_pool", classes),
    auxiliaries: auxiliary::INCEPTION_V3,
};

/// A step of a branch.
#[derive(Clone, Copy)]
enum Part {
    /// Convolution, batch norm and ReLU: filters and window.
    Conv(usize, Window),
    /// 3 x 3 of stride 2.
    MaxPool,
    /// 3 x 3 of stride 1.
    AvgPool,
    /// Two convolutions of the same input side by side, 1 x 3 and 3 x 1, joined.
    Fork(usize),
}

use Part::{AvgPool, Conv, Fork, MaxPool};

fn build(builder: &mut GraphBuilder, flavour: Flavour) -> Result<(), GraphError> {
    let mut net = Net::new(builder, flavour);
    net.block(
        None,
        &[&[
            Conv(32, window(3, 2, 0)),
            Conv(32, window(3, 1, 0)),
            Conv(64, same([3, 3])),
            MaxPool,
            Conv(80, Window::POINT),
            Conv(192, window(3, 1, 0)),
            MaxPool,
        ]],
    )?;
    for (index, pooled) in [32, 64, 64].into_iter().enumerate() {
        net.block(
            Some(&format!("mixed{index}")),
            &[
                &[Conv(64, Window::POINT)],
                &[Conv(48, Window::POINT), Conv(64, same([5, 5]))],
                &[
                    Conv(64, Window::POINT),
                    Conv(96, same([3, 3])),
                    Conv(96, same([3, 3])),
                ],
                &[AvgPool, Conv(pooled, Window::POINT)],
            ],
        )?;
    }
    net.block(
        Some("mixed3"),
        &[
            &[Conv(384, window(3, 2, 0))],
            &[
                Conv(64, Window::POINT),
                Conv(96, same([3, 3])),
                Conv(96, window(3, 2, 0)),
            ],
            &[MaxPool],
        ],
    )?;
    let (row, column) = (same([1, 7]), same([7, 1]));
    for (index, narrow) in (4..).zip([128, 160, 160, 192]) {
        net.block(
            Some(&format!("mixed{index}")),
            &[
                &[Conv(192, Window::POINT)],
                &[
                    Conv(narrow, Window::POINT),
                    Conv(narrow, row),
                    Conv(192, column),
                ],
                &[
                    Conv(narrow, Window::POINT),
                    Conv(narrow, column),
                    Conv(narrow, row),
                    Conv(narrow, column),
                    Conv(192, row),
                ],
                &[AvgPool, Conv(192, Window::POINT)],
            ],
        )?;
    }
    net.block(
        Some("mixed8"),
        &[
            &[Conv(192, Window::POINT), Conv(320, window(3, 2, 0))],
            &[
                Conv(192, Window::POINT),
                Conv(192, row),
                Conv(192, column),
                Conv(192, window(3, 2, 0)),
            ],
            &[MaxPool],
        ],
    )?;
    for index in [9, 10] {
        net.block(
            Some(&format!("mixed{index}")),
            &[
                &[Conv(320, Window::POINT)],
                &[Conv(384, Window::POINT), Fork(384)],
                &[Conv(448, Window::POINT), Conv(384, same([3, 3])), Fork(384)],
                &[AvgPool, Conv(192, Window::POINT)],
            ],
        )?;
    }
    Ok(())
}

/// A node of a block before the block is listed: positions in the block as inputs, none for the
/// block's own.
struct Draft {
    name: String,
    op: Op,
    inputs: Vec<usize>,
    /// Longest way to the end of the block.
    depth: usize,
}

struct Net<'a> {
    builder: &'a mut GraphBuilder,
    flavour: Flavour,
    convolutions: usize,
    max_pools: usize,
    avg_pools: usize,
    forks: usize,
}

impl<'a> Net<'a> {
    fn new(builder: &'a mut GraphBuilder, flavour: Flavour) -> Self {
        Self {
            builder,
            flavour,
            convolutions: 0,
            max_pools: 0,
            avg_pools: 0,
            forks: 0,
        }
    }

    /// Branches from the last node, joined in the node of that name; without one, a single branch.
    fn block(&mut self, name: Option<&str>, branches: &[&[Part]]) -> Result<(), GraphError> {
        let mut drafts = Vec::new();
        let ends: Vec<usize> = branches
            .iter()
            .map(|branch| self.branch(branch, &mut drafts))
            .collect();
        if let Some(name) = name {
            push(&mut drafts, name.into(), Op::Concat, ends);
        }
        self.list(drafts)
    }

    /// Drafts a branch; returns its last position.
    fn branch(&mut self, parts: &[Part], drafts: &mut Vec<Draft>) -> usize {
        let mut last: Option<usize> = None;
        for part in parts {
            let inputs: Vec<usize> = last.into_iter().collect();
            last = Some(match *part {
                Conv(filters, window) => self.conv(filters, window, inputs, drafts),
                MaxPool => {
                    let name = numbered("max_pooling2d", next(&mut self.max_pools));
                    let window = window(3, 2, 0);
                    push(drafts, name, Op::MaxPool { window }, inputs)
                }
                AvgPool => {
                    let name = numbered("average_pooling2d", next(&mut self.avg_pools));
                    let op = Op::AvgPool {
                        window: same([3, 3]),
                        count_include_pad: self.flavour == Flavour::Torch,
                    };
                    push(drafts, name, op, inputs)
                }
                Fork(filters) => {
                    let row = self.conv(filters, same([1, 3]), inputs.clone(), drafts);
                    let column = self.conv(filters, same([3, 1]), inputs, drafts);
                    // Keras names the fork of the first branch and numbers that of the second.
                    let fork = next(&mut self.forks);
                    let name = match fork % 2 {
                        0 => format!("mixed9_{}", fork / 2),
                        _ => numbered("concatenate", fork / 2),
                    };
                    push(drafts, name, Op::Concat, vec![row, column])
                }
            });
        }
        last.unwrap_or_default()
    }

    fn conv(
        &mut self,
        filters: usize,
        window: Window,
        inputs: Vec<usize>,
        drafts: &mut Vec<Draft>,
    ) -> usize {
        let number = next(&mut self.convolutions);
        let named = |kind: &str| numbered(kind, number);
        let norm = parts::norm_of_inceptions(self.flavour, self.flavour == Flavour::Torch);
        let x = push(drafts, named("conv2d"), conv(filters, window), inputs);
        let x = push(drafts, named("batch_normalization"), norm, vec![x]);
        push(drafts, named("activation"), Op::RELU, vec![x])
    }

    /// Appends the nodes of a block, deepest first; equally deep ones in the order of the drafts.
    fn list(&mut self, mut drafts: Vec<Draft>) -> Result<(), GraphError> {
        for at in (0..drafts.len()).rev() {
            let depth = drafts[at].depth + 1;
            for input in drafts[at].inputs.clone() {
                drafts[input].depth = drafts[input].depth.max(depth);
            }
        }
        let input = self.builder.last();
        let mut order: Vec<usize> = (0..drafts.len()).collect();
        order.sort_by_key(|&at| std::cmp::Reverse(drafts[at].depth));
        let mut ids: Vec<NodeId> = vec![input; drafts.len()];
        for at in order {
            let Draft {
                name, op, inputs, ..
            } = &drafts[at];
            let mut from: Vec<NodeId> = inputs.iter().map(|&at| ids[at]).collect();
            if from.is_empty() {
                from.push(input);
            }
            ids[at] = self.builder.add(name, *op, &from)?;
        }
        Ok(())
    }
}

fn push(drafts: &mut Vec<Draft>, name: String, op: Op, inputs: Vec<usize>) -> usize {
    drafts.push(Draft {
        name,
        op,
        inputs,
        depth: 0,
    });
    drafts.len() - 1
}

/// The count before this one.
fn next(count: &mut usize) -> usize {
    *count += 1;
    *count - 1
}

/// `conv2d`, `conv2d_1`, `conv2d_2` and so on.
fn numbered(kind: &str, number: usize) -> String {
    match number {
        0 => kind.into(),
        _ => format!("{kind}_{number}"),
    }
}
