//! Configurations whose network, weights or phases cannot be: what `xp check` says of each.

use assert_cmd::Command;

use super::config_errors::{BASE, replace};

const FREEZE: &str = "freeze = \"all\"";
const WEIGHTS: &str = "weights = \"timm/mobilenetv2_100.ra_in1k\"";
const POOLING: &str = "pooling = \"avg\"";
const HEAD: &str = "head = [{ dense = 5 }]";

/// What `xp check` says on stderr, the folder taken out of paths.
fn said(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.toml"), text).unwrap();
    std::fs::write(folder.path().join("broken.safetensors"), "no tensors").unwrap();
    let output = Command::cargo_bin("xp")
        .unwrap()
        .current_dir(folder.path())
        .args(["check", "config.toml"])
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(output.stdout.is_empty());
    stderr.replace(&format!("{}/", folder.path().display()), "")
}

/// Asserts that there is one problem, with this message and place; `help` is part of its help.
fn check(text: &str, place: &str, message: &str, help: &str) {
    let said = said(text);
    assert_eq!(said.matches("error: ").count(), 1, "{said}");
    let whole = said.starts_with(&format!("error: {message}"))
        && said.contains(&format!(" --> config.toml:{place}\n"))
        && (help.is_empty()
            || said
                .split("= help: ")
                .nth(1)
                .is_some_and(|h| h.contains(help)));
    assert!(
        whole,
        "wanted {message} at {place} with {help}, got\n{said}"
    );
}

#[test]
fn backbones_that_are_not_there() {
    check(
        &replace("\"mobilenet_v2\"", "\"mobilenetv2\""),
        "10:12",
        "there is no backbone `mobilenetv2`\n",
        "did you mean `mobilenet_v2`?",
    );
    check(
        &replace(POOLING, "width = 3.0"),
        "12:9",
        "`mobilenet_v2` has no width 3\n",
        "choose a width from 0.35 to 1.4",
    );
    check(
        &replace(WEIGHTS, "width = 0.6"),
        "9:1",
        "`mobilenet_v2` of width 0.6 has no default weights\n",
        "or set `weights = \"none\"`",
    );
    // Without a width that can be, there is nothing to say about its weights.
    check(
        &replace(WEIGHTS, "width = 3.0"),
        "11:9",
        "`mobilenet_v2` has no width 3\n",
        "choose a width",
    );
    check(
        &replace(POOLING, "cut = \"block_16_project_BM\""),
        "12:7",
        "the backbone has no layer `block_16_project_BM`\n",
        "did you mean `block_16_project_BN`",
    );
}

#[test]
fn weights_that_are_not_there() {
    for (weights, message, help) in [
        (
            "gone.safetensors",
            "cannot read the weights `gone.safetensors`: No such file",
            "",
        ),
        (
            "broken.safetensors",
            "`broken.safetensors` is not a sound safetensors file: ",
            "copy or download it again",
        ),
        (
            "xp/mobilenet_v9",
            "there are no embedded weights `xp/mobilenet_v9`; embedded are: ",
            "",
        ),
        (
            "imagenet",
            "`imagenet` is neither a file nor a hub id",
            "weights = \"none\"",
        ),
    ] {
        let text = replace(WEIGHTS, &format!("weights = \"{weights}\""));
        check(&text, "11:11", message, help);
    }
    check(
        &replace(POOLING, "flavour = \"tf\""),
        "12:11",
        "the weights `timm/mobilenetv2_100.ra_in1k` are of the flavour `torch`\n",
        "leave `flavour` out",
    );
}

#[test]
fn heads_that_do_not_fit() {
    check(
        &replace(POOLING, "pooling = \"none\""),
        "13:9",
        "`dense` needs a vector, but receives a feature map\n",
        "put \"flatten\" or \"avg_pool\" before it",
    );
    check(
        &replace(HEAD, "head = [{ conv2d = 5 }, \"avg_pool\"]"),
        "13:9",
        "`conv2d` needs a feature map, but receives a vector\n",
        "set `model.pooling = \"none\"`",
    );
    let large = "head = [{ conv2d = 5, kernel = 9 }, \"avg_pool\"]";
    check(
        &replace(HEAD, large).replace(POOLING, "pooling = \"none\""),
        "13:9",
        "a 9 x 9 kernel does not fit into a map of 5 x 5\n",
        "use larger pictures or a smaller kernel",
    );
}

