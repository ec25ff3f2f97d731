//! What a graph costs to run.

use super::build::Graph;
use super::node::{NodeId, ParamKind};

impl Graph {
    /// Multiply-adds of one forward pass of one picture, as papers and timm count them: those of
    /// convolutions and dense layers. Norms, activations, pools, sums and biases are left out.
    pub fn multiply_adds(&self) -> u64 {
        (0..self.nodes().len())
            .map(|id| self.node_multiply_adds(id))
            .sum()
    }

    /// The same of one node. Each value of a kernel is used once at every place of the output.
    pub fn node_multiply_adds(&self, id: NodeId) -> u64 {
        let shape = self.nodes()[id].shape;
        self.params(id)
            .iter()
            .filter(|spec| spec.kind == ParamKind::Kernel)
            .map(|spec| (spec.elements() * (shape.elements() / spec.dims[0].max(1))) as u64)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flavour;
    use crate::zoo::registry;

    /// Giga multiply-adds with the classifier of 1000 classes.
    fn giga(family: &str) -> f64 {
        let side = registry::find(family).unwrap().default_size;
        let flavour = Flavour::Torch;
        let graph = Graph::build_classifier(family, 1.0, [side, side], flavour, 1000).unwrap();
        graph.multiply_adds() as f64 / 1e9
    }

    #[test]
    fn costs_are_those_published() {
        // torchvision's table of models: "GFLOPS", which counts multiply-adds.
        for (family, published) in [
            ("inception_v3", 5.71),
            ("mobilenet_v2", 0.30),
            ("resnet50", 4.09),
            ("vgg16", 15.47),
            ("vgg19", 19.63),
        ] {
            let counted = giga(family);
            let digits = (counted * 100.0).round() / 100.0;
            assert_eq!(digits, published, "{family}: {counted}");
        }
        // timm's: `legacy_xception` at 299.
        assert!((giga("xception") - 8.4).abs() < 0.05);
    }
}
