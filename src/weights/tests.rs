use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde::Deserialize;

use super::keys::checkpoint_key;
use super::*;
use crate::graph::{Graph, Op};
use crate::zoo::registry;

const FAMILY: &str = "mobilenet_v2";

type Dims = Vec<usize>;

#[derive(Deserialize)]
struct Published {
    torchvision: IndexMap<String, Dims>,
    timm: IndexMap<String, Dims>,
    kernels: IndexMap<String, Vec<Dims>>,
}

fn published() -> Published {
    serde_json::from_str(include_str!("../../tests/fixtures/mobilenet_v2_keys.json")).unwrap()
}

fn backbone(width: f64) -> Graph {
    Graph::build_backbone(FAMILY, width, [32, 32], Flavour::Torch).unwrap()
}

fn wanted(graph: &Graph) -> Vec<(String, Dims)> {
    (0..graph.nodes().len())
        .flat_map(|id| graph.params(id))
        .map(|spec| (spec.name, spec.dims))
        .collect()
}

/// Keys of kernels and scales: what both houses agree on, and what only one has.
#[derive(Deserialize)]
struct Houses {
    shared: BTreeMap<String, Dims>,
    torchvision: Option<BTreeMap<String, Dims>>,
    timm: Option<BTreeMap<String, Dims>>,
}

#[test]
fn every_kernel_and_scale_has_its_key_in_published_checkpoints() {
    let text = include_str!("../../tests/fixtures/torchvision_keys.json");
    let families: IndexMap<String, Houses> = serde_json::from_str(text).unwrap();
    assert_eq!(families.len(), 13);
    for (family, houses) in families {
        let size = [registry::find(&family).unwrap().default_size; 2];
        let graph = Graph::build_classifier(&family, 1.0, size, Flavour::Torch, 1000).unwrap();
        for (naming, own) in [
            (Naming::Torchvision, houses.torchvision),
            (Naming::Timm, houses.timm),
        ] {
            let Some(mut published) = own else { continue };
            published.extend(houses.shared.clone());
            let mut ours = BTreeMap::new();
            for (name, dims) in wanted(&graph) {
                let key = checkpoint_key(&family, naming, &name);
                let key = key.unwrap_or_else(|| panic!("no key for {name}"));
                if key.ends_with(".weight") {
                    ours.insert(key, dims);
                }
            }
            // timm writes VGG's first dense layers as convolutions.
            for (key, dims) in &mut published {
                if ours.get(key).is_some_and(|ours| ours.len() < dims.len()) {
                    *dims = vec![dims[0], dims[1..].iter().product()];
                }
            }
            assert_eq!(ours, published, "{family}");
        }
    }
}

#[test]
fn dense_kernels_on_flattened_maps_are_read_in_our_order() {
    let folder = tempfile::tempdir().unwrap();
    // Two units, 512 channels of 1 x 2 pixels; the values count on from 0.
    let wanted = [("fc1/kernel".to_string(), vec![2, 1024])];
    for (key, dims) in [
        ("classifier.0.weight", vec![2, 1024]),
        ("pre_logits.fc1.weight", vec![2, 512, 1, 2]),
    ] {
        let values: Vec<u8> = (0..2048).flat_map(|v| (v as f32).to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, dims, &values).unwrap();
        let path = write(
            &folder,
            "w.safetensors",
            &serialize([(key, view)], None).unwrap(),
        );
        let source = path.to_string_lossy();
        let loaded = load(&source, "vgg16", &wanted, &Device::Cpu).unwrap();
        let kernel = loaded.tensors["fc1/kernel"].to_vec2::<f32>().unwrap();
        // Output 1, pixel 0, channels 0 to 2; then pixel 1.
        assert_eq!(kernel[1][..3], [1024.0, 1026.0, 1028.0]);
        assert_eq!(kernel[1][512..515], [1025.0, 1027.0, 1029.0]);
    }
    let key = |naming| checkpoint_key(FAMILY, naming, "predictions/bias");
    assert_eq!(key(Naming::Torchvision).unwrap(), "classifier.1.bias");
    assert_eq!(key(Naming::Timm).unwrap(), "classifier.bias");
}

