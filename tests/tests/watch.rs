//! `xp watch`: screens at several sizes, lines where there is no terminal.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::Value;
use xp::commands::watch::left::Left;
use xp::commands::watch::run_state::{RunReader, RunState};
use xp::commands::watch::screen::Painter;
use xp::commands::watch::sweep_state::{SweepReader, SweepState};
use xp::commands::watch::view::{Curves, View};
use xp::run::{BestMetrics, Manifest, Status};

use super::experiments::{succeeds, xp};

const HEADER: &str = "phase,phase_epoch,epoch,step,lr,train_loss,train_accuracy,val_loss,\
                      val_accuracy,images_per_second,seconds\n";

const RESOLVED: &str = "name = \"flowers\"\n[train.early_stopping]\npatience = 5\n\
    [[phase]]\nname = \"feature_extraction\"\nepochs = 10\n\
    [[phase]]\nname = \"fine_tune\"\nepochs = 20\n";

/// Rows of a run that gets better in two phases.
fn rows(count: usize) -> String {
    let mut text = HEADER.to_owned();
    for epoch in 0..=count {
        let (phase, phase_epoch, lr) = match epoch {
            ..=10 => ("feature_extraction", epoch, 1e-3),
            _ => ("fine_tune", epoch - 10, 1e-4),
        };
        let far = (-(epoch as f64) / 6.0).exp();
        let (val, train) = (0.9 - 0.7 * far, 0.95 - 0.8 * far);
        let (val_loss, train_loss) = (0.3 + 1.3 * far, 0.1 + 1.6 * far);
        let trained = match epoch {
            0 => ",".into(),
            _ => format!("{train_loss:.4},{train:.4}"),
        };
        let step = 25 * epoch;
        text.push_str(&format!(
            "{phase},{phase_epoch},{epoch},{step},{lr},{trained},{val_loss:.4},{val:.4},412.0,2.0\n"
        ));
    }
    text
}

fn manifest(epoch: usize) -> Manifest {
    let mut manifest = Manifest::begin("cpu", 2, 42);
    manifest.best = Some(BestMetrics {
        epoch,
        step: None,
        val_accuracy: Some(0.8123),
        val_loss: Some(0.5),
    });
    manifest
}

