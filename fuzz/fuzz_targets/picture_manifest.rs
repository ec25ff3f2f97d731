//! Any bytes as a CSV manifest of pictures, with a folder of pictures that it may name.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use xp::config::{self, DataConfig};
use xp::data::{Dataset, ScanOptions};
use xp_fuzz::Scratch;

static SCRATCH: Scratch = Scratch::new();

const PICTURES: [(&str, &[u8]); 4] = [
    (
        "a.png",
        include_bytes!("../../tests/fixtures/pictures/plain.png"),
    ),
    (
        "b/c.jpg",
        include_bytes!("../../tests/fixtures/pictures/plain.jpg"),
    ),
    (
        "b/d.gif",
        include_bytes!("../../tests/fixtures/pictures/plain.gif"),
    ),
    (
        "e, f\n.png",
        include_bytes!("../../tests/fixtures/pictures/grey.png"),
    ),
];

/// A manifest whose split is drawn, and one that gives it.
static READINGS: LazyLock<[DataConfig; 2]> = LazyLock::new(|| {
    for (name, bytes) in PICTURES {
        SCRATCH.write(&format!("root/{name}"), bytes);
    }
    // Beside the root: no manifest may reach it.
    SCRATCH.write("outside.png", PICTURES[0].1);
    ["{ train = 0.5, val = 0.5, test = 0.0 }", "{ by = \"column\" }"].map(|split| {
        let text = format!(
            "name = \"fuzz\"\n[model]\nbackbone = \"mobilenet_v2\"\nhead = [{{ dense = 2 }}]\n\
             [data]\nroot = '{}'\nmanifest = '{}'\nsplit = {split}\n[[phase]]\nname = \"one\"\nepochs = 1\n\
             optimizer = {{ kind = \"sgd\", lr = 0.1 }}\n",
            SCRATCH.path("root").display(),
            SCRATCH.path("manifest.csv").display(),
        );
        let path = SCRATCH.write("config.toml", text.as_bytes());
        match config::load(&path, &[]) {
            Ok(loaded) => loaded.experiment.data.clone(),
            Err(report) => panic!("{report}"),
        }
    })
});

fuzz_target!(|bytes: &[u8]| {
    for config in &*READINGS {
        SCRATCH.write("manifest.csv", bytes);
        match Dataset::preview(config, 0, &ScanOptions::default()) {
            Ok(dataset) => {
                dataset.split_rows();
                let outside = |item: &xp::data::Item| item.path.contains("outside");
                assert!(
                    !dataset.items.iter().any(outside),
                    "a picture out of the root"
                );
            }
            Err(error) => drop((error.to_string(), error.help().to_string())),
        }
    }
});
