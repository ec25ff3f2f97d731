//! What stored features depend on, besides the picture, as one hash.

use candle_core::Result;

use crate::engine::params::{self, Params};
use crate::graph::cutoff::nodes_between;
use crate::graph::{Graph, NodeId};

/// Counts changes to decoders, resizing, drawing, kernels and fusing that change bits of features,
/// and to the format of the files.
const VERSION: u32 = 3;

/// Hash of everything that decides the features of a picture: what lies between the picture and
/// the `stored` layers (operations, geometry, values of parameters and statistics), how pictures
/// become `input`, and whose instructions compute.
pub fn key(graph: &Graph, params: &Params, stored: &[NodeId], input: &str) -> Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut add = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    // Another release may bring other decoders and kernels.
    let release = env!("CARGO_PKG_VERSION");
    add(&format!("{VERSION} {release} {}", instructions()));
    add(&format!("{:?}", params.device().location()));
    if let Some(gpu) = params.gpu() {
        add(&format!("{} {}", gpu.describe(), gpu.precision().name()));
    }
    add(input);
    let mut order = nodes_between(graph, &[0], stored);
    order.insert(0, 0);
    // Names and positions in the whole graph decide nothing.
    let place = |id: &NodeId| order.iter().position(|other| other == id);
    for &id in &order {
        let node = &graph.nodes()[id];
        let inputs: Vec<_> = node.inputs.iter().map(place).collect();
        add(&format!("{:?} {:?} {inputs:?}", node.op, node.shape));
        for spec in graph.params(id) {
            add(spec.kind.name());
            if let Some(param) = params.get(&spec.name) {
                add(&params::fingerprint(&param.value)?.to_hex());
            }
        }
    }
    add(&format!(
        "{:?}",
        stored.iter().map(place).collect::<Vec<_>>()
    ));
    Ok(hasher.finalize())
}

/// The processor's instruction sets: decoders and kernels choose by them, and bits differ.
fn instructions() -> String {
    let mut text = std::env::consts::ARCH.to_owned();
    #[cfg(target_arch = "x86_64")]
    for (name, has) in [
        ("sse4.1", is_x86_feature_detected!("sse4.1")),
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512vl", is_x86_feature_detected!("avx512vl")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512dq", is_x86_feature_detected!("avx512dq")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
    ] {
        if has {
            text.push(' ');
            text.push_str(name);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::engine::test_support::mobilenet;

    #[test]
    fn the_key_follows_what_feeds_the_layer_and_nothing_else() {
        let graph = mobilenet(0.35, 32, "[{ dense = 5 }]");
        let params = Params::initialise(&graph, 7, &Device::Cpu).unwrap();
        let layer = graph.find("block_3_project_BN").unwrap();
        let of = |params: &Params, input| key(&graph, params, &[layer], input).unwrap();
        let before = of(&params, "32x32");
        assert_eq!(before, of(&params, "32x32"));
        assert_ne!(before, of(&params, "32x33"));
        assert_ne!(before, key(&graph, &params, &[layer - 1], "32x32").unwrap());

        let changed = |name: &str| {
            let mut params = params.clone();
            let value = params.value(name);
            let mut values: Vec<f32> = value.flatten_all().unwrap().to_vec1().unwrap();
            let last = values.len() - 1;
            values[last] = f32::from_bits(values[last].to_bits() ^ 1);
            let value = Tensor::from_vec(values, value.dims(), &Device::Cpu).unwrap();
            params.set(name, value).unwrap();
            of(&params, "32x32")
        };
        assert_ne!(before, changed("Conv1/kernel"), "one bit of a kernel");
        assert_ne!(before, changed("bn_Conv1/moving_variance"));
        assert_eq!(before, changed("Conv_1/kernel"), "a layer above");
        assert_eq!(before, changed("dense/kernel"), "the head");

        // The same layers in a network with another head.
        let other = mobilenet(0.35, 32, "[{ dense = 9 }]");
        let params = Params::initialise(&other, 7, &Device::Cpu).unwrap();
        assert_eq!(before, key(&other, &params, &[layer], "32x32").unwrap());
    }
}
