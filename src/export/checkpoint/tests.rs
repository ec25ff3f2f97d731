use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use candle_core::Device;
use indexmap::IndexMap;

use super::*;
use crate::config::Interpolation;
use crate::engine::parity::say;
use crate::engine::prefix::Prefix;
use crate::engine::test_support::{formula, noise};
use crate::weights;
use crate::zoo::registry::FAMILIES;

type Keys = BTreeMap<String, Vec<usize>>;

/// A model with what its network depends on.
struct Case {
    model: ModelConfig,
    flavour: Flavour,
    preprocess: Preprocess,
    graph: Graph,
}

/// `backbone` may be followed by other keys of `[model]`, as TOML; without a head it has that of
/// the package's network.
fn case(model: &str, side: u32, flavour: Flavour, outputs: usize) -> Case {
    let text = format!("backbone = {model}\n");
    let bare: ModelConfig = toml::from_str(&format!("{text}head = [{{ dense = 2 }}]"))
        .or_else(|_| toml::from_str(&text))
        .unwrap();
    let text = match text.contains("head") {
        true => text,
        false => {
            let (name, width, size) = (&bare.backbone, bare.width, [side; 2]);
            let theirs = Graph::build_classifier(name, width, size, flavour, outputs).unwrap();
            let backbone = Graph::build_backbone(name, width, size, flavour).unwrap();
            let config = Chain::above(&backbone, &theirs).config();
            let keys = config.split('`').skip(1).step_by(2);
            text + &keys.collect::<Vec<_>>().join("\n")
        }
    };
    let model: ModelConfig = toml::from_str(&text).unwrap();
    Case {
        graph: Graph::build(&model, [side; 2], flavour).unwrap(),
        model,
        flavour,
        preprocess: Preprocess {
            image_size: [side; 2],
            resize: None,
            interpolation: Interpolation::Bilinear,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            order: ChannelOrder::Rgb,
        },
    }
}

impl Case {
    fn network<'a>(&'a self, params: &'a Params) -> Network<'a> {
        Network {
            graph: &self.graph,
            params,
            model: &self.model,
            flavour: self.flavour,
            preprocess: &self.preprocess,
        }
    }

    /// Values from 0 to 1 that tell places apart.
    fn counted(&self) -> Params {
        let specs = (0..self.graph.nodes().len()).flat_map(|id| self.graph.params(id));
        let tensors = specs.enumerate().map(|(index, spec)| {
            let count = spec.elements();
            let values = Tensor::arange(0f32, count as f32, &Device::Cpu).unwrap();
            let factor = 0.9 / count as f64;
            let values = values.affine(factor, 0.0001 * index as f64).unwrap();
            (spec.name, values.reshape(spec.dims).unwrap())
        });
        let tensors: IndexMap<String, Tensor> = tensors.collect();
        Params::initialise_around(&self.graph, tensors, 0, &Device::Cpu).unwrap()
    }
}

/// Dimensions of the floats of a checkpoint by name.
fn dims(checkpoint: &Checkpoint) -> Keys {
    let floats = checkpoint
        .entries
        .iter()
        .filter_map(|(name, entry)| match entry {
            Entry::Floats(tensor) => Some((name.clone(), tensor.dims().to_vec())),
            Entry::Batches => None,
        });
    floats.collect()
}

const BOTH: [Package; 2] = [Package::Timm, Package::Torchvision];

