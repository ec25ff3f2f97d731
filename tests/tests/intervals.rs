//! Phases in steps, evaluations between epochs, steps of several batches, clipped gradients,
//! averaged weights, other samples: through the binary.

use std::fs;
use std::path::Path;

use super::experiments::{TINY, run, succeeds, timeless_metrics, xp};

/// Phase, epoch and step of each row.
fn rows(run: &Path) -> Vec<(String, usize, u64)> {
    let metrics = timeless_metrics(run);
    let row = |line: &String| {
        let fields: Vec<&str> = line.split(',').collect();
        (
            fields[0].to_owned(),
            fields[2].parse().unwrap(),
            fields[3].parse().unwrap(),
        )
    };
    metrics.iter().skip(1).map(row).collect()
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// 30 training pictures in batches of 8: an epoch has 4 steps.
const STEPS: &str = "phase[1]={ name = 'fine', steps = 10, evaluate_every = 3, \
     freeze_before = 'block_11_expand_BN', optimizer = { kind = 'adam', lr = 3e-4 }, \
     schedule = { kind = 'cosine', warmup_steps = 2 } }";

#[test]
fn a_phase_of_steps_has_rows_between_epochs() {
    let runs = tempfile::tempdir().unwrap();
    let run = run(runs.path(), &["train.evaluate_first=false", STEPS]);
    let row = |phase: &str, epoch, step| (phase.to_owned(), epoch, step);
    let [head, fine] = ["feature_extraction", "fine"];
    assert_eq!(
        rows(&run),
        [
            row(head, 1, 4),
            row(head, 2, 8),
            row(fine, 3, 11),
            row(fine, 4, 14),
            row(fine, 5, 17),
            row(fine, 5, 18),
        ]
    );
    let manifest = json(&run.join("manifest.json"));
    assert!(manifest["best"]["step"].as_u64().is_some(), "{manifest}");
    let resolved = fs::read_to_string(run.join("resolved.toml")).unwrap();
    assert!(resolved.contains("steps = 10") && resolved.contains("warmup_steps = 2"));
    let before = fs::read(run.join("curves.png")).unwrap();
    succeeds(xp(&["plot", run.to_str().unwrap()]));
    assert_eq!(fs::read(run.join("curves.png")).unwrap(), before);
}

#[test]
fn an_epoch_in_steps_is_the_same_training() {
    let runs = tempfile::tempdir().unwrap();
    let phase = |length: &str| {
        format!(
            "phase=[{{ name = 'fine', {length}, freeze_before = 'block_11_expand_BN', \
             optimizer = {{ kind = 'adam', lr = 3e-4 }}, schedule = {{ kind = 'cosine' }} }}]"
        )
    };
    let with = |length: &str| {
        // Quickstart's phases give way to one.
        let sets = TINY[..3].iter().copied();
        let phase = phase(length);
        let sets: Vec<&str> = sets.chain([phase.as_str()]).collect();
        super::experiments::run_plain(runs.path(), &sets)
    };
    let epochs = with("epochs = 3");
    let steps = with("steps = 12");
    assert_eq!(timeless_metrics(&epochs), timeless_metrics(&steps));
    let often = with("steps = 12, evaluate_every = 2");
    let last = |run: &Path| fs::read(run.join("checkpoints/last/weights.safetensors")).unwrap();
    assert!(last(&epochs) == last(&steps));
    assert!(last(&epochs) == last(&often), "evaluating changes training");
    assert_eq!(rows(&often).len(), 1 + 6);
}

#[test]
fn options_of_the_loop_give_the_same_bits_for_any_number_of_threads() {
    let runs = tempfile::tempdir().unwrap();
    let options = [
        "train.batch_size=4",
        "train.accumulate=3",
        "train.drop_last=true",
        "train.sampling=balanced",
        "train.eval_batches=1",
        "train.ema={ decay = 0.9, warmup = true }",
        "phase[1].clip_norm=0.5",
        "phase[1].clip_value=0.05",
        "phase[1].evaluate_every=2",
        "phase[1].bn=train",
        "data.augment.flip_horizontal=true",
    ];
    let with = |more: &str| run(runs.path(), &[&options, &[more][..]].concat());
    let (one, two) = (with("threads=1"), with("threads=2"));
    assert_eq!(timeless_metrics(&one), timeless_metrics(&two));
    for file in [
        "checkpoints/best/weights.safetensors",
        "checkpoints/last/weights.safetensors",
        "checkpoints/last/averaged.safetensors",
        "predictions.csv",
    ] {
        let bytes = |run: &Path| fs::read(run.join(file)).unwrap();
        assert!(bytes(&one) == bytes(&two), "{file} differs");
    }
    // 30 pictures in 7 whole batches are 3 steps an epoch; 4 pictures validate.
    let steps: Vec<u64> = rows(&one).iter().map(|row| row.2).collect();
    assert_eq!(steps, [0, 3, 6, 8, 10, 12]);
    let metrics = timeless_metrics(&one).join("\n");
    let accuracies = metrics
        .lines()
        .skip(1)
        .map(|line| line.rsplit(',').next().unwrap());
    for accuracy in accuracies {
        let quarters = 4.0 * accuracy.parse::<f64>().unwrap();
        assert_eq!(quarters.fract(), 0.0, "4 pictures validate:\n{metrics}");
    }
}

#[test]
fn several_batches_of_a_step_are_one_large_batch() {
    let runs = tempfile::tempdir().unwrap();
    // No dropout, and stored statistics: batches do not show.
    let with = |size: &str, batches: &str| {
        run(runs.path(), &["model.head=[{ dense = 5 }]", size, batches])
    };
    let whole = with("train.batch_size=12", "train.accumulate=1");
    let parts = with("train.batch_size=4", "train.accumulate=3");
    assert_eq!(rows(&whole), rows(&parts));
    let losses = |run: &Path| -> Vec<f64> {
        let metrics = timeless_metrics(run);
        let rows = metrics.iter().skip(2);
        let pairs = rows.map(|line| line.split(',').collect::<Vec<_>>());
        pairs
            .flat_map(|fields| [fields[5].parse().unwrap(), fields[7].parse().unwrap()])
            .collect()
    };
    for (a, b) in losses(&whole).iter().zip(losses(&parts)) {
        assert!((a - b).abs() < 2e-4 * a, "{a} is not {b}");
    }
}

#[test]
fn best_and_last_are_both_tested() {
    let runs = tempfile::tempdir().unwrap();
    // A rate that spoils the network: the best evaluation is an early one.
    let spoil = "phase[1].optimizer={ kind = 'sgd', lr = 0.5 }";
    let run = run(runs.path(), &[spoil]);
    let manifest = json(&run.join("manifest.json"));
    let (best, last) = (
        json(&run.join("test.json")),
        json(&run.join("test_last.json")),
    );
    assert_eq!(
        (&best["checkpoint"], &last["checkpoint"]),
        (&"best".into(), &"last".into())
    );
    assert_eq!(manifest["test_accuracy"], best["accuracy"]);
    assert_eq!(manifest["test_last_accuracy"], last["accuracy"]);
    let evaluated = |checkpoint: &str| {
        let path = run.to_str().unwrap();
        let answer = succeeds(xp(&[
            "evaluate",
            path,
            "--json",
            "--checkpoint",
            checkpoint,
        ]));
        serde_json::from_str::<serde_json::Value>(&answer).unwrap()
    };
    assert_eq!(evaluated("last"), last);
    assert_eq!(evaluated("best"), best);
}

#[test]
fn averaged_weights_are_what_is_judged() {
    let runs = tempfile::tempdir().unwrap();
    let run = run(
        runs.path(),
        &["train.ema.decay=0.5", "train.test_last=false"],
    );
    assert!(!run.join("test_last.json").exists());
    let path = run.to_str().unwrap();
    let report = succeeds(xp(&[
        "evaluate",
        path,
        "--json",
        "--split",
        "val",
        "--checkpoint",
        "last",
    ]));
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let metrics = timeless_metrics(&run);
    let last: Vec<&str> = metrics.last().unwrap().split(',').collect();
    let logged: f64 = last[7].parse().unwrap();
    let loss = report["loss"].as_f64().unwrap();
    assert!((loss - logged).abs() < 1e-9, "{loss} is not {logged}");
}
