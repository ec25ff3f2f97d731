//! The tutorials' experiments in `configs/`: parameters and variables of each phase as Keras counts
//! them (tests/fixtures/tutorials.json: total, trainable, variables).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;

/// Parameters in all, parameters that train, tensors that train.
type Counts = [u64; 3];

fn facts() -> BTreeMap<String, Counts> {
    serde_json::from_str(include_str!("../fixtures/tutorials.json")).unwrap()
}

fn config(name: &str) -> PathBuf {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    configs.join(name).with_extension("toml")
}

/// What `xp summary` says of a configuration's phases.
#[track_caller]
fn phases(config: &Path, sets: &[&str]) -> Vec<Counts> {
    let mut command = Command::cargo_bin("xp").unwrap();
    command.args(["summary", "--json"]).arg(config);
    for set in sets {
        command.args(["--set", set]);
    }
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{sets:?}\n{stderr}");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let phases = summary["phases"].as_array().unwrap();
    let figure = |value: &Value| value.as_u64().unwrap();
    phases
        .iter()
        .map(|phase| {
            let trainable = figure(&phase["trainable_parameters"]);
            let counts = [
                figure(&summary["parameters"]),
                trainable,
                figure(&phase["trainable_tensors"]),
            ];
            assert_eq!(
                trainable + figure(&phase["non_trainable_parameters"]),
                counts[0]
            );
            counts
        })
        .collect()
}

/// The only phase's counts, with other freezing.
#[track_caller]
fn with_freezing(config: &Path, freezing: &str, sets: &[&str]) -> Counts {
    let phase = format!(
        "phase=[{{ name = \"p\", epochs = 1, optimizer = {{ kind = \"sgd\", lr = 0.1 }}, {freezing} }}]"
    );
    let mut all = vec![phase.as_str()];
    all.extend(sets);
    phases(config, &all)[0]
}

#[test]
fn cats_and_dogs_with_mobilenet() {
    let facts = facts();
    let path = config("cats_vs_dogs_mobilenet");
    // Layer 100 of the tutorial's release is layer 99 of Keras 3, which has no `Conv1_pad`.
    let [total, ..] = facts["mobilenetv2_160_gap_dense1_frozen"];
    assert_eq!(
        phases(&path, &[]),
        [
            facts["mobilenetv2_160_gap_dense1_frozen"],
            [total, 1_863_873, 58]
        ]
    );
    for (freezing, fact) in [
        (
            "freeze = \"none\"",
            "mobilenetv2_160_gap_dense1_all_trainable",
        ),
        (
            "freeze_before = 101",
            "mobilenetv2_160_gap_dense1_fine_tune_at_100",
        ),
    ] {
        assert_eq!(with_freezing(&path, freezing, &[]), facts[fact], "{fact}");
    }
}

