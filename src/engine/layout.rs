//! How parameters lie on a GPU: kernels by tap, as maps are channels-last.

use crate::graph::{Graph, NodeId, Op, ParamKind, ParamSpec};
use crate::ops::conv::by_channel;

/// The order of a parameter's values on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// As everywhere.
    Plain,
    /// By tap and then channel, in rows of so many channels and so large an area.
    ByTap { channels: usize, area: usize },
}

impl Layout {
    /// Of a node's parameter.
    pub(super) fn of(graph: &Graph, id: NodeId, spec: &ParamSpec) -> Self {
        let &[filters, channels, height, width] = spec.dims.as_slice() else {
            return Self::Plain;
        };
        if spec.kind != ParamKind::Kernel || height * width == 1 {
            return Self::Plain;
        }
        // Depthwise filters lie side by side.
        let channels = match graph.nodes()[id].op {
            Op::DepthwiseConv2d { .. } => filters,
            _ => channels,
        };
        Self::ByTap {
            channels,
            area: height * width,
        }
    }

    /// Values in the order of a GPU.
    pub(super) fn there(self, values: &[f32]) -> Vec<f32> {
        let Self::ByTap { channels, area } = self else {
            return values.to_vec();
        };
        let depth = channels * area;
        let at = |i: usize| i / depth * depth + i % channels * area + i / channels % area;
        (0..values.len()).map(|i| values[at(i)]).collect()
    }

    /// Values in the order that they have everywhere else.
    pub(super) fn back(self, values: Vec<f32>) -> Vec<f32> {
        match self {
            Self::Plain => values,
            Self::ByTap { channels, area } => by_channel(&values, channels, area),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_come_back_as_they_went() {
        let layout = Layout::ByTap {
            channels: 5,
            area: 6,
        };
        let values: Vec<f32> = (0..60).map(|i| i as f32).collect();
        let there = layout.there(&values);
        assert_eq!(there[..6], [0.0, 6.0, 12.0, 18.0, 24.0, 1.0]);
        assert_eq!(layout.back(there), values);
    }
}
