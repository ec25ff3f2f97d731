//! `xp summary` of a backbone and of configurations.

use assert_cmd::Command;
use serde_json::Value;

fn summary(args: &[&str]) -> (String, String, i32) {
    let output = Command::cargo_bin("xp")
        .expect("xp is built")
        .arg("summary")
        .args(args)
        .output()
        .expect("xp runs");
    (
        String::from_utf8_lossy(&output.stdout).into(),
        String::from_utf8_lossy(&output.stderr).into(),
        output.status.code().unwrap_or(-1),
    )
}

/// Fails unless each of these lines stands in the table, whatever its column widths.
#[track_caller]
fn has_lines(stdout: &str, wanted: &[&str]) {
    let lines: Vec<String> = stdout
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for line in wanted {
        assert!(
            lines.iter().any(|it| it == line),
            "no line\n{line}\nin\n{stdout}"
        );
    }
}

#[test]
fn lists_a_backbone() {
    let (stdout, stderr, code) = summary(&["mobilenet_v2"]);
    assert_eq!((stderr.as_str(), code), ("", 0));
    has_lines(
        &stdout,
        &[
            "0 input_1 InputLayer 224 x 224 x 3",
            "1 Conv1_pad ZeroPadding2D 225 x 225 x 3",
            "154 out_relu ReLU 7 x 7 x 1280",
            "parameters 2,257,984",
            "that can train 2,223,872",
            "statistics 34,112",
        ],
    );
}

#[test]
fn lists_a_backbone_of_either_flavour() {
    for (args, wanted) in [
        (&["resnet50"][..], "parameters 23,587,712"),
        (&["resnet50", "--flavour", "torch"], "parameters 23,561,152"),
        (&["vgg16"], "15 block5_conv1 Conv2D 14 x 14 x 512 2,359,808"),
        (&["inception_v3"], "228 mixed7 Concatenate 17 x 17 x 768"),
        (
            &["xception"],
            "7 block2_sepconv1 SeparableConv2D 147 x 147 x 128 8,768",
        ),
    ] {
        let (stdout, stderr, code) = summary(args);
        assert_eq!((stderr.as_str(), code), ("", 0));
        has_lines(&stdout, &[wanted]);
    }
}

#[test]
fn answers_in_json() {
    let (stdout, _, code) = summary(&["mobilenet_v2", "--json"]);
    assert_eq!(code, 0);
    let answer: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(answer["layers"].as_array().map(Vec::len), Some(155));
    assert_eq!(answer["parameters"], 2_257_984);
    assert_eq!(answer["layers"][101]["name"], "block_11_expand_relu");
}

#[test]
fn offers_the_nearest_backbone() {
    let (stdout, stderr, code) = summary(&["mobilenetv2"]);
    assert_eq!((stdout.as_str(), code), ("", 2));
    assert_eq!(
        stderr,
        "error: there is no backbone `mobilenetv2`\n  help: did you mean `mobilenet_v2`?\n"
    );
}

#[test]
fn counts_what_trains_in_each_phase() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cats_vs_dogs.toml");
    let config = r#"
        name = "cats_vs_dogs"
        seed = 1
        data = { root = "pictures", image_size = 160 }
        model = { backbone = "mobilenet_v2", head = [{ dense = 1 }] }
        [[phase]]
        name = "feature_extraction"
        freeze = "all"
        epochs = 1
        optimizer = { kind = "adam", lr = 1e-3 }
        [[phase]]
        name = "fine_tune"
        freeze_before = "block_11_expand_BN"
        epochs = 1
        optimizer = { kind = "adam", lr = 1e-4 }
    "#;
    std::fs::write(&path, config).expect("written");
    let (stdout, stderr, code) = summary(&[&path.to_string_lossy()]);
    assert_eq!((stderr.as_str(), code), ("", 0));
    has_lines(
        &stdout,
        &[
            "parameters 2,259,265",
            "trainable 1,281 in 2 tensors",
            "trainable 1,863,873 in 58 tensors",
        ],
    );
}