#[test]
fn classifiers_of_token_nets_have_their_keys() {
    for (family, naming, expected) in [
        ("convnext_tiny", Naming::Timm, "head.fc.weight"),
        ("convnext_small", Naming::Torchvision, "classifier.2.weight"),
        ("vit_small_16", Naming::Timm, "head.weight"),
    ] {
        let key = checkpoint_key(family, naming, "predictions/kernel");
        assert_eq!(key.as_deref(), Some(expected), "{family}");
    }
}

#[test]
fn every_parameter_of_token_nets_has_its_key() {
    let text = include_str!("../../tests/fixtures/token_keys.json");
    let published: IndexMap<String, BTreeMap<String, Dims>> = serde_json::from_str(text).unwrap();
    assert_eq!(published.len(), 4);
    for (name, published) in published {
        let (family, house) = name.split_once(' ').unwrap();
        let naming = match house {
            "timm" => Naming::Timm,
            _ => Naming::Torchvision,
        };
        let graph = Graph::build_backbone(family, 1.0, [224, 224], Flavour::Torch).unwrap();
        let mut ours = BTreeMap::new();
        for (name, dims) in wanted(&graph) {
            let key = checkpoint_key(family, naming, &name);
            let key = key.unwrap_or_else(|| panic!("no key for {name}"));
            let theirs = published.get(&key);
            let theirs = theirs.unwrap_or_else(|| panic!("no tensor {key} for {name}"));
            let values = |dims: &Dims| dims.iter().product::<usize>();
            if !name.ends_with("/position") {
                assert_eq!(values(&dims), values(theirs), "{name}");
            }
            ours.insert(key, ());
        }
        assert!(ours.keys().eq(published.keys()), "{name}");
    }
}

/// A file of the given tensors, filled with 0, 1, 2... per tensor in the given type.
fn file(tensors: &[(String, Dims)], dtype: Dtype, metadata: &[(&str, &str)]) -> Vec<u8> {
    let data: Vec<(String, Dims, Vec<u8>)> = tensors
        .iter()
        .map(|(name, dims)| {
            let values = 0..dims.iter().product::<usize>();
            let bytes = match dtype {
                Dtype::F16 => values
                    .flat_map(|v| half::f16::from_f32((v % 8) as f32).to_le_bytes())
                    .collect(),
                Dtype::BF16 => values
                    .flat_map(|v| half::bf16::from_f32((v % 8) as f32).to_le_bytes())
                    .collect(),
                Dtype::I32 => values.flat_map(|v| (v as i32).to_le_bytes()).collect(),
                _ => values
                    .flat_map(|v| ((v % 8) as f32).to_le_bytes())
                    .collect(),
            };
            (name.clone(), dims.clone(), bytes)
        })
        .collect();
    let views = data.iter().map(|(name, dims, bytes)| {
        let view = TensorView::new(dtype, dims.clone(), bytes).unwrap();
        (name.as_str(), view)
    });
    let metadata: HashMap<String, String> = metadata
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect();
    serialize(views, (!metadata.is_empty()).then_some(metadata)).unwrap()
}

fn stem() -> Vec<(String, Dims)> {
    vec![
        ("Conv1/kernel".into(), vec![4, 3, 3, 3]),
        ("bn_Conv1/gamma".into(), vec![4]),
    ]
}

fn renamed(tensors: &[(String, Dims)], naming: Naming) -> Vec<(String, Dims)> {
    tensors
        .iter()
        .map(|(name, dims)| (checkpoint_key(FAMILY, naming, name).unwrap(), dims.clone()))
        .collect()
}

