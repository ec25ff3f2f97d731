//! An ONNX network as it is written down: nodes, constants and names.

use indexmap::IndexMap;

use super::proto::{
    Attribute, Dimension, Extent, FLOAT, Graph, INT64, Node, Tensor, TensorShape, TensorType, Type,
    ValueInfo,
};

/// Nodes and constants so far. Every value is known by its name.
#[derive(Debug, Default)]
pub(super) struct File {
    nodes: Vec<Node>,
    constants: IndexMap<String, Tensor>,
}

impl File {
    /// Adds a node with one output, and returns that one's name, which is the node's own too.
    pub(super) fn node(
        &mut self,
        operator: &str,
        inputs: &[&str],
        output: impl Into<String>,
        attributes: Vec<Attribute>,
    ) -> String {
        let output = output.into();
        self.nodes.push(Node {
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.clone()],
            name: Some(output.clone()),
            op_type: Some(operator.to_owned()),
            attribute: attributes,
        });
        output
    }

    /// Floats under a name. The same name is the same constant.
    pub(super) fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        self.constant(name, dims, FLOAT, || {
            values.iter().flat_map(|it| it.to_le_bytes()).collect()
        })
    }

    /// One float.
    pub(super) fn float(&mut self, value: f32) -> String {
        self.floats(&format!("constant/{value}"), &[], &[value])
    }

    /// A list of integers.
    pub(super) fn integers(&mut self, values: &[i64]) -> String {
        let shown: Vec<String> = values.iter().map(i64::to_string).collect();
        let name = format!("constant/[{}]", shown.join(","));
        self.constant(&name, &[values.len()], INT64, || {
            values.iter().flat_map(|it| it.to_le_bytes()).collect()
        })
    }

    fn constant(
        &mut self,
        name: &str,
        dims: &[usize],
        data_type: i32,
        bytes: impl FnOnce() -> Vec<u8>,
    ) -> String {
        self.constants
            .entry(name.to_owned())
            .or_insert_with(|| Tensor {
                dims: dims.iter().map(|&dim| dim as i64).collect(),
                data_type: Some(data_type),
                name: Some(name.to_owned()),
                raw_data: Some(bytes()),
            });
        name.to_owned()
    }

    /// The whole network.
    pub(super) fn finish(self, name: &str, input: Vec<ValueInfo>, output: Vec<ValueInfo>) -> Graph {
        Graph {
            node: self.nodes,
            name: Some(name.to_owned()),
            initializer: self.constants.into_values().collect(),
            input,
            output,
        }
    }
}

/// A size, or the name of one that is left open.
pub(super) enum Size {
    Fixed(usize),
    Open(&'static str),
}

/// A value that goes in or comes out.
pub(super) fn value_info(name: &str, elements: i32, dims: &[Size], says: &str) -> ValueInfo {
    let dim = dims.iter().map(|size| Dimension {
        value: Some(match size {
            Size::Fixed(size) => Extent::Fixed(*size as i64),
            Size::Open(name) => Extent::Open((*name).to_owned()),
        }),
    });
    ValueInfo {
        name: Some(name.to_owned()),
        r#type: Some(Type {
            tensor_type: Some(TensorType {
                elem_type: Some(elements),
                shape: Some(TensorShape { dim: dim.collect() }),
            }),
        }),
        doc_string: Some(says.to_owned()),
    }
}

/// An integer that an operator is told.
pub(super) fn int(name: &str, value: i64) -> Attribute {
    Attribute {
        i: Some(value),
        ..attribute(name, 2)
    }
}

/// A float that an operator is told.
pub(super) fn float(name: &str, value: f32) -> Attribute {
    Attribute {
        f: Some(value),
        ..attribute(name, 1)
    }
}

/// Text that an operator is told.
pub(super) fn text(name: &str, value: &str) -> Attribute {
    Attribute {
        s: Some(value.as_bytes().to_vec()),
        ..attribute(name, 3)
    }
}

/// Integers that an operator is told.
pub(super) fn ints(name: &str, values: impl IntoIterator<Item = usize>) -> Attribute {
    Attribute {
        ints: values.into_iter().map(|value| value as i64).collect(),
        ..attribute(name, 7)
    }
}

fn attribute(name: &str, kind: i32) -> Attribute {
    Attribute {
        name: Some(name.to_owned()),
        r#type: Some(kind),
        ..Attribute::default()
    }
}
