//! What the fixtures' script has to know of the graphs.

use serde_json::{Value, json};

use crate::config::Flavour;
use crate::graph::{Graph, Op};
use crate::weights::Naming;
use crate::weights::keys::checkpoint_key;
use crate::zoo::registry::FAMILIES;

/// Writes nodes and parameters of every architecture, with their names in checkpoints, to the file
/// `PARITY_KEYS`.
#[test]
#[ignore = "part of `just fixtures`"]
fn lists_nodes_and_parameters() {
    let Some(out) = std::env::var_os("PARITY_KEYS") else {
        return;
    };
    let mut found = Vec::new();
    for family in FAMILIES {
        for flavour in [Flavour::Torch, Flavour::Tf] {
            for width in [1.0, 0.35] {
                if family.check_width(width).is_ok() {
                    found.push(describe(family.name, width, flavour));
                }
            }
        }
    }
    std::fs::write(out, serde_json::to_string(&found).unwrap()).unwrap();
}

fn describe(family: &str, width: f64, flavour: Flavour) -> Value {
    const SIDE: u32 = 112;
    const CLASSES: usize = 10;
    let graph = Graph::build_classifier(family, width, [SIDE, SIDE], flavour, CLASSES).unwrap();
    let nodes: Vec<Value> = graph
        .nodes()
        .iter()
        .map(|node| {
            let inputs: Vec<&str> = node
                .inputs
                .iter()
                .map(|&input| graph.nodes()[input].name.as_str())
                .collect();
            let norm = matches!(node.op, Op::BatchNorm { .. });
            json!({ "name": node.name, "kind": node.op.kind(), "inputs": inputs, "batch_norm": norm })
        })
        .collect();
    let params: Vec<Value> = (0..graph.nodes().len())
        .flat_map(|id| graph.params(id))
        .map(|spec| {
            let key = |naming| checkpoint_key(family, naming, &spec.name);
            json!({
                "name": spec.name,
                "kind": spec.kind.name(),
                "dims": spec.dims,
                "timm": key(Naming::Timm),
                "torchvision": key(Naming::Torchvision),
            })
        })
        .collect();
    let flavour = serde_json::to_value(flavour).unwrap();
    json!({ "family": family, "width": width, "flavour": flavour, "nodes": nodes, "params": params })
}