/// A run directory in a folder, with so many epochs.
fn make_run(folder: &Path, name: &str, epochs: usize, manifest: &Manifest) -> PathBuf {
    let run = folder.join(name);
    fs::create_dir_all(&run).unwrap();
    fs::write(run.join("resolved.toml"), RESOLVED).unwrap();
    fs::write(run.join("metrics.csv"), rows(epochs)).unwrap();
    put(&run, manifest);
    let line = |level: &str, fields: &str| {
        format!("{{\"level\":\"{level}\",\"fields\":{{{fields}}},\"target\":\"xp\"}}\n")
    };
    let log = [
        line("INFO", r#""message":"phase","phase":"feature_extraction""#),
        line(
            "WARN",
            r#""message":"no heartbeat","error":"the disk is full""#,
        ),
        line(
            "INFO",
            r#""message":"evaluation","epoch":14,"train_loss":0.25,"val_loss":0.41,"val_accuracy":0.8123"#,
        ),
    ];
    fs::write(run.join("log.jsonl"), log.concat()).unwrap();
    run
}

fn put(run: &Path, manifest: &Manifest) {
    let text = serde_json::to_string(manifest).unwrap();
    fs::write(run.join("manifest.json"), text).unwrap();
}

/// A run as it is read, with what the clock decides put in its place.
fn state(epochs: usize) -> RunState {
    let folder = tempfile::tempdir().unwrap();
    let name = "2026-11-21T18-03-11_flowers_ab12cd";
    let run = make_run(folder.path(), name, epochs, &manifest(epochs));
    let mut state = RunReader::new(&run).look().clone();
    state.run.run = name.into();
    state.run.seconds = Some(75.0);
    state.left = Some(Left {
        least: 27.0,
        most: Some(35.0),
    });
    state.phase_left = state.left;
    state
}

fn screen(size: (u16, u16), draw: impl FnOnce(&mut ratatui::Frame<'_>)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    terminal.draw(draw).unwrap();
    terminal.backend().to_string()
}

const PLAIN: Painter = Painter { coloured: false };

fn run_screen(size: (u16, u16), state: &RunState, view: View) -> String {
    screen(size, |frame| PLAIN.run(frame, state, &view, false))
}

#[test]
fn a_run_fills_screens_of_all_sizes() {
    let state = state(14);
    for (width, height) in [(40, 10), (80, 24), (80, 40), (120, 30)] {
        let shown = run_screen((width, height), &state, View::default());
        assert!(
            shown.contains("14/30") && shown.contains("q quit"),
            "{shown}"
        );
    }
    // Whatever the size, nothing fails, and from some size on the state can be read.
    for width in 1..90 {
        for height in 1..30 {
            let shown = run_screen((width, height), &state, View::default());
            assert!(
                width < 10 || height < 10 || shown.contains("running"),
                "{width}x{height}\n{shown}"
            );
        }
    }
}

#[test]
fn curves_are_chosen_zoomed_and_scaled() {
    let state = state(14);
    let view = |curves, log, last| View {
        curves,
        log,
        last,
        ..View::default()
    };
    let shown = [
        run_screen((60, 16), &state, view(Curves::Loss, true, None)),
        run_screen((60, 16), &state, view(Curves::Rate, false, None)),
        run_screen((60, 16), &state, view(Curves::Accuracy, false, Some(5))),
    ];
    for (shown, title) in shown.iter().zip(["loss, log", "learning rate", "epoch 14"]) {
        assert!(shown.contains(title), "{shown}");
    }
}

#[test]
fn a_run_that_has_not_begun_and_one_that_failed_say_so() {
    let mut early = state(14);
    early.rows.clear();
    early.row = None;
    early.best = None;
    early.left = None;
    early.phase_left = None;
    early.messages.clear();
    let mut failed = state(2);
    failed.run.status = xp::run::Condition::Failed;
    failed.run.reason = Some("the loss is NaN in phase `fine_tune`\nhelp".into());
    let mut gone = state(2);
    gone.gone = true;
    let shown = [early, failed, gone].map(|it| run_screen((60, 12), &it, View::default()));
    let told = ["no row yet", "the loss is NaN", "gone"];
    for (shown, told) in shown.iter().zip(told) {
        assert!(shown.contains(told), "{shown}");
    }
}

#[test]
fn nothing_is_told_by_colours_alone() {
    let state = state(14);
    let coloured = Painter { coloured: true };
    let view = View::default();
    let with = screen((80, 24), |frame| coloured.run(frame, &state, &view, false));
    assert_eq!(with, run_screen((80, 24), &state, view));
}

/// The folder of a sweep with six trials, of which two are complete.
fn make_sweep(folder: &Path) -> PathBuf {
    let sweep = folder.join("flowers");
    let mut trials = Vec::new();
    for index in 0..6 {
        let id = format!("{:010x}", 0xab_cdef_0123_u64 + index);
        trials.push(serde_json::json!({
            "id": id, "name": "flowers", "config": "flowers.toml", "features": null, "resolved": "",
            "settings": { "train.batch_size": 8 << (index / 2), "seed": 1 + index % 2 },
        }));
        let name = format!("flowers_{id}");
        let mut manifest = manifest(14);
        match index {
            0 | 1 => {
                manifest.status = Status::Done;
                manifest.test_accuracy = Some(0.8 + index as f64 / 100.0);
                manifest.timings.insert("work".into(), 60.0 + index as f64);
                manifest.ended = Some(manifest.started);
                manifest.fingerprints.data = "pictures".into();
                make_run(&sweep, &name, 30, &manifest);
            }
            2 => {
                manifest.status = Status::Failed;
                manifest.error = Some("the loss is NaN".into());
                make_run(&sweep, &name, 3, &manifest);
            }
            3 => drop(make_run(&sweep, &name, 14, &manifest)),
            _ => {}
        }
    }
    fs::create_dir_all(&sweep).unwrap();
    let plan = serde_json::json!({ "xp_version": "0.1.0", "trials": trials });
    fs::write(sweep.join("sweep.json"), plan.to_string()).unwrap();
    sweep
}

fn sweep_state() -> SweepState {
    let folder = tempfile::tempdir().unwrap();
    let sweep = make_sweep(folder.path());
    let mut state = SweepReader::new(&sweep).look().clone();
    assert!(state.left.is_some() && state.trials[3].left.is_some());
    state.trials[3].left = Some(Left {
        least: 20.0,
        most: Some(31.0),
    });
    state.left = Some(Left {
        least: 140.0,
        most: Some(160.0),
    });
    state
}

#[test]
fn a_sweep_is_a_table() {
    let state = sweep_state();
    let view = View {
        chosen: 3,
        ..View::default()
    };
    for size in [(40, 10), (80, 24), (120, 30)] {
        let shown = screen(size, |frame| PLAIN.sweep(frame, &state, &view));
        assert!(
            shown.contains("2 of 6 done") && shown.contains(">  abcdef0126"),
            "{shown}"
        );
    }
    for width in 1..90 {
        for height in 1..30 {
            screen((width, height), |frame| PLAIN.sweep(frame, &state, &view));
        }
    }
}

/// Names and times of all files of a folder.
fn content(folder: &Path) -> Vec<(PathBuf, std::time::SystemTime)> {
    let entries = fs::read_dir(folder).unwrap().map(|it| it.unwrap());
    let mut found: Vec<_> = entries
        .map(|it| (it.path(), it.metadata().unwrap().modified().unwrap()))
        .collect();
    found.sort();
    found
}

#[test]
fn once_says_how_it_stands_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let run = make_run(folder.path(), "r", 14, &manifest(14));
    let before = content(&run);
    let said = succeeds(xp(&["watch", run.to_str().unwrap(), "--once"]));
    let begin = "running  phase 2/2 fine_tune  epoch 14/30  val 83.2 %  best 81.2 % (epoch 14)  \
                 patience 5/5  412 img/s  left ";
    assert!(
        said.starts_with(begin) && said.lines().count() == 1,
        "{said}"
    );
    let said = succeeds(xp(&["watch", run.to_str().unwrap(), "--once", "--json"]));
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&said["status"], &said["epochs"]),
        (&"running".into(), &14.into())
    );
    assert_eq!(said["phase"]["name"], "fine_tune");
    assert_eq!(said["patience"]["left"], 5);
    let left = &said["left"];
    assert!(left["least"].as_f64() < left["most"].as_f64(), "{left}");
    assert_eq!(said["messages"][1]["warning"], true);
    assert_eq!(content(&run), before);

    let sweep = make_sweep(folder.path());
    let said = succeeds(xp(&["watch", sweep.to_str().unwrap(), "--once"]));
    assert!(
        said.contains("2 of 6 done, 1 failed, 1 running, 2 waiting  left "),
        "{said}"
    );
    let said = succeeds(xp(&["watch", sweep.to_str().unwrap(), "--once", "--json"]));
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["trials"][2]["reason"], "the loss is NaN");
    assert_eq!(said["counts"]["done"], 2);

    for wrong in [folder.path().join("nowhere"), folder.path().to_path_buf()] {
        let output = xp(&["watch", wrong.to_str().unwrap(), "--once"]);
        assert_eq!(output.status.code(), Some(2));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains("help: give a folder made by"), "{stderr}");
    }
    let output = xp(&["watch", run.to_str().unwrap(), "--interval", "0"]);
    assert_eq!(output.status.code(), Some(2));
}