#[test]
fn names_and_dimensions_are_those_of_the_packages() {
    let text = include_str!("../../../tests/fixtures/torchvision_keys.json");
    let published: BTreeMap<String, BTreeMap<String, Keys>> = serde_json::from_str(text).unwrap();
    for (backbone, houses) in [
        ("squeezenet1_1", &[Package::Torchvision][..]),
        ("googlenet", &[Package::Torchvision]),
        ("resnet18", &BOTH),
        ("densenet121", &BOTH),
    ] {
        let case = case(&format!("\"{backbone}\""), 64, Flavour::Torch, 1000);
        let params = case.counted();
        for &package in houses {
            let checkpoint = Checkpoint::whole(&case.network(&params), package).unwrap();
            let mut found = dims(&checkpoint);
            found.retain(|name, _| name.ends_with(".weight"));
            let theirs = &published[backbone];
            let own = &theirs[&package.to_string()];
            let expected = theirs["shared"].iter().chain(own);
            let expected: Keys = expected
                .map(|(name, dims)| (name.clone(), dims.clone()))
                .collect();
            assert_eq!(found, expected, "{package} {backbone}");
        }
    }
}

#[test]
fn every_batch_norm_has_the_number_of_its_batches() {
    let case = case("\"resnet18\"", 64, Flavour::Torch, 3);
    let params = case.counted();
    let checkpoint = Checkpoint::whole(&case.network(&params), Package::Timm).unwrap();
    let names: Vec<&str> = checkpoint.names().collect();
    let norms = names.iter().filter(|name| name.ends_with("running_var"));
    assert_eq!(norms.clone().count(), 20);
    for name in norms {
        let batches = name.replace("running_var", "num_batches_tracked");
        assert!(names.contains(&batches.as_str()), "{batches}");
    }
    assert_eq!(names.len(), 122);
}

/// What is written is what the loader of weights reads, which was tested with the packages' own.
#[test]
fn a_checkpoint_is_read_back_to_the_same_network() {
    let folder = tempfile::tempdir().unwrap();
    for (model, side, package) in [
        ("\"mobilenet_v2\"\nwidth = 0.35", 32, Package::Timm),
        ("\"mobilenet_v2\"\nwidth = 0.35", 32, Package::Torchvision),
        ("\"mobilenet_v3_small\"", 32, Package::Timm),
        ("\"mobilenet_v3_small\"", 32, Package::Torchvision),
        ("\"squeezenet1_1\"", 64, Package::Torchvision),
        ("\"dinov2_small_14\"", 56, Package::Timm),
    ] {
        let case = case(model, side, Flavour::Torch, 3);
        let params = case.counted();
        let network = case.network(&params);
        let checkpoint = Checkpoint::whole(&network, package).unwrap();
        let path = folder.path().join("written.safetensors");
        let bytes = checkpoint
            .encode(&network, &[("classes", "[]".into())])
            .unwrap();
        assert_eq!(
            bytes,
            checkpoint
                .encode(&network, &[("classes", "[]".into())])
                .unwrap()
        );
        std::fs::write(&path, bytes).unwrap();
        let backbone = &case.model.backbone;
        let size = case.preprocess.image_size;
        let width = case.model.width;
        let graph = Graph::build_classifier(backbone, width, size, case.flavour, 3).unwrap();
        let specs = (0..graph.nodes().len()).flat_map(|id| graph.params(id));
        let wanted: Vec<_> = specs.map(|spec| (spec.name, spec.dims)).collect();
        let loaded =
            weights::load(path.to_str().unwrap(), backbone, &wanted, &Device::Cpu).unwrap();
        assert_eq!(loaded.naming, package.naming());
        assert_eq!(loaded.flavour, case.flavour);
        // In graph order, the head's parameters are the classifier's.
        assert_eq!(loaded.tensors.len(), params.len());
        for ((name, value), (ours, param)) in loaded.tensors.iter().zip(params.iter()) {
            let [found, expected] = [value, &param.value].map(|tensor| {
                let flat = tensor.flatten_all().unwrap();
                flat.to_vec1::<f32>().unwrap()
            });
            let close = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-6;
            assert!(found.iter().zip(&expected).all(close), "{name} {ours}");
        }
    }
}

