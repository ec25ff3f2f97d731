//! Networks as ONNX models, <https://onnx.ai>: for ONNX Runtime, OpenVINO, TensorRT, browsers and
//! phones.
//!
//! Norms and activations are written as nodes of their own; those who run a model fold and fuse them
//! as they like best.

mod file;
mod layers;
pub mod proto;

use candle_core::{Result, bail};
use prost::Message;

use self::file::{File, Size, int, ints, text, value_info};
use self::layers::Layers;
use self::proto::{Entry, FLOAT, Model, OperatorSet, UINT8};
use crate::config::Interpolation;
use crate::data::preprocess::{ChannelOrder, Preprocess};
use crate::engine::params::Params;
use crate::graph::Graph;
use crate::graph::cutoff::nodes_between;

/// The set of operators, of 2024: what every tool of today reads.
const OPERATORS: i64 = 21;
/// The version of the format that came with it.
const FORMAT: i64 = 10;

/// The value that goes in, of a network that takes what preprocessing makes.
pub const INPUT: &str = "input";
/// The value that goes in, of a network that takes pictures.
pub const PICTURES: &str = "pictures";
/// What the last layer says, `[batch, outputs]`.
pub const LOGITS: &str = "logits";
/// The same as probabilities, `[batch, classes]`.
pub const PROBABILITIES: &str = "probabilities";

/// What goes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// `input`: floats `[batch, 3, height, width]`, resized, cropped and scaled.
    Scaled,
    /// `pictures`: bytes `[batch, height, width, 3]`, red, green, blue, of any height and width.
    Pictures,
}

/// A network to write.
#[derive(Debug, Clone, Copy)]
pub struct Network<'a> {
    /// Backbone and head.
    pub graph: &'a Graph,
    /// Their parameters.
    pub params: &'a Params,
    /// From pictures to what it takes.
    pub preprocess: &'a Preprocess,
    /// Name of the model.
    pub name: &'a str,
    /// What else is to be known: keys and values.
    pub metadata: &'a [(&'a str, String)],
}

/// The network as the bytes of an `.onnx` file: `logits` and `probabilities` of any number of
/// pictures.
///
/// # Errors
/// If parameters are missing, or pictures are resized in a way that ONNX does not know.
pub fn encode(network: &Network<'_>, input: Input) -> Result<Vec<u8>> {
    let Network { graph, params, .. } = *network;
    let mut file = File::default();
    let [height, width] = network.preprocess.image_size.map(|it| it as usize);
    let (picture, given) = match input {
        Input::Scaled => {
            let dims = [
                Size::Open("batch"),
                Size::Fixed(3),
                Size::Fixed(height),
                Size::Fixed(width),
            ];
            let says = format!(
                "resized, cropped, and scaled as {}",
                network.preprocess.describe()
            );
            (INPUT.to_owned(), value_info(INPUT, FLOAT, &dims, &says))
        }
        Input::Pictures => {
            let dims = [
                Size::Open("batch"),
                Size::Open("height"),
                Size::Open("width"),
                Size::Fixed(3),
            ];
            let says = "red, green, blue, 0 to 255";
            (
                preprocessing(&mut file, network.preprocess)?,
                value_info(PICTURES, UINT8, &dims, says),
            )
        }
    };
    let mut layers = Layers::new(graph, params, &picture);
    for id in nodes_between(graph, &[0], &[graph.output()]) {
        let name = &graph.nodes()[id].name;
        match name.as_str() {
            // What goes in and out is called so.
            INPUT | PICTURES | LOGITS | PROBABILITIES => {
                layers.write(&mut file, id, &format!("{name}/output"))?;
            }
            _ => layers.write(&mut file, id, name)?,
        }
    }
    let output = layers.name(graph.output())?.to_owned();
    let logits = file.node("Identity", &[&output], LOGITS, vec![]);
    let outputs = graph.nodes()[graph.output()].shape.elements();
    match outputs {
        1 => {
            let positive = file.node("Sigmoid", &[&logits], "probabilities/positive", vec![]);
            let one = file.float(1.0);
            let negative = file.node("Sub", &[&one, &positive], "probabilities/negative", vec![]);
            let both = [negative.as_str(), positive.as_str()];
            file.node("Concat", &both, PROBABILITIES, vec![int("axis", 1)])
        }
        _ => file.node("Softmax", &[&logits], PROBABILITIES, vec![int("axis", 1)]),
    };
    let given_out = |name: &str, size: usize, says: &str| {
        value_info(name, FLOAT, &[Size::Open("batch"), Size::Fixed(size)], says)
    };
    let outputs = vec![
        given_out(LOGITS, outputs, "what the last layer says"),
        given_out(PROBABILITIES, outputs.max(2), "in the order of the classes"),
    ];
    let entry = |(key, value): &(&str, String)| Entry {
        key: Some((*key).to_owned()),
        value: Some(value.clone()),
    };
    let model = Model {
        ir_version: Some(FORMAT),
        producer_name: Some("xp".into()),
        producer_version: Some(env!("CARGO_PKG_VERSION").into()),
        graph: Some(file.finish(network.name, vec![given], outputs)),
        opset_import: vec![OperatorSet {
            domain: Some(String::new()),
            version: Some(OPERATORS),
        }],
        metadata_props: network.metadata.iter().map(entry).collect(),
    };
    Ok(model.encode_to_vec())
}

