//! `model_card.md`: what a model is, for people and for model hubs, in Hugging Face's layout.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::figures::{Told, macro_mean};
use crate::records::{Split, TestReport, wilson};

/// Fewer test pictures say little.
const FEW: usize = 100;
/// Fewer test pictures of a class say next to nothing of it.
const FEW_OF_CLASS: u64 = 10;
/// Most classes that are listed by name.
const LISTED: usize = 100;

/// The card, from what a run directory tells.
pub fn card(told: &Told<'_>) -> String {
    let mut card = front_matter(told);
    let backbone = text(&told.config["model"]["backbone"]).unwrap_or_else(|| "a network".into());
    let _ = writeln!(card, "# {}\n", line(told.name));
    let weights = match text(&told.config["model"]["weights"]).as_deref() {
        Some("none") => " that began with random weights".into(),
        Some(weights) => format!(" that began with the weights `{}`", file_name(weights)),
        None => String::new(),
    };
    let classes = told.classes();
    let _ = writeln!(
        card,
        "An image classifier of {} classes: `{backbone}`{weights}, trained with xp {}.\n",
        classes.len(),
        text(&told.manifest["xp_version"]).unwrap_or_default()
    );
    if let Some(test) = told.test {
        let [low, high] = test.accuracy_interval;
        let _ = writeln!(
            card,
            "Accuracy on {} pictures of the {} split: **{:.1} %** (95 % interval {:.1} to {:.1}).\n",
            test.images,
            test.split.name(),
            100.0 * test.accuracy,
            100.0 * low,
            100.0 * high
        );
    }
    data(&mut card, told);
    training(&mut card, told);
    if let Some(test) = told.test {
        let _ = writeln!(card, "## Results\n\n{}", test_table(test));
        calibration(&mut card, told);
    }
    preprocessing(&mut card, told);
    usage(&mut card, told);
    limits(&mut card, told);
    provenance(&mut card, told);
    card
}

/// A test report as a Markdown table: the whole, then every class with the 95 % interval of its
/// recall.
pub fn test_table(test: &TestReport) -> String {
    let mut table = String::from(
        "| class | pictures | precision | recall | 95 % interval | F1 |\n|---|--:|--:|--:|--:|--:|\n",
    );
    for (at, class) in test.per_class.iter().enumerate() {
        let hits = test.confusion.get(at).and_then(|row| row.get(at));
        let [low, high] = wilson(hits.copied().unwrap_or_default(), class.support);
        let _ = writeln!(
            table,
            "| {} | {} | {:.3} | {:.3} | {low:.3} to {high:.3} | {:.3} |",
            cell(&class.class),
            class.support,
            class.precision,
            class.recall,
            class.f1
        );
    }
    let [low, high] = test.accuracy_interval;
    let _ = writeln!(
        table,
        "| **accuracy** | {} | | {:.3} | {low:.3} to {high:.3} | |",
        test.images, test.accuracy
    );
    table
}

/// The block that model hubs read: YAML, its values written as JSON, which is YAML, too.
fn front_matter(told: &Told<'_>) -> String {
    let model = &told.config["model"];
    let mut yaml = String::from("---\n");
    let mut put = |key: &str, value: Value| {
        let _ = writeln!(yaml, "{key}: {value}");
    };
    if let Some(licence) = told.licence {
        put("license", licence.to_lowercase().into());
    }
    put("library_name", "xp".into());
    put("pipeline_tag", "image-classification".into());
    let mut tags: Vec<String> = ["image-classification", "transfer-learning", "xp"]
        .map(String::from)
        .into();
    tags.extend(text(&model["backbone"]));
    put("tags", json!(tags));
    if let Some(base) = text(&model["weights"]).filter(|it| is_hub_id(it)) {
        put("base_model", base.into());
    }
    let dataset = dataset(told);
    if let Some(id) = hub_dataset(told) {
        put("datasets", json!([id]));
    }
    put("metrics", json!(["accuracy", "f1"]));
    if let Some(test) = told.test {
        let mut metrics = vec![
            json!({ "type": "accuracy", "name": "accuracy", "value": test.accuracy }),
            json!({ "type": "loss", "name": "loss", "value": test.loss }),
        ];
        let f1 = macro_mean(test, |class| test.per_class[class].f1);
        metrics.extend(f1.map(|f1| json!({ "type": "f1", "name": "macro F1", "value": f1 })));
        let result = json!({
            "task": { "type": "image-classification", "name": "Image Classification" },
            "dataset": {
                "name": dataset,
                "type": hub_dataset(told).unwrap_or_else(|| "imagefolder".into()),
                "split": test.split.name(),
            },
            "metrics": metrics,
        });
        put(
            "model-index",
            json!([{ "name": told.name, "results": [result] }]),
        );
    }
    yaml + "---\n\n"
}