#[test]
fn what_a_package_cannot_express_is_refused_with_what_to_do() {
    let refused = |model: &str, flavour: Flavour, package: Package| {
        let case = case(model, 64, flavour, 3);
        let params = Params::default();
        let refusal = Checkpoint::whole(&case.network(&params), package).unwrap_err();
        (refusal.to_string(), refusal.help().unwrap())
    };
    let pooled = "\"mobilenet_v3_small\"\nhead = [{ dropout = 0.2 }, { dense = 3 }]";
    let (message, help) = refused(pooled, Flavour::Torch, Package::Timm);
    assert_eq!(
        message,
        "timm's `mobilenetv3_small_100` ends in the mean of the map, dense 1024, hard_swish, dense \
         3, and this model in the mean of the map, dense 3"
    );
    assert!(
        help.starts_with(
            "train with `pooling = \"avg\"`, `head = [{ dense = 1024, activation = \"hard_swish\" \
             }, { dense = 3 }]`; or `--split-head`"
        ),
        "{help}"
    );
    let plain = "head = [{ dense = 3 }]";
    let (message, help) = refused(
        &format!("\"squeezenet1_1\"\n{plain}"),
        Flavour::Torch,
        Package::Timm,
    );
    assert_eq!(message, "timm has no `squeezenet1_1`");
    assert_eq!(help, "`--names torchvision` has it");
    let (message, _) = refused(
        &format!("\"resnet50\"\n{plain}"),
        Flavour::Tf,
        Package::Timm,
    );
    assert!(message.contains("Keras' convention"), "{message}");
    let cut = format!("\"mobilenet_v2\"\ncut = \"block_13_project_BN\"\n{plain}");
    let (message, help) = refused(&cut, Flavour::Torch, Package::Torchvision);
    assert!(
        message.contains("cut at `block_13_project_BN`"),
        "{message}"
    );
    assert!(help.starts_with("`--split-head`"), "{help}");
    // The mean after the norm is not the norm after the mean.
    let other = "\"convnext_tiny\"\npooling = \"none\"\nhead = [\"avg_pool\", { dense = 3 }]";
    let (message, _) = refused(other, Flavour::Torch, Package::Timm);
    assert!(message.contains("ends in"), "{message}");
    let vgg = "\"vgg16\"\npooling = \"none\"\nhead = [\"flatten\", { dense = 4096, activation = \
               \"relu\" }, { dense = 4096, activation = \"relu\" }, { dense = 3 }]";
    let case = case(vgg, 64, Flavour::Torch, 3);
    let params = Params::default();
    let network = case.network(&params);
    let spec = ParamSpec {
        name: "fc1/kernel".into(),
        kind: ParamKind::Kernel,
        dims: vec![4096, 2048],
    };
    let refusal = Writer::new(&network, Package::Timm).check_side(&spec);
    assert!(matches!(refusal, Err(Refusal::Size { .. })));
}

#[test]
fn a_head_beside_the_backbone_has_numbers() {
    let model = "\"mobilenet_v2\"\nwidth = 0.35\ncut = \"block_2_add\"\n\
                 head = [\"batch_norm\", { dense = 8, activation = \"relu\" }, { dense = 3 }]";
    let case = case(model, 32, Flavour::Torch, 3);
    let params = case.counted();
    let network = case.network(&params);
    let found = Checkpoint::split(&network, Package::Timm);
    let found = found.unwrap();
    let names: Vec<&str> = found
        .names()
        .filter(|name| name.starts_with(HEAD))
        .collect();
    assert_eq!(
        names,
        [
            "xp_head.1.weight",
            "xp_head.1.bias",
            "xp_head.1.running_mean",
            "xp_head.1.running_var",
            "xp_head.2.weight",
            "xp_head.2.bias",
            "xp_head.4.weight",
            "xp_head.4.bias",
        ]
    );
    let kinds: Vec<&str> = found.head.iter().map(|(_, kind)| *kind).collect();
    assert_eq!(kinds[0], "GlobalAveragePooling2D");
    assert_eq!(found.architecture.arguments["num_classes"], 0);
    assert!(
        found
            .names()
            .any(|name| name == "blocks.1.1.conv_pwl.weight")
    );
}

