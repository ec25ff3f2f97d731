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

#[test]
fn lists_a_backbone() {
    let (stdout, stderr, code) = summary(&["mobilenet_v2"]);
    assert_eq!((stderr.as_str(), code), ("", 0));
    let lines: Vec<String> = stdout
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for line in [
        "0 input_1 InputLayer 224 x 224 x 3",
        "1 Conv1_pad ZeroPadding2D 226 x 226 x 3",
        "154 out_relu ReLU 7 x 7 x 1280",
        "parameters 2,257,984",
        "that can train 2,223,872",
        "statistics 34,112",
    ] {
        assert!(
            lines.iter().any(|it| it == line),
            "no line\n{line}\nin\n{stdout}"
        );
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
