use candle_core::{DType, Device};

use super::*;
use crate::config::Flavour;
use crate::engine::test_support::{assert_close, formula, node_by_node, noise};
use crate::graph::{GraphBuilder, Op};
use crate::zoo::vit;

fn graph(text: &str, side: u32) -> Graph {
    Graph::build(&toml::from_str(text).unwrap(), [side, side], Flavour::Torch).unwrap()
}

/// A transformer of two blocks, with a dense layer on its class token.
fn transformer() -> Graph {
    let mut builder = GraphBuilder::new([12, 16]);
    vit::tiny(&mut builder).unwrap();
    let token = builder
        .add("pooled", Op::TakeClassToken, &[builder.last()])
        .unwrap();
    builder
        .add("logits", Op::Dense { units: 3 }, &[token])
        .unwrap();
    builder.finish()
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    (a * b)
        .unwrap()
        .sum_all()
        .unwrap()
        .to_scalar::<f64>()
        .unwrap()
}

#[test]
fn the_gradient_is_what_small_steps_give() {
    let networks = [
        (transformer(), vec!["block_1_norm1", "block_0_qkv", "norm"]),
        (
            graph(
                "backbone = \"mobilenet_v3_small\"\ncut = \"expanded_conv_4_add\"\npooling = \
                 \"max\"\nhead = [{ dense = 4, activation = \"silu\" }, { dense = 3 }]",
                32,
            ),
            // Within a block, where a shortcut and a gate join in.
            vec![
                "expanded_conv_4_add",
                "expanded_conv_4_expand_bn",
                "expanded_conv_2_add",
            ],
        ),
        (
            graph(
                "backbone = \"resnet18\"\ncut = \"conv2_block2_add\"\npooling = \"none\"\nhead = \
                 [{ conv2d = 3 }, \"avg_pool\"]",
                16,
            ),
            // Behind the first activation a pool meets equal zeros, and has no slope there.
            vec!["conv2_block1_2_bn", "conv2_block2_add", "conv1_bn"],
        ),
    ];
    for (graph, layers) in networks {
        let single = formula(&graph);
        let params = single.to_dtype(DType::F64).unwrap();
        let dims = graph.nodes()[0].shape.batched(2);
        let pictures = noise("pictures", &dims);
        let outputs = node_by_node(&graph, &params, &pictures.to_dtype(DType::F64).unwrap());
        for name in layers {
            let layer = graph
                .find(name)
                .unwrap_or_else(|| panic!("no `{name}` in {:?}", names(&graph)));
            let above = Above::new(&graph, layer).unwrap();
            let inputs: Vec<Tensor> = above
                .inputs()
                .iter()
                .map(|&id| outputs[id].clone())
                .collect();
            let at = above.inputs().iter().position(|&id| id == layer).unwrap();
            let logits = above.logits(&params, &inputs).unwrap();
            let toward = noise("toward", logits.dims()).to_dtype(DType::F64).unwrap();
            let gradient = above.gradient(&params, &inputs, &toward).unwrap();
            let direction = noise("direction", inputs[at].dims());
            let direction = direction.to_dtype(DType::F64).unwrap();
            let moved = |step: f64| {
                let mut inputs = inputs.clone();
                inputs[at] = (&inputs[at] + (&direction * step).unwrap()).unwrap();
                dot(&above.logits(&params, &inputs).unwrap(), &toward)
            };
            // So small that few activations cross a kink, and none that counts.
            let step = 1e-6;
            let slope = (moved(step) - moved(-step)) / (2.0 * step);
            let expected = dot(&gradient, &direction);
            let error = (slope - expected).abs() / expected.abs().max(1e-3);
            assert!(error < 1e-5, "{name}: {slope} against {expected}");
            // And single precision, as it is used, gives the same.
            let singles: Vec<Tensor> = inputs
                .iter()
                .map(|input| input.to_dtype(DType::F32).unwrap())
                .collect();
            let toward = toward.to_dtype(DType::F32).unwrap();
            let used = above.gradient(&single, &singles, &toward).unwrap();
            let gradient = gradient.to_dtype(DType::F32).unwrap();
            assert_close(name, &used, &gradient, 1e-4);
        }
    }
}

fn names(graph: &Graph) -> Vec<&str> {
    graph
        .nodes()
        .iter()
        .map(|node| node.name.as_str())
        .collect()
}