#[test]
fn freezing_that_cannot_be() {
    for (freezing, column, message, help) in [
        (
            "freeze_before = \"block_11_expand_bm\"",
            17,
            "the backbone has no layer `block_11_expand_bm`\n",
            "did you mean `block_11_expand_BN`",
        ),
        (
            "freeze_before = \"dense\"",
            17,
            "`dense` is a layer of the head, which always trains\n",
            "freeze = \"all\"",
        ),
        (
            "freeze_before = 155",
            17,
            "the backbone has 155 layers, so 155 is out of range\n",
            "from 1 to 154",
        ),
        (
            "freeze_before = -156",
            17,
            "the backbone has 155 layers, so -156 is out of range\n",
            "from -154 to -1",
        ),
        (
            "freeze_before = 2",
            17,
            "this freezes nothing: no layer before it has parameters\n",
            "freeze = \"none\"",
        ),
        (
            "freeze = \"blok_1*\"",
            10,
            "no backbone layer matches `blok_1*`\n",
            "did you mean `block_1_",
        ),
        (
            "freeze = [\"Conv1\", \"x*\"]",
            20,
            "no backbone layer matches `x*`\n",
            "`xp summary` lists the layers",
        ),
        (
            "freeze = \"*_relu\"",
            10,
            "this freezes nothing: the layers it matches have no parameters\n",
            "freeze = \"none\"",
        ),
        (
            "freeze_stages = 5",
            17,
            "the backbone has 5 stages, not 5\n",
            "from 1 to 4, or from -4 to -1",
        ),
        (
            "train_only = [\"Conv_1\", \"blok_1*\"]",
            25,
            "no backbone layer matches `blok_1*`\n",
            "did you mean `block_1_",
        ),
        (
            "train_only = \"*_relu\"",
            14,
            "this trains nothing: the layers it matches have no parameters that train\n",
            "freeze = \"all\"",
        ),
        (
            "train_only = -156",
            14,
            "there are 155 backbone layers, so -156 is out of range\n",
            "from -155 to -1",
        ),
        (
            "lr_multipliers = [{ layers = \"dens\", multiplier = 2.0 }]",
            30,
            "no layer matches `dens`\n",
            "did you mean `dense`",
        ),
        (
            "freeze = \"block_[\"",
            10,
            "`block_[` is no pattern: ",
            "`*` stands for",
        ),
    ] {
        check(
            &replace(FREEZE, freezing),
            &format!("21:{column}"),
            message,
            help,
        );
    }
}

#[test]
fn multipliers_of_what_is_frozen() {
    check(
        &replace(
            FREEZE,
            "freeze_before = 100\nlr_multipliers = [{ layers = \"block_1_*\", multiplier = 0.1 }]",
        ),
        "22:30",
        "this changes no learning rate: no layer that it matches trains in this phase\n",
        "lists what trains",
    );
}

#[test]
fn cuts_of_every_family() {
    for (family, cut, wrong, right) in [
        (
            "mobilenet_v2",
            "block_16_project_BN",
            "block_16_project_BM",
            "block_16_project_BN",
        ),
        (
            "resnet50",
            "conv4_block6_out",
            "conv4_block6",
            "conv4_block6_",
        ),
        ("vgg16", "block4_pool", "block4_pol", "block4_pool"),
        ("inception_v3", "mixed7", "mixd7", "mixed7"),
        ("xception", "block13_pool", "block13pool", "block13_pool"),
    ] {
        let config = |cut: &str| {
            replace("\"mobilenet_v2\"", &format!("\"{family}\""))
                .replace(WEIGHTS, "weights = \"none\"")
                .replace(POOLING, &format!("cut = \"{cut}\""))
                .replace(FREEZE, "freeze = \"none\"")
        };
        check(
            &config(wrong),
            "12:7",
            &format!("the backbone has no layer `{wrong}`\n"),
            &format!("did you mean `{right}"),
        );
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.toml"), config(cut)).unwrap();
        let output = Command::cargo_bin("xp")
            .unwrap()
            .current_dir(folder.path())
            .args(["summary", "config.toml", "--json"])
            .output()
            .unwrap();
        let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let layers = summary["layers"].as_array().unwrap();
        let last = summary["backbone_layers"].as_u64().unwrap() as usize - 1;
        assert_eq!(layers[last]["name"], cut);
    }
}

#[test]
fn problems_that_do_not_follow_from_one_another_are_told_at_once() {
    let phase = "\n[[phase]]\nname = \"fine\"\nfreeze = \"x*\"\nepochs = 1\noptimizer = { kind = \"adam\", lr = 0.001 }\n";
    let text = BASE
        .replace(WEIGHTS, "weights = \"gone.safetensors\"")
        .replace(POOLING, "cut = \"nowhere_to_go\"\nwidth = 3.0")
        .replace(FREEZE, "freeze_before = 900");
    let said = said(&format!("{text}{phase}"));
    let heads: Vec<&str> = said.lines().filter(|l| l.starts_with("error: ")).collect();
    let wanted = [
        "cannot read the weights `gone.safetensors`",
        "the backbone has no layer `nowhere_to_go`",
        "`mobilenet_v2` has no width 3",
        "the backbone has 155 layers, so 900 is out of range",
        "no backbone layer matches `x*`",
    ];
    assert_eq!(heads.len(), wanted.len(), "{said}");
    for (head, wanted) in heads.iter().zip(wanted) {
        assert!(head.contains(wanted), "{wanted} in\n{said}");
    }
    assert!(said.trim_end().ends_with("5 problems"));
}
