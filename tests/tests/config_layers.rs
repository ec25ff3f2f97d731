//! What a configuration means: layers, paths, overrides, and the resolved copy.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use xp::config::{self, Experiment, HeadLayer, Loaded, Report};

const EXAMPLE: &str = r#"
name = "cats_vs_dogs_mobilenet_v2"
seed = 42

[data]
root = "../data/dog_cat"
split = { train = 0.8, val = 0.1, test = 0.1 }
image_size = 160
normalize = "minus_one_one"

[data.augment]
flip_horizontal = true

[model]
backbone = "mobilenet_v2"
weights = "timm/mobilenetv2_100.ra_in1k"
pooling = "avg"
head = [{ dropout = 0.2 }, { dense = 1 }]

[train]
batch_size = 32
loss = "auto"
evaluate_first = true
early_stopping = { monitor = "val_accuracy", min_delta = 0.001, patience = 5 }

[[phase]]
name = "feature_extraction"
freeze = "all"
epochs = 10
optimizer = { kind = "rmsprop", lr = 1e-4 }

[[phase]]
name = "fine_tune"
freeze_before = "block_11_expand_BN"
epochs = 10
optimizer = { kind = "rmsprop", lr = 1e-5 }
"#;

/// A folder of configuration files.
struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn load(&self, name: &str, sets: &[&str], env: &[(&str, &str)]) -> Result<Loaded, Report> {
        let sets: Vec<String> = sets.iter().map(|set| set.to_string()).collect();
        let env = env
            .iter()
            .map(|(k, v)| (OsString::from(k), OsString::from(v)));
        config::load_with(&self.path(name), &sets, env)
    }

    fn experiment(&self, name: &str, sets: &[&str], env: &[(&str, &str)]) -> Experiment {
        match self.load(name, sets, env) {
            Ok(loaded) => loaded.experiment,
            Err(report) => panic!("{report}"),
        }
    }
}

#[test]
fn flag_beats_environment_beats_file_beats_base_beats_default() {
    let layered = format!("extends = \"base.toml\"\n{}", "[train]\nbatch_size = 3\n");
    let base = EXAMPLE.replace("batch_size = 32", "batch_size = 2");
    let files = Files::new(&[("base.toml", &base), ("top.toml", &layered)]);
    let batch = |name, sets: &[&str], env: &[(&str, &str)]| {
        files.experiment(name, sets, env).train.batch_size
    };
    let env = [("XP_TRAIN__BATCH_SIZE", "4")];
    assert_eq!(
        batch("base.toml", &["train={evaluate_first=false}"], &[]),
        2
    );
    assert_eq!(batch("top.toml", &[], &[]), 3);
    assert_eq!(batch("top.toml", &[], &env), 4);
    assert_eq!(batch("top.toml", &["train.batch_size=5"], &env), 5);
    assert_eq!(
        batch(
            "top.toml",
            &["train.batch_size=5", "train.batch_size = 6"],
            &env
        ),
        6
    );
    let bare = Files::new(&[("c.toml", &EXAMPLE.replace("batch_size = 32", ""))]);
    assert_eq!(bare.experiment("c.toml", &[], &[]).train.batch_size, 32);
}

#[test]
fn a_base_is_merged_by_table_and_replaced_by_array() {
    let top = r#"
        extends = "deep/base.toml"
        name = "other"
        model.head = [{ dense = 7 }]
        data.augment.flip_vertical = true
    "#;
    let files = Files::new(&[("top.toml", top), ("deep/base.toml", EXAMPLE)]);
    let experiment = files.experiment("top.toml", &[], &[]);
    assert_eq!(experiment.name, "other");
    assert!(matches!(experiment.model.head[..], [HeadLayer::Dense(d)] if d.dense == 7));
    assert!(experiment.data.augment.flip_horizontal && experiment.data.augment.flip_vertical);
    assert_eq!(experiment.phase.len(), 2);
}

#[test]
fn paths_are_relative_to_the_file_that_names_them() {
    let top = "extends = \"deep/er/base.toml\"\nruns_dir = \"out\"";
    let weights = "weights = \"w/model.safetensors\"";
    let base = EXAMPLE.replace("weights = \"timm/mobilenetv2_100.ra_in1k\"", weights);
    let files = Files::new(&[("top.toml", top), ("deep/er/base.toml", &base)]);
    let root = std::path::absolute(files.0.path()).unwrap();
    let experiment = files.experiment("top.toml", &[], &[]);
    assert_eq!(experiment.runs_dir, Some(root.join("out")));
    assert_eq!(experiment.data.root, Some(root.join("deep/data/dog_cat")));
    let weights = root.join("deep/er/w/model.safetensors");
    assert_eq!(
        experiment.model.weights.as_deref().map(Path::new),
        Some(weights.as_path())
    );
    let set = files.experiment("top.toml", &["data.root=here"], &[]);
    assert_eq!(
        set.data.root,
        Some(std::env::current_dir().unwrap().join("here"))
    );
    // A hub id is no path.
    let hub = files.experiment(
        "top.toml",
        &["model.weights=timm/mobilenetv2_100.ra_in1k"],
        &[],
    );
    assert_eq!(
        hub.model.weights.as_deref(),
        Some("timm/mobilenetv2_100.ra_in1k")
    );
}

