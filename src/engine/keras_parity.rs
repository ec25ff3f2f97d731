//! Weights of Keras' files against Keras' own features: see
//! `tests/fixtures/make_keras_reference.py`.

use std::path::Path;
use std::process::Command;

use candle_core::{Device, safetensors};

use super::params::Params;
use super::prefix::Prefix;
use super::test_support::{assert_close, difference};
use crate::config::Flavour;
use crate::graph::Graph;
use crate::weights::{self, Naming};

/// Random networks in every layout that Keras has written. Needs `PARITY_KERAS`, a Python with
/// Keras.
#[test]
#[expect(clippy::print_stderr, reason = "tests report there")]
fn features_of_keras_weights_equal_keras() {
    let Some(python) = std::env::var_os("PARITY_KERAS") else {
        eprintln!("skipped: needs `PARITY_KERAS`, a Python with Keras");
        return;
    };
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/make_keras_reference.py");
    for (family, width, side) in [
        ("mobilenet_v2", 0.35, 64),
        ("xception", 1.0, 96),
        ("inception_v3", 1.0, 96),
        ("resnet50", 1.0, 64),
        ("vgg16", 1.0, 40),
    ] {
        for layout in ["keras2", "keras3", "nameless"] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("network.weights.h5");
            let reference = folder.path().join("reference.safetensors");
            let run = Command::new(&python)
                .arg(&script)
                .args([family, &side.to_string(), layout])
                .args([&file, &reference])
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&run.stderr);
            assert!(run.status.success(), "{said}");
            let expected = safetensors::load(&reference, &Device::Cpu).unwrap();
            let graph = Graph::build_backbone(family, width, [side; 2], Flavour::Tf).unwrap();
            let wanted: Vec<(String, Vec<usize>)> = (0..graph.nodes().len())
                .flat_map(|id| graph.params(id))
                .map(|spec| (spec.name, spec.dims))
                .collect();
            let source = file.to_string_lossy();
            let loaded = weights::load(&source, family, &wanted, &Device::Cpu)
                .unwrap_or_else(|error| panic!("{family} {layout}: {error}"));
            assert_eq!(loaded.naming, Naming::Keras);
            assert_eq!(loaded.flavour, Flavour::Tf);
            let mut params = Params::initialise(&graph, 0, &Device::Cpu).unwrap();
            for (name, value) in loaded.tensors {
                params.set(&name, value).unwrap();
            }
            let pictures = [expected["pictures"].clone()];
            let prefix = Prefix::compile(&graph, &params, &[0], &[graph.output()]).unwrap();
            let features = prefix.run(&pictures).unwrap().remove(0);
            eprintln!(
                "{family} {layout}: features differ by {:.1e}",
                difference(&features, &expected["features"])
            );
            assert_close(family, &features, &expected["features"], 1e-4);
        }
    }
}