fn write(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn load_stem(path: &Path) -> Result<Loaded, WeightsError> {
    load(&path.to_string_lossy(), FAMILY, &stem(), &Device::Cpu)
}

#[test]
fn mobile_families_have_the_keys_of_each_house() {
    let text = include_str!("../../tests/fixtures/mobile_keys.json");
    let tables: IndexMap<String, BTreeMap<String, Dims>> = serde_json::from_str(text).unwrap();
    assert_eq!(tables.len(), 8);
    for (table, published) in tables {
        let (family, house) = table.split_once(' ').unwrap();
        let naming = match house {
            "timm" => Naming::Timm,
            _ => Naming::Torchvision,
        };
        let graph = Graph::build_backbone(family, 1.0, [96, 96], Flavour::Torch).unwrap();
        let key = |name: &str| checkpoint_key(family, naming, name).unwrap();
        let ours: BTreeMap<String, Dims> = wanted(&graph)
            .into_iter()
            .map(|(name, dims)| (key(&name), dims))
            .filter(|(key, _)| key.ends_with(".weight"))
            .collect();
        assert_eq!(ours, published, "{table}");
    }
}

#[test]
fn variances_make_up_for_another_epsilon() {
    let folder = tempfile::tempdir().unwrap();
    let wanted = [("conv_bn/moving_variance".to_string(), vec![2])];
    for (key, value) in [
        ("features.0.1.running_var", 1.0 + 99e-5),
        ("bn1.running_var", 1.0),
    ] {
        let values: Vec<u8> = [1f32; 2].iter().flat_map(|v| v.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, vec![2], &values).unwrap();
        let bytes = serialize([(key, view)], None).unwrap();
        let path = write(&folder, "w.safetensors", &bytes);
        let source = path.to_string_lossy();
        let loaded = load(&source, "mobilenet_v3_small", &wanted, &Device::Cpu).unwrap();
        let variance: Vec<f32> = loaded.tensors[&wanted[0].0].to_vec1().unwrap();
        assert_eq!(variance, [value; 2], "{key}");
    }
}

#[test]
fn keys_and_shapes_are_those_of_torchvision_and_timm() {
    let published = published();
    let wanted = wanted(&backbone(1.0));
    for (naming, theirs) in [
        (Naming::Torchvision, published.torchvision),
        (Naming::Timm, published.timm),
    ] {
        let ours: IndexMap<String, Dims> = renamed(&wanted, naming).into_iter().collect();
        assert_eq!(ours.len(), theirs.len());
        for (key, dims) in &theirs {
            assert_eq!(ours.get(key), Some(dims), "{key}");
        }
    }
}

#[test]
fn classifiers_have_their_published_names() {
    for (naming, module) in [
        (Naming::Torchvision, "classifier.1"),
        (Naming::Timm, "classifier"),
    ] {
        let key = |name| checkpoint_key(FAMILY, naming, name);
        assert_eq!(key("predictions/kernel"), Some(format!("{module}.weight")));
        assert_eq!(key("predictions/bias"), Some(format!("{module}.bias")));
    }
}

#[test]
fn widths_have_the_published_kernels() {
    for (width, theirs) in published().kernels {
        let graph = backbone(width.parse().unwrap());
        let ours: Vec<Dims> = (0..graph.nodes().len())
            .filter(|&id| {
                matches!(
                    graph.nodes()[id].op,
                    Op::Conv2d { .. } | Op::DepthwiseConv2d { .. }
                )
            })
            .map(|id| graph.params(id)[0].dims.clone())
            .collect();
        assert_eq!(ours, theirs, "width {width}");
    }
}

#[test]
fn loads_the_imagenet_weights_where_they_are_at_hand() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../shared/weights/mobilenet_v2_imagenet.safetensors");
    if !path.exists() {
        // Captured unless the test runs with `--nocapture`.
        #[expect(clippy::print_stderr, reason = "a skipped test says so")]
        {
            eprintln!("skipped: no {}", path.display());
        }
        return;
    }
    let graph = backbone(1.0);
    let source = path.to_string_lossy();
    let loaded = load(&source, FAMILY, &wanted(&graph), &Device::Cpu).unwrap();
    assert_eq!(loaded.naming, Naming::Torchvision);
    assert_eq!(loaded.flavour, Flavour::Torch);
    assert_eq!(loaded.tensors.len(), 260);
    assert_eq!(loaded.fingerprint.len(), 64);
    assert_eq!(flavour_of(&source).unwrap(), Flavour::Torch);

    let narrow = load(&source, FAMILY, &wanted(&backbone(0.5)), &Device::Cpu).unwrap_err();
    assert!(
        narrow.to_string().contains("`features.0.0.weight`"),
        "{narrow}"
    );
    assert!(narrow.to_string().contains("[32, 3, 3, 3]"), "{narrow}");
    assert!(
        narrow
            .to_string()
            .contains("`Conv1/kernel` needs [16, 3, 3, 3]"),
        "{narrow}"
    );
}