#[test]
fn the_package_follows_from_weights_and_architecture() {
    let of = |model: &str, flavour: Flavour| {
        let text = format!("backbone = {model}\nhead = [{{ dense = 2 }}]");
        Package::of(&toml::from_str(&text).unwrap(), flavour)
    };
    let torch = |model: &str| of(model, Flavour::Torch);
    assert_eq!(torch("\"resnet50\""), Package::Timm);
    assert_eq!(torch("\"googlenet\""), Package::Torchvision);
    assert_eq!(torch("\"mobilenet_v2\"\nwidth = 0.6"), Package::Torchvision);
    let published = "\"resnet50\"\nweights = \"https://download.pytorch.org/models/x.pth\"";
    assert_eq!(torch(published), Package::Torchvision);
    assert_eq!(of("\"efficientnet_b0\"", Flavour::Tf), Package::Timm);
}

/// `just export-names`: every backbone in the packages' own networks, with weights by formula. Needs
/// a Python with timm and torchvision, named by `EXPORT_PYTHON`.
#[test]
#[ignore = "needs timm and torchvision"]
fn the_packages_load_and_compute_the_same() {
    let Some(python) = std::env::var_os("EXPORT_PYTHON") else {
        say("skipped: needs `EXPORT_PYTHON`, a Python with timm and torchvision");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (mut written, mut lacking) = (0, Vec::new());
    for (name, case) in cases() {
        let params = formula(&case.graph);
        let network = case.network(&params);
        let pictures = noise("pictures", &case.graph.nodes()[0].shape.batched(3));
        let logits = Prefix::compile(&case.graph, &params, &[0], &[case.graph.output()])
            .and_then(|network| network.run(std::slice::from_ref(&pictures)))
            .unwrap();
        for package in BOTH {
            let checkpoint = match Checkpoint::whole(&network, package) {
                Ok(checkpoint) => checkpoint,
                Err(Refusal::Missing { .. } | Refusal::Convention { .. }) => {
                    lacking.push(format!("{package} {name}"));
                    continue;
                }
                // Its pool takes the mean.
                Err(Refusal::Head { .. }) if name == "resnet18_max" => continue,
                Err(refusal) => panic!("{name}: {refusal}"),
            };
            let path = folder.path().join(format!("{name}.{package}.safetensors"));
            let bytes = checkpoint.encode(&network, &[]).unwrap();
            std::fs::write(path, bytes).unwrap();
            written += 1;
        }
        let tensors = [
            (
                "pictures".to_owned(),
                pictures
                    .permute((0, 3, 1, 2))
                    .unwrap()
                    .contiguous()
                    .unwrap(),
            ),
            ("logits".to_owned(), logits[0].clone()),
        ];
        let path = folder.path().join(format!("{name}.expected"));
        candle_core::safetensors::save(&tensors.into_iter().collect(), path).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checkpoints.py");
        let status = Command::new(&python)
            .arg(script)
            .arg(folder.path())
            .status();
        assert!(status.unwrap().success(), "{name}");
        // Some are large.
        for file in std::fs::read_dir(folder.path()).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }
    }
    say(&format!(
        "{written} networks; not there: {}",
        lacking.join(", ")
    ));
}

