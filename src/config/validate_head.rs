//! What the backbone and the layers of the head must be together, before any graph is built.

use super::schema::{HeadLayer, ModelConfig, PlainLayer, Pooling};
use super::validate::Findings;
use crate::activation::Activation;

impl Findings {
    pub(super) fn model(&mut self, model: &ModelConfig) {
        let texts = [
            ("model.backbone", Some(&model.backbone)),
            ("model.weights", model.weights.as_ref()),
            ("model.cut", model.cut.as_ref()),
        ];
        for (key, text) in texts {
            if text.is_some_and(|text| text.trim().is_empty()) {
                self.error(
                    key,
                    format!("`{key}` is empty"),
                    "name one, or take the key out",
                );
            }
        }
        let Some(last) = model.head.len().checked_sub(1) else {
            let help = "end it with one output a class, for example `head = [{ dense = 5 }]`";
            return self.error("model.head", "`model.head` is empty", help);
        };
        self.maps_and_vectors(model);
        let key = format!("model.head[{last}]");
        let logits = logits(&model.head);
        let activation = match logits.map(|at| (at, model.head[at])) {
            Some((at, HeadLayer::Dense(layer))) => Some((at, layer.activation)),
            Some((at, HeadLayer::Conv2d(layer))) => Some((at, layer.activation)),
            _ => None,
        };
        match activation {
            None => {
                let help = "end it with one output a class, for example `{ dense = 5 }`";
                self.error(
                    key,
                    "the head does not end with a layer that gives logits",
                    help,
                );
            }
            Some((at, activation)) if activation != Activation::Linear => {
                let key = format!("model.head[{at}].activation");
                let message = "the last layer of the head has an activation";
                self.error(
                    key,
                    message,
                    "take it out: the loss applies sigmoid or softmax",
                );
            }
            Some(_) => {}
        }
    }

    /// Follows whether each head layer receives a feature map or a vector.
    fn maps_and_vectors(&mut self, model: &ModelConfig) {
        let mut is_map = model.pooling == Pooling::None;
        for (index, layer) in model.head.iter().enumerate() {
            let key = format!("model.head[{index}]");
            let (wants_map, name) = match layer {
                HeadLayer::Dense(_) => (false, "dense"),
                HeadLayer::Conv2d(_) => (true, "conv2d"),
                HeadLayer::Plain(PlainLayer::Flatten) => (true, "flatten"),
                HeadLayer::Plain(PlainLayer::AvgPool) => (true, "avg_pool"),
                HeadLayer::Plain(PlainLayer::MaxPool) => (true, "max_pool"),
                HeadLayer::Plain(_) | HeadLayer::Dropout(_) => continue,
            };
            if wants_map && !is_map {
                let message = format!("`{name}` needs a feature map, but receives a vector");
                let help = "set `model.pooling = \"none\"` and pool or flatten after it";
                return self.error(key, message, help);
            }
            if !wants_map && is_map {
                let message = format!("`{name}` needs a vector, but receives a feature map");
                let help = "put \"flatten\" or \"avg_pool\" before it, or set `model.pooling`";
                return self.error(key, message, help);
            }
            is_map = matches!(layer, HeadLayer::Conv2d(_));
        }
        if is_map {
            let key = format!("model.head[{}]", model.head.len() - 1);
            let help = "end it with \"flatten\", \"avg_pool\" or \"max_pool\"";
            self.error(key, "the head ends with a feature map", help);
        }
    }
}

/// Index of the layer that gives the logits: the last `dense`, or the last `conv2d` if only
/// pooling or flattening follows.
pub(super) fn logits(head: &[HeadLayer]) -> Option<usize> {
    let shapes_only = |layer: &HeadLayer| {
        use PlainLayer::{AvgPool, Flatten, MaxPool};
        matches!(layer, HeadLayer::Plain(AvgPool | Flatten | MaxPool))
    };
    let at = head.iter().rposition(|layer| !shapes_only(layer))?;
    match head[at] {
        HeadLayer::Dense(_) if at + 1 == head.len() => Some(at),
        HeadLayer::Conv2d(_) => Some(at),
        _ => None,
    }
}
