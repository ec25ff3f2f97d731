//! Where a compiled prefix may be cut without changing a bit of what lies above.

use crate::graph::{Graph, NodeId, Op};

/// Whether the output of `node` is a value that the compiled prefix computes whether anyone wants
/// it or not: nothing that reads it is fused into what computes it. Cutting elsewhere, between a
/// convolution and its batch norm, say, gives other roundings.
pub fn is_seam(graph: &Graph, node: NodeId) -> bool {
    let nodes = graph.nodes();
    (node + 1..nodes.len())
        .filter(|&reader| nodes[reader].inputs.contains(&node))
        .all(|reader| match nodes[reader].op {
            Op::BatchNorm { .. } | Op::LayerScale { .. } | Op::Activation(_) => false,
            // As a shortcut around what it feeds itself, it is read twice.
            Op::Add => nodes[reader]
                .inputs
                .iter()
                .any(|&other| other != node && feeds(graph, node, other)),
            // Other names of the same values.
            Op::Dropout { .. } | Op::Flatten | Op::Identity(_) | Op::Reshape => {
                is_seam(graph, reader)
            }
            _ => true,
        })
}

fn feeds(graph: &Graph, from: NodeId, to: NodeId) -> bool {
    let mut fed = vec![false; to + 1];
    for id in from + 1..=to {
        let inputs = &graph.nodes()[id].inputs;
        fed[id] = inputs.iter().any(|&input| input == from || fed[input]);
    }
    fed[to]
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::engine::memory::values;
    use crate::engine::prefix::Prefix;
    use crate::engine::test_support::{formula, mobilenet, noise};

    #[test]
    fn a_value_at_a_seam_is_the_same_wanted_or_not_and_so_is_what_follows() {
        let graph = mobilenet(0.35, 32, "[{ dense = 5 }]");
        let params = formula(&graph);
        let picture = noise("picture", &[1, 32, 32, 3])
            .to_device(&Device::Cpu)
            .unwrap();
        let last = graph.output();
        let run = |inputs: &[NodeId], from: &candle_core::Tensor, outputs: &[NodeId]| {
            let prefix = Prefix::compile(&graph, &params, inputs, outputs).unwrap();
            let outputs = prefix.run(std::slice::from_ref(from)).unwrap();
            outputs
                .iter()
                .map(|t| (t.clone(), values(t).unwrap()))
                .collect::<Vec<_>>()
        };
        let alone = run(&[0], &picture, &[last]).remove(0).1;
        let mut seams = 0;
        for node in (1..last).filter(|&node| is_seam(&graph, node)) {
            let name = &graph.nodes()[node].name;
            let both = run(&[0], &picture, &[node, last]);
            assert!(both[1].1 == alone, "{name}");
            assert!(run(&[0], &picture, &[node])[0].1 == both[0].1, "{name}");
            // Within a block the shortcut is missing.
            if let Ok(upper) = Prefix::compile(&graph, &params, &[node], &[last]) {
                let output = upper.run(&[both[0].0.clone()]).unwrap().remove(0);
                assert!(values(&output).unwrap() == alone, "from {name}");
            }
            seams += 1;
        }
        assert!(seams > 40, "{seams}");
        for name in ["Conv1", "bn_Conv1", "block_3_project"] {
            assert!(!is_seam(&graph, graph.find(name).unwrap()), "{name}");
        }
        assert!(is_seam(&graph, graph.find("block_10_project_BN").unwrap()));
    }
}