/// All backbones in all conventions that a package has, and other widths and heads.
fn cases() -> Vec<(String, Case)> {
    let side = |name: &str| match name {
        "inception_v3" => 96,
        name if name.starts_with("dinov2") => 56,
        name if name.starts_with("vgg") => 224,
        _ => 64,
    };
    let families = FAMILIES.iter().map(|family| {
        let name = family.name;
        let case = case(&format!("\"{name}\""), side(name), Flavour::Torch, 5);
        (name.to_owned(), case)
    });
    let more = [
        ("efficientnet_b0_tf", "\"efficientnet_b0\"", Flavour::Tf, 5),
        ("efficientnet_b3_tf", "\"efficientnet_b3\"", Flavour::Tf, 5),
        (
            "mobilenet_v3_large_tf",
            "\"mobilenet_v3_large\"",
            Flavour::Tf,
            5,
        ),
        (
            "mobilenet_v3_small_tf",
            "\"mobilenet_v3_small\"",
            Flavour::Tf,
            5,
        ),
        (
            "mobilenet_v2_035",
            "\"mobilenet_v2\"\nwidth = 0.35",
            Flavour::Torch,
            5,
        ),
        (
            "mobilenet_v2_140",
            "\"mobilenet_v2\"\nwidth = 1.4",
            Flavour::Torch,
            5,
        ),
        (
            "mobilenet_v3_small_050",
            "\"mobilenet_v3_small\"\nwidth = 0.5",
            Flavour::Torch,
            5,
        ),
        (
            "mobilenet_v3_large_075",
            "\"mobilenet_v3_large\"\nwidth = 0.75",
            Flavour::Torch,
            5,
        ),
        (
            "resnet18_max",
            "\"resnet18\"\npooling = \"max\"\nhead = [{ dense = 5 }]",
            Flavour::Torch,
            5,
        ),
        (
            "resnet18_one_logit",
            "\"resnet18\"\nhead = [{ dropout = 0.3 }, { dense = 1 }]",
            Flavour::Torch,
            1,
        ),
    ];
    let more = more.map(|(name, model, flavour, outputs)| {
        (name.to_owned(), case(model, 64, flavour, outputs))
    });
    families.chain(more).collect()
}

#[test]
fn what_reads_a_flattened_map_reads_channels_first() {
    let map = Some(Shape::Map {
        channels: 2,
        height: 1,
        width: 2,
    });
    let values = |dims: &[usize]| {
        Tensor::arange(0f32, 4.0, &Device::Cpu)
            .unwrap()
            .reshape(dims)
    };
    let there = |value: &Tensor, map| -> Vec<f32> {
        let value = channels_first(value, map).unwrap();
        value.flatten_all().unwrap().to_vec1().unwrap()
    };
    for dims in [&[1, 4][..], &[4]] {
        let value = values(dims).unwrap();
        assert_eq!(there(&value, map), [0.0, 2.0, 1.0, 3.0]);
        assert_eq!(there(&value, None), [0.0, 1.0, 2.0, 3.0]);
    }
    // What is of another length stays.
    let bias = Tensor::arange(0f32, 3.0, &Device::Cpu).unwrap();
    assert_eq!(there(&bias, map), [0.0, 1.0, 2.0]);
}

#[test]
fn a_bias_keeps_its_order_behind_a_flattened_map() {
    let model = "\"mobilenet_v2\"\nwidth = 0.35\ncut = \"block_2_add\"\npooling = \"none\"\n\
                 head = [\"flatten\", { dense = 512 }]";
    let case = case(model, 32, Flavour::Torch, 512);
    let params = case.counted();
    let network = case.network(&params);
    let found = Checkpoint::split(&network, Package::Timm).unwrap();
    let value = |name: &str| -> Vec<f32> {
        let entry = found.entries.iter().find(|(found, _)| found == name);
        let Some((_, Entry::Floats(value))) = entry else {
            panic!("no `{name}`");
        };
        value.flatten_all().unwrap().to_vec1().unwrap()
    };
    let own =
        |name: &str| -> Vec<f32> { params.value(name).flatten_all().unwrap().to_vec1().unwrap() };
    let (kernel, bias) = (own("dense/kernel"), own("dense/bias"));
    // As many outputs as inputs: only their names tell them apart.
    assert_eq!(kernel.len(), bias.len() * bias.len());
    assert_eq!(value("xp_head.1.bias"), bias);
    assert_ne!(value("xp_head.1.weight"), kernel);
}