/// The sweep of `fine_tune_at`: one phase a cutoff.
#[test]
fn every_cutoff_of_mobilenet() {
    #[derive(serde::Deserialize)]
    struct Keras {
        #[serde(rename = "cutoff, trainable parameters, tensors")]
        cutoffs: Vec<Counts>,
    }
    let keras: Keras =
        serde_json::from_str(include_str!("../fixtures/mobilenet_v2_keras.json")).unwrap();
    assert_eq!(keras.cutoffs.len(), 155);
    let freezing = |cutoff: u64| match cutoff + 1 {
        1 | 2 => "freeze = \"none\"".to_owned(),
        155 => "freeze = \"all\"".to_owned(),
        index => format!("freeze_before = {index}"),
    };
    let mut text = format!(
        "extends = {:?}\nname = \"sweep\"\n",
        config("cats_vs_dogs_mobilenet")
    );
    for [cutoff, ..] in &keras.cutoffs {
        text += &format!(
            "[[phase]]\nname = \"at_{cutoff}\"\nepochs = 1\n{}\n\
             optimizer = {{ kind = \"rmsprop\", lr = 1e-5 }}\n",
            freezing(*cutoff)
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sweep.toml");
    fs::write(&path, text).unwrap();
    let found: Vec<Counts> = phases(&path, &[])
        .into_iter()
        .zip(&keras.cutoffs)
        .map(|([_, parameters, tensors], [cutoff, ..])| [*cutoff, parameters, tensors])
        .collect();
    assert_eq!(found, keras.cutoffs);
}

#[test]
fn cats_and_dogs_with_xception() {
    let (facts, path) = (facts(), config("cats_vs_dogs_xception"));
    assert_eq!(
        phases(&path, &[]),
        [facts["xception_150_gap_dense1_frozen"]]
    );
    assert_eq!(
        with_freezing(&path, "freeze = \"none\"", &[]),
        facts["xception_150_gap_dense1_all_trainable"]
    );
}

#[test]
fn pokemon_with_vgg19() {
    let (facts, path) = (facts(), config("pokemon_vgg19"));
    let frozen = facts["vgg19_224_maxpool_dense5_frozen"];
    assert_eq!(phases(&path, &[]), [frozen]);
    assert_eq!(
        with_freezing(&path, "freeze = \"none\"", &[]),
        facts["vgg19_224_maxpool_dense5_all_trainable"]
    );
    assert_eq!(
        phases(&path, &["model.backbone=vgg16"]),
        [facts["vgg16_224_maxpool_dense5_frozen"]]
    );
}

#[test]
fn flowers_with_a_deep_head() {
    let head = |classes: u64| (1280 * 1024 + 1024) + (1024 * 512 + 512) + (512 + 1) * classes;
    // `Conv_1` without bias, and scale and offset of its norm; 1,280 means and variances.
    let layers = 320 * 1280 + 2 * 1280;
    for (name, classes) in [
        ("flowers_mobilenet_head", 5),
        // Behind the labels of ImageNet.
        ("flowers_mobilenet_labels", 1005),
    ] {
        let head = head(classes);
        assert_eq!(
            phases(&config(name), &[]),
            [[2_257_984 + head, layers + head, 3 + 6]],
            "{name}"
        );
    }
}

#[test]
fn flowers_with_the_top_cut_off() {
    let (facts, path) = (facts(), config("flowers_mobilenet_cut"));
    let fact = |variant: &str| {
        let name = format!("mobilenetv2_224_trunc_block16_conv1280_{variant}");
        *facts.get(&name).unwrap()
    };
    assert_eq!(phases(&path, &[]), [fact("bias_flatten_dense5_unfreeze3")]);
    for (variant, bias, pool) in [
        ("bias_flatten_dense5", true, "flatten"),
        ("nobias_flatten_dense5", false, "flatten"),
        ("bias_GAP_dense5", true, "avg_pool"),
    ] {
        let head = format!(
            "model.head=[{{ conv2d = 1280, kernel = 1, bias = {bias} }}, \"batch_norm\", \"relu\", \
             \"{pool}\", {{ dense = 5 }}]"
        );
        for (layers, freezing) in [(0, "freeze = \"all\""), (3, "freeze_before = -3")] {
            let wanted = fact(&format!("{variant}_unfreeze{layers}"));
            let found = with_freezing(&path, freezing, &[&head]);
            assert_eq!(found, wanted, "{variant} {freezing}");
        }
    }
}

#[test]
fn flowers_with_inception() {
    let facts = facts();
    let path = config("flowers_inception");
    let [total, trainable, tensors] = facts["inceptionv3_299_gap_dense5_frozen"];
    // The auxiliary classifier: 1 x 1 and 5 x 5 convolutions with norms, and logits of its own.
    let kernels = 768 * 128 + 5 * 5 * 128 * 768;
    let (norms, logits) = (2 * (128 + 768), 768 * 5 + 5);
    let (auxiliary, statistics) = (kernels + norms + logits, norms);
    assert_eq!(
        phases(&path, &[]),
        [[
            total + auxiliary + statistics,
            trainable + auxiliary,
            tensors + 2 * 3 + 2
        ]]
    );

    // Keras has no auxiliary classifier.
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("auxiliary"))
        .collect();
    assert_eq!(lines.len() + 1, text.lines().count());
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain.toml");
    fs::write(&plain, lines.join("\n")).unwrap();
    let deep = "model.head=[{ dense = 1024, activation = \"relu\" }, { dense = 5 }]";
    for (variant, freezing, sets) in [
        ("", "freeze = \"all\"", &[][..]),
        (" all_trainable", "freeze = \"none\"", &[]),
        (" unfreeze_from_249", "freeze_before = 249", &[]),
        (" unfreeze_from_172", "freeze_before = 172", &[]),
        (" with_dense1024_head_frozen", "freeze = \"all\"", &[deep]),
    ] {
        let fact = format!("inceptionv3_299_gap_dense5_frozen{variant}");
        let found = with_freezing(&plain, freezing, sets);
        assert_eq!(found, facts[&fact], "{fact}");
    }
}

/// No network has published counts of these; what trains is as they say.
#[test]
fn what_people_reach_for_next() {
    let [scratch] = phases(&config("flowers_resnet_scratch"), &[])[..] else {
        panic!("one phase");
    };
    // All of torchvision's ResNet-18 with five outputs.
    assert_eq!(scratch[1], 11_176_512 + 512 * 5 + 5);
    let [linear] = phases(&config("flowers_dinov2_linear"), &[])[..] else {
        panic!("one phase");
    };
    assert_eq!(linear[1..], [384 * 5 + 5, 2]);
    let [probe, whole] = phases(&config("flowers_convnext_lpft"), &[])[..] else {
        panic!("two phases");
    };
    assert_eq!(probe[2], 2);
    assert_eq!(whole[0], whole[1], "all parameters train");
}
