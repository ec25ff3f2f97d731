//! `metrics.json`: a run's figures in one flat table, for programs.

use serde_json::{Map, Value, json};

use crate::records::{DataIssueRow, MetricsRow, Split, SplitRow, TestReport};

/// What a run directory tells. What is not there is left out of all that is made of it.
#[derive(Debug)]
pub struct Told<'a> {
    /// The experiment's name.
    pub name: &'a str,
    /// The run directory's own name.
    pub run: &'a str,
    /// The resolved configuration.
    pub config: &'a Value,
    /// `manifest.json`.
    pub manifest: &'a Value,
    /// Rows of `metrics.csv`.
    pub rows: &'a [MetricsRow],
    /// Index of the best row.
    pub best: Option<usize>,
    /// `test.json`.
    pub test: Option<&'a TestReport>,
    /// What `test.json` says of calibration.
    pub calibration: Option<&'a Value>,
    /// Rows of `split.csv`.
    pub split: &'a [SplitRow],
    /// Rows of `data_issues.csv`.
    pub issues: &'a [DataIssueRow],
    /// Number of the network's parameters.
    pub parameters: Option<usize>,
    /// Number of those that train, by phase.
    pub trainable: &'a [(String, usize)],
    /// How pictures become tensors.
    pub preprocess: Option<&'a Value>,
    /// SPDX name of the licence of the weights that it began with.
    pub licence: Option<&'a str>,
}

impl Told<'_> {
    /// The classes, in the order of their labels, with pictures in train, val and test.
    pub(super) fn classes(&self) -> Vec<(&str, [usize; 3])> {
        let mut classes: Vec<(usize, &str, [usize; 3])> = Vec::new();
        for row in self.split {
            let at = match classes.binary_search_by_key(&row.label, |it| it.0) {
                Ok(at) => at,
                Err(at) => {
                    classes.insert(at, (row.label, row.class.as_str(), [0; 3]));
                    at
                }
            };
            classes[at].2[row.split as usize] += 1;
        }
        classes
            .into_iter()
            .map(|(_, class, counts)| (class, counts))
            .collect()
    }

    /// Pictures of a split.
    pub(super) fn pictures(&self, split: Split) -> usize {
        self.split.iter().filter(|row| row.split == split).count()
    }
}

/// Mean of a figure over the classes that have pictures.
pub(super) fn macro_mean(test: &TestReport, figure: impl Fn(usize) -> f64) -> Option<f64> {
    let there: Vec<usize> = (0..test.per_class.len())
        .filter(|&class| test.per_class[class].support > 0)
        .collect();
    let sum: f64 = there.iter().map(|&class| figure(class)).sum();
    (!there.is_empty()).then(|| sum / there.len() as f64)
}

/// The run's figures of the test split that trackers show as the run's own.
pub fn results(told: &Told<'_>) -> Vec<(String, f64)> {
    let mut found = Vec::new();
    if let Some(test) = told.test {
        found.push(("test_accuracy", Some(test.accuracy)));
        found.push(("test_accuracy_low", Some(test.accuracy_interval[0])));
        found.push(("test_accuracy_high", Some(test.accuracy_interval[1])));
        found.push(("test_loss", Some(test.loss)));
        found.push((
            "test_macro_f1",
            macro_mean(test, |it| test.per_class[it].f1),
        ));
        found.push(("test_images", Some(test.images as f64)));
    }
    if let Some(row) = told.best.and_then(|best| told.rows.get(best)) {
        found.push(("best_epoch", Some(row.epoch as f64)));
        found.push(("best_val_accuracy", row.val_accuracy));
        found.push(("best_val_loss", row.val_loss));
    }
    found.push((
        "test_last_accuracy",
        told.manifest["test_last_accuracy"].as_f64(),
    ));
    let finite = |(name, value): (&str, Option<f64>)| {
        Some((name.to_owned(), value.filter(|it| it.is_finite())?))
    };
    found.into_iter().filter_map(finite).collect()
}

/// `metrics.json`: every figure under a name of its own, none of them nested, `null` where the run
/// has none.
pub fn figures(told: &Told<'_>) -> String {
    let manifest = told.manifest;
    let mut table = Map::new();
    let mut put = |name: &str, value: Value| drop(table.insert(name.into(), value));
    put("name", told.name.into());
    put("run", told.run.into());
    for name in [
        "status",
        "started",
        "ended",
        "xp_version",
        "git_commit",
        "device",
        "threads",
        "seed",
    ] {
        put(name, manifest[name].clone());
    }
    put("backbone", told.config["model"]["backbone"].clone());
    put("weights", told.config["model"]["weights"].clone());
    put("licence", told.licence.into());
    put("parameters", told.parameters.into());
    let most = told.trainable.iter().map(|(_, count)| *count).max();
    put("trainable_parameters", most.into());
    put("classes", told.classes().len().into());
    for split in Split::ALL {
        put(
            &format!("{}_pictures", split.name()),
            told.pictures(split).into(),
        );
    }
    put("data_issues", told.issues.len().into());
    let last = told.rows.last();
    put("phases", told.trainable.len().into());
    put("epochs", last.map(|row| row.epoch).into());
    put("steps", last.map(|row| row.step).into());
    for (prefix, row) in [
        ("best", told.best.and_then(|best| told.rows.get(best))),
        ("final", last),
    ] {
        let mut put = |name: &str, value: Option<Value>| {
            put(&format!("{prefix}_{name}"), value.unwrap_or_default());
        };
        put("phase", row.map(|row| row.phase.clone().into()));
        put("epoch", row.map(|row| row.epoch.into()));
        put("step", row.map(|row| row.step.into()));
        put("train_loss", row.map(|row| row.train_loss.into()));
        put("train_accuracy", row.map(|row| row.train_accuracy.into()));
        put("val_loss", row.map(|row| row.val_loss.into()));
        put("val_accuracy", row.map(|row| row.val_accuracy.into()));
    }
    let speeds: Vec<f64> = told.rows.iter().map(|row| row.images_per_second).collect();
    let fastest = speeds
        .into_iter()
        .filter(|it| it.is_finite())
        .reduce(f64::max);
    put("most_images_per_second", fastest.into());
    let test = told.test;
    put("test_images", test.map(|test| test.images).into());
    put("test_accuracy", test.map(|test| test.accuracy).into());
    put(
        "test_accuracy_low",
        test.map(|test| test.accuracy_interval[0]).into(),
    );
    put(
        "test_accuracy_high",
        test.map(|test| test.accuracy_interval[1]).into(),
    );
    put("test_loss", test.map(|test| test.loss).into());
    for (name, figure) in [("precision", 0), ("recall", 1), ("f1", 2)] {
        let of = |test: &TestReport| {
            macro_mean(test, |class| {
                let class = &test.per_class[class];
                [class.precision, class.recall, class.f1][figure]
            })
        };
        put(&format!("test_macro_{name}"), test.and_then(of).into());
    }
    put("test_last_accuracy", manifest["test_last_accuracy"].clone());
    let timings = manifest["timings"].as_object().into_iter().flatten();
    for (name, seconds) in timings {
        put(&format!("seconds_{name}"), seconds.clone());
    }
    for name in ["data", "split", "weights", "config"] {
        put(
            &format!("{name}_fingerprint"),
            manifest["fingerprints"][name].clone(),
        );
    }
    format!("{:#}\n", json!(table))
}