fn is_hub_id(weights: &str) -> bool {
    let plain = !weights.contains("://") && !weights.starts_with(['/', '.']);
    plain && weights.split('/').count() == 2 && !weights.starts_with("xp/")
}

/// Where the pictures came from, in a word.
fn dataset(told: &Told<'_>) -> String {
    let data = &told.config["data"];
    if let Some(id) = hub_dataset(told) {
        return id;
    }
    for key in ["preset", "url", "manifest", "root", "parquet"] {
        if let Some(found) = text(&data[key]) {
            // Of a path, the folders above are nobody's business.
            let last = found.trim_end_matches('/').rsplit('/').next();
            return last.unwrap_or(&found).to_owned();
        }
    }
    match text(&data["generate"]["kind"]) {
        Some(kind) => format!("{kind} drawn by xp"),
        None => told.name.to_owned(),
    }
}

fn hub_dataset(told: &Told<'_>) -> Option<String> {
    let hf = &told.config["data"]["hf"];
    let id = text(hf).or_else(|| text(&hf["repo"]))?;
    Some(id.split('@').next().unwrap_or(&id).to_owned())
}

fn data(card: &mut String, told: &Told<'_>) {
    let classes = told.classes();
    let [train, val, test] = Split::ALL.map(|split| told.pictures(split));
    let _ = writeln!(card, "## Classes and data\n");
    let _ = writeln!(
        card,
        "Data: {}, {} pictures; {train} to train, {val} to validate, {test} to test. Split: `{}`, seed {}.\n",
        line(&dataset(told)),
        told.split.len(),
        told.config["data"]["split"],
        told.config["seed"]
    );
    let _ = writeln!(card, "| class | train | val | test |\n|---|--:|--:|--:|");
    for (class, [train, val, test]) in classes.iter().take(LISTED) {
        let _ = writeln!(card, "| {} | {train} | {val} | {test} |", cell(class));
    }
    if classes.len() > LISTED {
        let _ = writeln!(card, "| and {} more | | | |", classes.len() - LISTED);
    }
    card.push('\n');
}

fn training(card: &mut String, told: &Told<'_>) {
    let _ = writeln!(card, "## Training\n");
    let phases = told.config["phase"].as_array();
    let _ = writeln!(
        card,
        "| phase | length | frozen | trains | optimizer | schedule |\n|---|---|---|--:|---|---|"
    );
    for (at, phase) in phases.into_iter().flatten().enumerate() {
        let length = match (&phase["epochs"], &phase["steps"]) {
            (Value::Null, Value::Null) => String::new(),
            (Value::Null, steps) => format!("{steps} steps"),
            (epochs, _) => format!("{epochs} epochs"),
        };
        let keys = ["freeze", "freeze_before", "freeze_stages", "train_only"];
        let frozen = keys.iter().find(|key| !phase[**key].is_null());
        let frozen = frozen.map_or(String::new(), |key| format!("`{key} = {}`", phase[*key]));
        let trains = told
            .trainable
            .get(at)
            .map_or(String::new(), |it| it.1.to_string());
        let _ = writeln!(
            card,
            "| {} | {length} | {} | {trains} | {} | {} |",
            cell(&text(&phase["name"]).unwrap_or_default()),
            cell(&frozen),
            settings(&phase["optimizer"]),
            settings(&phase["schedule"]),
        );
    }
    let _ = write!(
        card,
        "\nBatches of {}, seed {}.",
        told.config["train"]["batch_size"], told.config["seed"]
    );
    if let Some(row) = told.best.and_then(|best| told.rows.get(best)) {
        let _ = write!(
            card,
            " The weights are those of epoch {} (step {}",
            row.epoch, row.step
        );
        if let Some(accuracy) = row.val_accuracy {
            let _ = write!(card, ", validation accuracy {:.1} %", 100.0 * accuracy);
        }
        let last = told.rows.last().map_or(0, |row| row.epoch);
        let _ = write!(card, "), the best of {last}.");
    }
    card.push('\n');
    let augment = settings(&told.config["data"]["augment"]);
    if !augment.is_empty() {
        let _ = writeln!(card, "\nRandom changes of training pictures: {augment}.");
    }
    card.push('\n');
}