#[test]
fn loads_every_naming_and_float_type_as_f32() {
    let folder = tempfile::tempdir().unwrap();
    // Keras writes no safetensors.
    for naming in [Naming::Xp, Naming::Torchvision, Naming::Timm] {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
            let mut tensors = renamed(&stem(), naming);
            tensors.push(("classifier.weight".into(), vec![2, 4]));
            let path = write(&folder, "w.safetensors", &file(&tensors, dtype, &[]));
            let loaded = load_stem(&path).unwrap();
            assert_eq!(loaded.naming, naming);
            let names: Vec<&String> = loaded.tensors.keys().collect();
            assert_eq!(names, ["Conv1/kernel", "bn_Conv1/gamma"]);
            let gamma = &loaded.tensors["bn_Conv1/gamma"];
            assert_eq!(gamma.dtype(), DType::F32);
            assert_eq!(gamma.to_vec1::<f32>().unwrap(), [0.0, 1.0, 2.0, 3.0]);
        }
    }
}

#[test]
fn a_run_directory_gives_its_model_and_flavour() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = file(&stem(), Dtype::F32, &[(FLAVOUR_KEY, "tf")]);
    write(&folder, "model.safetensors", &bytes);
    let loaded = load_stem(folder.path()).unwrap();
    assert_eq!(loaded.flavour, Flavour::Tf);
    assert_eq!(loaded.naming, Naming::Xp);
    let source = folder.path().to_string_lossy().into_owned();
    assert_eq!(flavour_of(&source).unwrap(), Flavour::Tf);
    write(
        &folder,
        "model.safetensors",
        &file(&stem(), Dtype::F32, &[(FLAVOUR_KEY, "jax")]),
    );
    assert!(matches!(flavour_of(&source), Err(WeightsError::Flavour(name)) if name == "jax"));
}

#[test]
fn unfit_tensors_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let failure = |tensors: &[(String, Dims)], dtype| {
        let path = write(&folder, "w.safetensors", &file(tensors, dtype, &[]));
        let error = load_stem(&path).unwrap_err();
        let message = error.to_string().replace(&*path.to_string_lossy(), "FILE");
        (message, error.help().unwrap_or_default())
    };
    let theirs = renamed(&stem(), Naming::Timm);
    let (message, help) = failure(&theirs[..1], Dtype::F32);
    assert_eq!(
        message,
        "`FILE` lacks 1 of 2 tensors: `bn1.weight` [4] for `bn_Conv1/gamma`"
    );
    assert!(help.contains("model.width"));

    let mut wide = theirs.clone();
    wide[1].1 = vec![8];
    let (message, _) = failure(&wide, Dtype::F32);
    assert_eq!(
        message,
        "tensor `bn1.weight` in `FILE` is [8], but `bn_Conv1/gamma` needs [4]"
    );

    let (message, _) = failure(&theirs, Dtype::I32);
    assert_eq!(
        message,
        "tensor `conv_stem.weight` in `FILE` holds I32, not floating-point numbers"
    );

    let (message, _) = failure(&[("layer1.weight".into(), vec![1])], Dtype::F32);
    assert_eq!(
        message,
        "`FILE` holds no weights of `mobilenet_v2`; its first tensor is `layer1.weight`"
    );
}