#[test]
fn entries_of_arrays_are_set_by_index() {
    let files = Files::new(&[("c.toml", EXAMPLE)]);
    let sets = [
        "phase[0].epochs=3",
        "phase.1.optimizer.lr=0.5",
        "model.head[0]={dropout=0.5}",
    ];
    let env = [("XP_PHASE__1__EPOCHS", "4")];
    let experiment = files.experiment("c.toml", &sets, &env);
    assert_eq!(experiment.phase[0].epochs, Some(3));
    assert_eq!(experiment.phase[1].epochs, Some(4));
    assert_eq!(experiment.phase[1].optimizer.learning_rate(), 0.5);
    assert_eq!(experiment.phase[1].name, "fine_tune");
    assert!(matches!(experiment.model.head[0], HeadLayer::Dropout(d) if d.dropout == 0.5));
}

#[test]
fn values_of_flags_and_variables_are_toml_or_text() {
    let files = Files::new(&[("c.toml", EXAMPLE)]);
    let sets = [
        "name=plain",
        "data.image_size=[96, 128]",
        "model.weights=\"none\"",
    ];
    let env = [
        ("XP_DATA__AUGMENT__FLIP_HORIZONTAL", "false"),
        ("UNRELATED", "x"),
    ];
    let experiment = files.experiment("c.toml", &sets, &env);
    assert_eq!(experiment.name, "plain");
    assert_eq!(
        experiment.data.image_size.unwrap().height_width(),
        [96, 128]
    );
    assert_eq!(experiment.model.weights.as_deref(), Some("none"));
    assert!(!experiment.data.augment.flip_horizontal);
}

#[test]
fn the_resolved_configuration_loads_back_equal() {
    let set = ["data.normalize={mean=[0.485,0.456,0.406],std=[0.229,0.224,0.225]}"];
    let sets: [&[&str]; 6] = [
        &[],
        &set,
        &["train.class_weights={'a b.c'=2.0,z=0.5}"],
        &["data.split.by=folders"],
        &["data.manifest=list.csv", "data.split={ by = \"column\" }"],
        &["data.split={ val = 0, test = 0.2 }"],
    ];
    let patient =
        "early_stopping = { monitor = \"val_accuracy\", min_delta = 0.001, patience = 5 }";
    let files = Files::new(&[("c.toml", &EXAMPLE.replace(patient, ""))]);
    for sets in sets {
        let loaded = files.load("c.toml", sets, &[]).unwrap();
        std::fs::write(files.path("resolved.toml"), loaded.resolved()).unwrap();
        let again = files.load("resolved.toml", &[], &[]).unwrap();
        assert_eq!(again.experiment, loaded.experiment);
        assert_eq!(again.resolved(), loaded.resolved());
        assert_eq!(again.hash(), loaded.hash());
    }
}

#[test]
fn the_hash_counts_what_is_computed_and_not_where() {
    let files = Files::new(&[("c.toml", EXAMPLE)]);
    let hash = |sets: &[&str]| files.load("c.toml", sets, &[]).unwrap().hash();
    let plain = hash(&[]);
    assert_eq!(plain.len(), 64);
    assert_eq!(
        plain,
        hash(&[
            "threads=1",
            "device=cpu",
            "runs_dir=elsewhere",
            "tracking.mlflow=mlruns"
        ])
    );
    assert_eq!(plain, hash(&["data.download_dir=elsewhere"]));
    assert_ne!(plain, hash(&["seed=43"]));
    assert_ne!(plain, hash(&["phase[1].epochs=11"]));
}

