//! Published weights on real pictures, where `../shared` (or `PARITY_SHARED`) has them.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use xp::config::{DataConfig, Flavour};
use xp::data;
use xp::data::preprocess::{Preprocess, named};
use xp::engine::params::Params;
use xp::engine::prefix::Prefix;
use xp::graph::Graph;
use xp::weights;
use xp::zoo::registry;

/// ImageNet's breeds of dogs.
const DOGS: std::ops::RangeInclusive<usize> = 151..=268;

/// Pictures at a time.
const BATCH: usize = 32;

/// A file or folder of `../shared`; says so where it is missing.
fn shared(path: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let root = std::env::var_os("PARITY_SHARED").map_or(beside, PathBuf::from);
    let path = root.join(path);
    let found = path.exists().then_some(path.clone());
    if found.is_none() {
        say(&format!("skipped: no {}", path.display()));
    }
    found
}

/// Says something in a test's output.
#[expect(clippy::print_stderr, reason = "tests report there")]
fn say(message: &str) {
    eprintln!("{message}");
}

#[test]
fn squeezenet_sees_dogs_on_pictures_of_dogs() {
    let (Some(file), Some(folder)) = (
        shared("weights/squeezenet1_1_imagenet.safetensors"),
        shared("data/dog_cat/dog"),
    ) else {
        return;
    };
    let family = registry::find("squeezenet1_1").unwrap();
    let size = [family.default_size; 2];
    let graph = Graph::build_classifier(family.name, 1.0, size, Flavour::Torch, 1000).unwrap();
    let wanted: Vec<(String, Vec<usize>)> = (0..graph.nodes().len())
        .flat_map(|id| graph.params(id))
        .map(|spec| (spec.name, spec.dims))
        .collect();
    let source = file.to_string_lossy();
    let loaded = weights::load(&source, family.name, &wanted, &Device::Cpu).unwrap();
    assert_eq!(loaded.naming, weights::Naming::Torchvision);
    let mut params = Params::initialise(&graph, 0, &Device::Cpu).unwrap();
    for (name, value) in loaded.tensors {
        params.set(&name, value).unwrap();
    }
    let network = Prefix::compile(&graph, &params, &[0], &[graph.output()]).unwrap();
    let config: DataConfig = toml::from_str("root = 'x'\nresize = 256").unwrap();
    let scaling = named((family.normalize)(Flavour::Torch));
    let preprocess = Preprocess::from_config(&config, size, scaling).unwrap();

    let mut pictures: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    pictures.sort();
    // All of them in a release build alone.
    let every = if cfg!(debug_assertions) { 8 } else { 1 };
    let pictures: Vec<PathBuf> = pictures.into_iter().step_by(every).collect();
    let mut dogs = 0;
    for paths in pictures.chunks(BATCH) {
        let mut values = Vec::new();
        for path in paths {
            values.extend(data::load_picture(path, &preprocess).unwrap());
        }
        let dims = (paths.len(), size[0] as usize, size[1] as usize, 3);
        let input = Tensor::from_vec(values, dims, &Device::Cpu).unwrap();
        let logits = network.run(&[input]).unwrap().remove(0);
        for class in logits.argmax(1).unwrap().to_vec1::<u32>().unwrap() {
            dogs += usize::from(DOGS.contains(&(class as usize)));
        }
    }
    let share = dogs as f64 / pictures.len() as f64;
    say(&format!(
        "SqueezeNet sees a dog on {dogs} of {} pictures of dogs",
        pictures.len()
    ));
    assert!(share >= 0.85, "{share}");
}