/// From pictures of any size to what the network takes: its name in the file. Whole levels between
/// resizing and scaling, as with 8 bits a channel; the two passes of resizing are one here, so that
/// a level may differ by 1.
fn preprocessing(file: &mut File, preprocess: &Preprocess) -> Result<String> {
    let at = |what: &str| format!("preprocess/{what}");
    let floats = vec![int("to", i64::from(FLOAT))];
    let x = file.node("Cast", &[PICTURES], at("floats"), floats);
    let x = file.node(
        "Transpose",
        &[&x],
        at("channels_first"),
        vec![ints("perm", [0, 3, 1, 2])],
    );
    let resized = preprocess.resized();
    let sizes = file.integers(&resized.map(i64::from));
    let mut told = vec![
        ints("axes", [2, 3]),
        text("coordinate_transformation_mode", "half_pixel"),
    ];
    match preprocess.interpolation {
        Interpolation::Nearest => told.extend([
            text("mode", "nearest"),
            text("nearest_mode", "round_prefer_ceil"),
        ]),
        Interpolation::Bilinear => told.extend([text("mode", "linear"), int("antialias", 1)]),
        Interpolation::Lanczos => bail!("ONNX has no Lanczos filter"),
        Interpolation::Bicubic => told.extend([
            text("mode", "cubic"),
            int("antialias", 1),
            file::float("cubic_coeff_a", -0.5),
            int("exclude_outside", 1),
        ]),
    }
    let x = file.node("Resize", &[&x, "", "", &sizes], at("resized"), told);
    let x = file.node("Round", &[&x], at("rounded"), vec![]);
    let (low, high) = (file.float(0.0), file.float(255.0));
    let mut x = file.node("Clip", &[&x, &low, &high], at("levels"), vec![]);
    if resized != preprocess.image_size {
        let [top, left] =
            [0, 1].map(|axis| i64::from((resized[axis] - preprocess.image_size[axis]) / 2));
        let [height, width] = preprocess.image_size.map(i64::from);
        let starts = file.integers(&[top, left]);
        let ends = file.integers(&[top + height, left + width]);
        let axes = file.integers(&[2, 3]);
        x = file.node("Slice", &[&x, &starts, &ends, &axes], at("cropped"), vec![]);
    }
    if preprocess.order == ChannelOrder::Bgr {
        let order = file.integers(&[2, 1, 0]);
        x = file.node("Gather", &[&x, &order], at("bgr"), vec![int("axis", 1)]);
    }
    let factor = preprocess.std.map(|std| 1.0 / (255.0 * std));
    let shift: Vec<f32> = (0..3)
        .map(|channel| -preprocess.mean[channel] / preprocess.std[channel])
        .collect();
    let factor = file.floats("preprocess/factor", &[3, 1, 1], &factor);
    let shift = file.floats("preprocess/shift", &[3, 1, 1], &shift);
    let x = file.node("Mul", &[&x, &factor], at("scaled"), vec![]);
    Ok(file.node("Add", &[&x, &shift], at("shifted"), vec![]))
}

#[cfg(test)]
mod tests;