/// A head that looks at the first channel alone, of pictures of which one place is lit.
#[test]
fn the_place_that_counts_is_the_place_that_is_shown() {
    let text = "backbone = \"vgg16\"\ncut = \"block1_conv1\"\nhead = [{ dense = 1 }]";
    let graph = graph(text, 32);
    let mut params = formula(&graph);
    let (mut kernel, mut dense) = (vec![0f32; 64 * 27], vec![0f32; 64]);
    // Filter 0 passes the red channel on.
    kernel[4] = 1.0;
    dense[0] = 1.0;
    let set = |params: &mut Params, name: &str, values: Vec<f32>| {
        let dims = params.value(name).dims().to_vec();
        let value = Tensor::from_vec(values, dims, &Device::Cpu).unwrap();
        params.set(name, value).unwrap();
    };
    set(&mut params, "block1_conv1/kernel", kernel);
    set(&mut params, "block1_conv1/bias", vec![0.0; 64]);
    set(&mut params, "dense/kernel", dense);
    let node = graph.last_with_places().unwrap();
    assert_eq!(graph.nodes()[node].name, "block1_conv1_relu");
    let explainer = Explainer::new(&graph, &params, node).unwrap();
    let mut pixels = vec![0f32; 32 * 32 * 3];
    (pixels[(2 * 32 + 5) * 3], pixels[(3 * 32 + 5) * 3]) = (4.0, 1.0);
    let picture = Tensor::from_vec(pixels, (1, 32, 32, 3), &Device::Cpu).unwrap();
    let seen = explainer.see(&picture).unwrap();
    let heat = explainer.heat(&seen, &[1]).unwrap().remove(0);
    assert_eq!((heat.height, heat.width), (32, 32));
    assert_eq!(heat.evidence, Evidence::Found);
    assert_eq!(
        (heat.values[2 * 32 + 5], heat.values[3 * 32 + 5]),
        (1.0, 0.25)
    );
    assert_eq!(heat.values.iter().sum::<f32>(), 1.25);
    // The pool takes the mean over all places.
    assert!((heat.peak - 4.0 / 1024.0).abs() < 1e-8);
    // The other class is the opposite of the one output: nothing speaks for it.
    let other = explainer.heat(&seen, &[0]).unwrap().remove(0);
    assert_eq!(other.evidence, Evidence::Nothing);
    assert!(other.values.iter().all(|&value| value == 0.0));
    // A head that does not read the map at all.
    set(&mut params, "dense/kernel", vec![0.0; 64]);
    let deaf = Explainer::new(&graph, &params, node).unwrap();
    let heat = deaf.heat(&deaf.see(&picture).unwrap(), &[1]).unwrap();
    assert_eq!(heat[0].evidence, Evidence::Unconnected);
    // Numbers that are none do no harm.
    set(&mut params, "dense/kernel", vec![f32::NAN; 64]);
    let broken = Explainer::new(&graph, &params, node).unwrap();
    let heat = broken.heat(&broken.see(&picture).unwrap(), &[1]).unwrap();
    assert!(heat[0].values.iter().all(|&value| value == 0.0));
}

#[test]
fn tokens_lie_where_their_patches_do() {
    let graph = transformer();
    let params = formula(&graph);
    let node = graph.last_with_places().unwrap();
    assert_eq!(graph.nodes()[node].name, "block_1_norm1");
    let explainer = Explainer::new(&graph, &params, node).unwrap();
    let pictures = noise("pictures", &[3, 12, 16, 3]);
    let seen = explainer.see(&pictures).unwrap();
    let together = explainer.heat(&seen, &[0, 1, 2]).unwrap();
    for (picture, heat) in together.iter().enumerate() {
        assert_eq!((heat.height, heat.width, heat.values.len()), (3, 4, 12));
        // A picture by itself has the same map.
        let alone = pictures.narrow(0, picture, 1).unwrap();
        let alone = explainer.see(&alone).unwrap();
        assert_eq!(explainer.heat(&alone, &[picture]).unwrap()[0], *heat);
    }
    assert!(explainer.heat(&seen, &[0, 1]).is_err());
    assert!(explainer.heat(&seen, &[0, 1, 3]).is_err());
    // Behind the last attention the class token alone counts.
    let norm = graph.find("norm").unwrap();
    let blind = Explainer::new(&graph, &params, norm).unwrap();
    let heat = blind.heat(&blind.see(&pictures).unwrap(), &[0; 3]).unwrap();
    assert_eq!(heat[0].evidence, Evidence::Unconnected);
    let vector = graph.find("pooled").unwrap();
    assert!(Explainer::new(&graph, &params, vector).is_err());
}

#[test]
fn maps_are_stretched_between_the_centres_of_places() {
    let heat = Heat {
        height: 1,
        width: 2,
        values: vec![0.0, 1.0],
        peak: 1.0,
        evidence: Evidence::Found,
    };
    assert_eq!(heat.resized(1, 4), [0.0, 0.25, 0.75, 1.0]);
    assert_eq!(heat.resized(2, 2), [0.0, 1.0, 0.0, 1.0]);
    assert_eq!(heat.resized(1, 1), [0.5]);
}

#[test]
fn many_pictures_are_seen_at_once_only_where_they_fit() {
    let text = "backbone = \"resnet18\"\ncut = \"conv2_block2_out\"\nhead = [{ dense = 2 }]";
    let graph = graph(text, 512);
    let params = formula(&graph);
    let batch = |name: &str| {
        let node = graph.find(name).unwrap();
        Explainer::new(&graph, &params, node).unwrap().batch(32)
    };
    assert_eq!(batch("conv2_block2_out"), 31);
    assert!((1..8).contains(&batch("conv1_relu")));
}
