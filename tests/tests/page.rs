//! `report.html`: a run as a page.

use std::fs;

use super::experiments::{run, succeeds, xp};

#[test]
fn a_run_has_a_page_of_its_own_and_can_have_it_again() {
    let runs = tempfile::tempdir().unwrap();
    // More test pictures than the page shows by itself.
    let split = "data.split={ train = 0.3, val = 0.1, test = 0.6 }";
    let run = run(runs.path(), &["data.generate.per_class=20", split]);
    let path = run.join("report.html");
    let first = fs::read_to_string(&path).unwrap();
    for part in [
        "<h1>quickstart</h1>",
        ": done</p>",
        "Test accuracy",
        "Confusion matrix",
        "Calibration",
        "feature_extraction",
        "data:image/jpeg;base64,",
        "alt=\"the same under heat: where it looked like ",
        "Right, and why",
        "background:linear-gradient(to right,rgb(0,0,4)",
        "configs/quickstart.toml",
    ] {
        assert!(first.contains(part), "{part}");
    }
    let again = run.join("again.html");
    let (run, again) = (run.to_str().unwrap(), again.to_str().unwrap());
    succeeds(xp(&["report", run, "--output", again]));
    let more = fs::read_to_string(again).unwrap();
    let pictures = |html: &str| html.matches("data:image/jpeg").count();
    assert!(pictures(&more) > pictures(&first));
    assert_eq!(fs::read_to_string(&path).unwrap(), first);
    assert_eq!(
        succeeds(xp(&["report", run])).trim(),
        path.to_str().unwrap()
    );
}

#[test]
fn pages_of_trials_and_without_a_model_do_without_heat() {
    let runs = tempfile::tempdir().unwrap();
    let trial = runs.path().join("trial");
    let sets = ["--run-dir", trial.to_str().unwrap()];
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/quickstart.toml");
    let mut arguments = vec!["run", config, "--quiet"];
    arguments.extend(sets);
    for set in super::experiments::TINY {
        arguments.extend(["--set", set]);
    }
    succeeds(xp(&arguments));
    let page = || fs::read_to_string(trial.join("report.html")).unwrap();
    let heated = |html: &str| html.contains("under heat");
    assert!(!heated(&page()));
    let report = || xp(&["report", trial.to_str().unwrap()]);
    succeeds(report());
    assert!(heated(&page()));
    fs::remove_file(trial.join("model.safetensors")).unwrap();
    let output = report();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert!(!heated(&page()) && page().contains("data:image/jpeg"));
}