/// What weights are called: of a file here, its name alone.
fn file_name(weights: &str) -> String {
    let path = Path::new(weights);
    let name = path.file_name().filter(|_| path.is_absolute());
    name.map_or_else(
        || weights.into(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// A table of settings in a line; what is off, or 0, is left out.
fn settings(table: &Value) -> String {
    let entries = table.as_object().into_iter().flatten();
    let off = |value: &Value| {
        matches!(value, Value::Null | Value::Bool(false)) || value.as_f64() == Some(0.0)
    };
    let on = entries.filter(|(_, value)| !off(value));
    let shown: Vec<String> = on
        .map(|(key, value)| match value {
            Value::String(text) => format!("{key} {}", cell(text)),
            value => format!("{key} {}", cell(&value.to_string())),
        })
        .collect();
    shown.join(", ")
}

fn calibration(card: &mut String, told: &Told<'_>) {
    let figures = told
        .calibration
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    let figures = figures.filter_map(|(name, value)| Some((name, value.as_f64()?)));
    let shown: Vec<String> = figures
        .map(|(name, value)| format!("{name} {value:.4}"))
        .collect();
    if !shown.is_empty() {
        let _ = writeln!(card, "Calibration: {}.\n", shown.join(", "));
    }
}

fn preprocessing(card: &mut String, told: &Told<'_>) {
    let Some(preprocess) = told.preprocess else {
        return;
    };
    let _ = writeln!(
        card,
        "## Preprocessing\n\nThe model file holds it, and xp does it.\n\n```json\n{preprocess:#}\n```\n"
    );
}

fn usage(card: &mut String, told: &Told<'_>) {
    let run = told.run;
    let _ = writeln!(
        card,
        "## Use\n\n```sh\nxp predict {run} picture.jpg --top 3\nxp serve {run}\nxp export {run}    # ONNX\n```\n\n\
         `model.safetensors` holds weights, class names and preprocessing; it can be given in place of \
         the run directory.\n"
    );
}

fn limits(card: &mut String, told: &Told<'_>) {
    let mut limits = Vec::new();
    match told.test {
        None => limits.push("It was never tested: there is no test split.".to_owned()),
        Some(test) => {
            let [low, high] = test.accuracy_interval;
            if test.images < FEW {
                limits.push(format!(
                    "It was tested on {} pictures only: the true accuracy may be anything from {:.0} to {:.0} %.",
                    test.images,
                    100.0 * low,
                    100.0 * high
                ));
            }
            let few: Vec<String> = test
                .per_class
                .iter()
                .filter(|class| class.support < FEW_OF_CLASS)
                .map(|class| line(&class.class))
                .collect();
            if !few.is_empty() {
                limits.push(format!(
                    "Fewer than {FEW_OF_CLASS} test pictures say little of: {}.",
                    few.iter().take(20).cloned().collect::<Vec<_>>().join(", ")
                ));
            }
            let weak = test
                .per_class
                .iter()
                .filter(|class| class.support > 0 && class.recall < 0.5);
            let weak: Vec<String> = weak.map(|class| line(&class.class)).take(20).collect();
            if !weak.is_empty() {
                limits.push(format!("It misses more than half of: {}.", weak.join(", ")));
            }
        }
    }
    let counts = told.classes().into_iter().map(|(_, [train, ..])| train);
    let (least, most) = (counts.clone().min().unwrap_or(0), counts.max().unwrap_or(0));
    if most > 5 * least {
        limits.push(format!(
            "Classes differ in size: from {least} to {most} training pictures."
        ));
    }
    if told.pictures(Split::Val) == 0 {
        limits.push("Nothing chose among its weights: there is no validation split.".into());
    }
    if !told.issues.is_empty() {
        limits.push(format!(
            "The data had {} issues, such as broken or duplicate pictures (`data_issues.csv`).",
            told.issues.len()
        ));
    }
    limits.push("It knows these classes only, and calls any picture one of them.".into());
    let _ = writeln!(card, "## Limits\n");
    for limit in limits {
        let _ = writeln!(card, "- {limit}");
    }
    card.push('\n');
}

fn provenance(card: &mut String, told: &Told<'_>) {
    let manifest = told.manifest;
    let _ = writeln!(card, "## Provenance\n\n| what | value |\n|---|---|");
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|it| !it.is_empty()) {
            let _ = writeln!(card, "| {name} | {} |", cell(&value));
        }
    };
    put("run", Some(told.run.to_owned()));
    put("started", text(&manifest["started"]));
    put("xp", text(&manifest["xp_version"]));
    put("git commit", text(&manifest["git_commit"]));
    put("device", text(&manifest["device"]));
    put("parameters", told.parameters.map(|count| count.to_string()));
    put("weights' licence", told.licence.map(str::to_owned));
    for name in ["data", "split", "weights", "config"] {
        let sum = text(&manifest["fingerprints"][name]);
        put(
            &format!("BLAKE3 of {name}"),
            sum.map(|sum| format!("`{sum}`")),
        );
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// A name in a sentence: one line, without a meaning in Markdown.
fn line(name: &str) -> String {
    let mut plain = String::new();
    for c in name.chars() {
        match c {
            c if c.is_control() => plain.push(' '),
            '<' => plain.push_str("&lt;"),
            '*' | '_' | '[' | ']' | '\\' => plain.extend(['\\', c]),
            c => plain.push(c),
        }
    }
    plain
}

/// A text in a table.
fn cell(text: &str) -> String {
    let text = text.replace(char::is_control, " ");
    text.replace('|', "\\|").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::super::figures::figures;
    use super::*;
    use crate::records::{DataIssueRow, SplitRow};

    fn split() -> Vec<SplitRow> {
        let row = |(class, label, split): (&str, usize, Split)| SplitRow {
            path: "p".into(),
            class: class.into(),
            label,
            split,
            blake3: String::new(),
        };
        let all = [
            ("cat", 0, Split::Train),
            ("cat", 0, Split::Test),
            ("d|g_<b>", 1, Split::Train),
            ("d|g_<b>", 1, Split::Test),
        ];
        all.map(row).into()
    }

    #[test]
    fn a_card_has_front_matter_results_and_limits() {
        let config = json!({
            "seed": 3,
            "data": { "root": "/home/me/pets", "split": { "by": "ratio" }, "augment": { "crop": false, "rotate": 15 } },
            "model": { "backbone": "resnet18", "weights": "timm/resnet18.a1_in1k" },
            "train": { "batch_size": 8 },
            "phase": [{ "name": "head", "epochs": 2, "freeze": "all", "optimizer": { "kind": "adam", "lr": 0.001 } }],
        });
        let manifest = json!({ "xp_version": "0.1.0", "timings": { "train": 1.5 }, "fingerprints": { "data": "ab" } });
        let classes = ["cat".to_owned(), "d|g_<b>".to_owned()];
        let test =
            TestReport::from_predictions(Split::Test, "best", &classes, [(0, 0), (1, 0)], 0.5);
        let issues = [DataIssueRow {
            path: "x".into(),
            kind: "corrupt".into(),
            reason: "it is".into(),
        }];
        let calibration = json!({ "ece": 0.125, "bins": [] });
        let told = Told {
            name: "pets",
            rows: &[],
            best: None,
            preprocess: None,
            run: "runs_pets",
            config: &config,
            manifest: &manifest,
            test: Some(&test),
            calibration: Some(&calibration),
            split: &split(),
            issues: &issues,
            parameters: Some(100),
            trainable: &[("head".into(), 10)],
            licence: Some("Apache-2.0"),
        };
        let card = card(&told);
        for part in [
            "---\nlicense: \"apache-2.0\"\nlibrary_name: \"xp\"\n",
            "\nbase_model: \"timm/resnet18.a1_in1k\"\n",
            "\"name\":\"pets\",\"type\":\"imagefolder\",\"split\":\"test\"",
            "| cat | 1 | 0.500 | 1.000 | 0.207 to 1.000 | 0.667 |",
            "| d\\|g_&lt;b> | 1 | 0.000 | 0.000 |",
            "| head | 2 epochs | `freeze = \"all\"` | 10 | kind adam, lr 0.001 |",
            "Random changes of training pictures: rotate 15.",
            "Calibration: ece 0.1250.",
            "- It was tested on 2 pictures only: the true accuracy may be anything from 9 to 91 %.",
            "- It misses more than half of: d|g\\_&lt;b>.",
            "- The data had 1 issues",
            "| BLAKE3 of data | `ab` |",
        ] {
            assert!(card.contains(part), "{part}\nis not in\n{card}");
        }
        assert!(!card.contains("/home/me"), "{card}");

        let table: serde_json::Map<String, Value> = serde_json::from_str(&figures(&told)).unwrap();
        assert!(
            table.values().all(|it| !it.is_object() && !it.is_array()),
            "flat"
        );
        assert_eq!(table["test_accuracy"], 0.5);
        assert_eq!(table["seconds_train"], 1.5);
        assert_eq!(table["final_epoch"], Value::Null);
        assert_eq!(table["train_pictures"], 2);
    }
}