/// A run that this process says it works on, and another watches.
#[test]
fn a_pipe_gets_a_line_a_change_until_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let run = make_run(folder.path(), "r", 1, &manifest(1));
    let mut child = Command::new(env!("CARGO_BIN_EXE_xp"))
        .args(["watch", run.to_str().unwrap(), "--interval", "0.05"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert!(next().contains("  epoch 1/30  "));
    // Half a row is none, until it is whole.
    let all = rows(2);
    let (head, tail) = all[rows(1).len()..].split_at(20);
    for part in [head, tail] {
        let file = File::options().append(true).open(run.join("metrics.csv"));
        file.unwrap().write_all(part.as_bytes()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(150));
    }
    assert!(next().contains("  epoch 2/30  "));
    // Replaced as a whole, as the manifest is.
    let mut manifest = manifest(2);
    manifest.status = Status::Done;
    manifest.test_accuracy = Some(0.75);
    fs::write(run.join("new"), serde_json::to_string(&manifest).unwrap()).unwrap();
    fs::rename(run.join("new"), run.join("manifest.json")).unwrap();
    let last = next();
    assert!(
        last.starts_with("done  ") && last.contains("  test 75.0 %"),
        "{last}"
    );
    assert!(lines.next().is_none());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_folder_that_vanishes_ends_it_with_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let run = make_run(folder.path(), "r", 1, &manifest(1));
    let mut child = Command::new(env!("CARGO_BIN_EXE_xp"))
        .args(["watch", run.to_str().unwrap(), "--interval", "0.05"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    fs::rename(&run, folder.path().join("away")).unwrap();
    assert!(lines.next().unwrap().unwrap().starts_with("gone  "));
    assert_eq!(child.wait().unwrap().code(), Some(1));
}
