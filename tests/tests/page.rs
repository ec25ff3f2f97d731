//! `report.html`: a run as a page.

use std::fs;

use super::experiments::{run, succeeds, xp};

#[test]
fn a_run_has_a_page_of_its_own_and_can_have_it_again() {
    let runs = tempfile::tempdir().unwrap();
    let run = run(runs.path(), &[]);
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