#[test]
fn a_higher_layer_leaves_keys_below_without_effect() {
    let by_class = EXAMPLE.replace("[data]", "[data]\nclass_from = \"leaf\"");
    let shares = "extends = \"base.toml\"\ndata.split.train = 0.8";
    let by_column =
        "extends = \"base.toml\"\ndata.manifest = \"a.csv\"\ndata.split.by = \"column\"";
    let files = Files::new(&[
        ("base.toml", EXAMPLE),
        ("leaf.toml", &by_class),
        ("shares.toml", shares),
        ("column.toml", by_column),
    ]);
    let said = |name, sets: &[&str], env: &[(&str, &str)]| match files.load(name, sets, env) {
        Ok(_) => String::new(),
        Err(report) => report.diagnostics[0].message.clone(),
    };
    let (list, column) = ("data.manifest=a.csv", "data.split.by=column");
    let env = [("XP_DATA__SPLIT__VAL", "0.1")];
    for (name, sets, env) in [
        ("base.toml", vec![list, column], &[][..]),
        (
            "base.toml",
            vec![list, "data.split={ by = \"column\" }"],
            &[],
        ),
        ("base.toml", vec!["data.split.by=folders"], &env),
        ("leaf.toml", vec![list], &[]),
        ("shares.toml", vec!["data.split.by=folders"], &[]),
        ("column.toml", vec![], &[]),
    ] {
        assert_eq!(said(name, &sets, env), "", "{name} {sets:?} {env:?}");
    }
    let val = "`data.split.val` has no effect with `by = \"column\"`";
    for sets in [
        [list, "data.split.val=0.1", column],
        [list, column, "data.split.val=0.1"],
    ] {
        assert_eq!(said("base.toml", &sets, &[]), val);
    }
    assert_eq!(said("column.toml", &["data.split.val=0.1"], &[]), val);
    assert_eq!(said("column.toml", &[], &env), val);
    let class_from = "`data.class_from` has no effect without folders";
    let sets = [list, "data.class_from=first"];
    assert_eq!(said("base.toml", &sets, &[]), class_from);
    // What has no effect does not make another experiment either.
    let hash = |sets: &[&str]| files.load("base.toml", sets, &[]).unwrap().hash();
    let other = files.load("shares.toml", &["data.split.by=folders"], &[]);
    assert_eq!(hash(&["data.split.by=folders"]), other.unwrap().hash());
}

#[test]
fn what_is_odd_but_allowed_warns() {
    let files = Files::new(&[("c.toml", EXAMPLE)]);
    let sets = [
        "model.weights=none",
        "phase[1]={name='b',freeze='all',epochs=1,optimizer={kind='sgd',lr=1}}",
    ];
    let loaded = files.load("c.toml", &sets, &[]).unwrap();
    let [warning] = loaded.warnings.as_slice() else {
        panic!("{:?}", loaded.warnings);
    };
    insta::assert_snapshot!(warning.render(false), @r#"
    warning: the backbone is random and never trained
     --> command line
      |
      | --set model.weights=none
      |                     ^^^^
      = help: name pretrained weights, or add a phase that trains the backbone
    "#);
}

/// Checks the few keywords that our schema uses.
fn conforms(
    root: &serde_json::Value,
    schema: &serde_json::Value,
    value: &serde_json::Value,
) -> bool {
    if let Some(name) = schema["$ref"].as_str() {
        return conforms(
            root,
            &root["$defs"][name.trim_start_matches("#/$defs/")],
            value,
        );
    }
    for union in ["anyOf", "oneOf"] {
        if let Some(variants) = schema[union].as_array() {
            return variants
                .iter()
                .any(|variant| conforms(root, variant, value));
        }
    }
    let constant = &schema["const"];
    let typed = match schema["type"].as_str() {
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64(),
        Some("number") => value.is_number(),
        Some("array") => value.as_array().is_some_and(|values| {
            values
                .iter()
                .all(|value| conforms(root, &schema["items"], value))
        }),
        Some("object") => value.as_object().is_some_and(|map| {
            let required = schema["required"].as_array().into_iter().flatten();
            let whole = required
                .into_iter()
                .all(|key| map.contains_key(key.as_str().unwrap()));
            whole
                && map
                    .iter()
                    .all(|(key, value)| conforms(root, &schema["properties"][key], value))
        }),
        _ => false,
    };
    typed && (constant.is_null() || constant == value)
}

#[test]
fn the_printed_schema_fits_the_example() {
    let output = Command::cargo_bin("xp")
        .unwrap()
        .arg("schema")
        .output()
        .unwrap();
    assert!(output.status.success());
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    assert!(schema["properties"]["extends"]["description"].is_string());
    assert_eq!(
        schema["$defs"]["TrainConfig"]["properties"]["batch_size"]["default"],
        32
    );
    let example: serde_json::Value = toml::from_str(EXAMPLE).unwrap();
    assert!(conforms(&schema, &schema, &example));
    let mut wrong = example;
    wrong["phase"][0]["optimizer"]["kind"] = "adagrad".into();
    assert!(!conforms(&schema, &schema, &wrong));
}

#[test]
fn good_files_are_named_on_stdout() {
    let files = Files::new(&[("a.toml", EXAMPLE), ("b.toml", EXAMPLE)]);
    let xp = || {
        let mut command = Command::cargo_bin("xp").unwrap();
        command.current_dir(files.0.path()).arg("check");
        command
    };
    xp().args(["a.toml", "b.toml"])
        .assert()
        .code(0)
        .stdout("a.toml: ok\nb.toml: ok\n")
        .stderr("");
    let answer = xp().args(["a.toml", "--json"]).output().unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(answer["ok"], true);
}

#[test]
fn completions_name_the_commands() {
    let output = Command::cargo_bin("xp")
        .unwrap()
        .args(["completions", "bash"])
        .output()
        .unwrap();
    let script = String::from_utf8(output.stdout).unwrap();
    assert!(script.contains("summary") && script.contains("predict"));
}