#[test]
fn hostile_files_are_errors() {
    let sound = file(&stem(), Dtype::F32, &[]);
    let with_header = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(vec![0; data]);
        bytes
    };
    let mut lying = sound.clone();
    lying[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut lying_a_little = sound.clone();
    lying_a_little[..8].copy_from_slice(&90_000_000_u64.to_le_bytes());
    let overlapping = r#"{"Conv1/kernel":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
        "bn_Conv1/gamma":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#;
    let overflowing = r#"{"Conv1/kernel":{"dtype":"F32","shape":[4611686018427387904,4],
        "data_offsets":[0,8]}}"#;
    let backwards = r#"{"Conv1/kernel":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#;
    let beyond = r#"{"Conv1/kernel":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let folder = tempfile::tempdir().unwrap();
    for (what, bytes) in [
        ("nothing", Vec::new()),
        ("a short length", sound[..5].to_vec()),
        ("a short header", sound[..40].to_vec()),
        ("short data", sound[..sound.len() - 1].to_vec()),
        ("too much data", [sound.as_slice(), &[0]].concat()),
        ("a huge length", lying),
        ("a length beyond the file", lying_a_little),
        ("overlapping tensors", with_header(overlapping, 12)),
        ("overflowing dimensions", with_header(overflowing, 8)),
        ("offsets back to front", with_header(backwards, 8)),
        ("offsets beyond the data", with_header(beyond, 4)),
        ("no JSON", with_header("hello", 0)),
        (
            "no UTF-8",
            [&2_u64.to_le_bytes()[..], &[0xff, 0xfe]].concat(),
        ),
        ("deep nesting", with_header(&nested, 0)),
    ] {
        let path = write(&folder, "w.safetensors", &bytes);
        let error = load_stem(&path).unwrap_err();
        assert!(
            matches!(error, WeightsError::Damaged { .. }),
            "{what}: {error}"
        );
        assert!(error.help().is_some());
        let _ = flavour_of(&path.to_string_lossy());
    }
    for length in 0..sound.len() {
        let path = write(&folder, "w.safetensors", &sound[..length]);
        assert!(load_stem(&path).is_err(), "{length} bytes");
    }
    for unreadable in [folder.path().join("folder.h5"), folder.path().to_path_buf()] {
        let _ = std::fs::create_dir(&unreadable);
        let error = load_stem(&unreadable).unwrap_err();
        assert!(matches!(error, WeightsError::Unreadable { .. }), "{error}");
        assert!(error.help().is_some(), "{error}");
    }
    let absent = load_stem(&folder.path().join("absent.safetensors")).unwrap_err();
    assert!(
        matches!(absent, WeightsError::Unreadable { .. }),
        "{absent}"
    );
}

#[test]
fn sources_are_told_apart() {
    let hub = |id: &str, revision: &str| Source::Hub {
        id: id.into(),
        revision: revision.into(),
    };
    for (text, expected) in [
        (
            "timm/mobilenetv2_100.ra_in1k",
            hub("timm/mobilenetv2_100.ra_in1k", "main"),
        ),
        ("timm/tf_x@v1", hub("timm/tf_x", "v1")),
        (
            "weights/x.safetensors",
            Source::File("weights/x.safetensors".into()),
        ),
        ("/absent/x", Source::File("/absent/x".into())),
    ] {
        assert_eq!(Source::parse(text).unwrap(), expected, "{text}");
    }
    for text in [
        "", "imagenet", "a/b/c", "../x/y", "a/..", "a b/c", "a/b@../c",
    ] {
        assert!(
            matches!(Source::parse(text), Err(WeightsError::UnknownSource(_))),
            "{text}"
        );
    }
    assert!(matches!(
        Source::parse("xp/absent"),
        Err(WeightsError::NotEmbedded { .. })
    ));
    let url = "https://example.org/xception_weights_notop.h5#sha256=AB";
    let address = Source::parse(url).unwrap();
    assert!(matches!(&address, Source::Url(it) if it.sha256.as_deref() == Some("ab")));
    assert_eq!(flavour_of(url).unwrap(), Flavour::Tf);
    assert_eq!(flavour_of("timm/tf_x").unwrap(), Flavour::Tf);
    assert_eq!(flavour_of("timm/x").unwrap(), Flavour::Torch);
}
