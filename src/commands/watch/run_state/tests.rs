//! Run directories as they grow, fail and vanish.

use super::*;
use crate::run::Status;
use std::fs;

const HEADER: &str = "phase,phase_epoch,epoch,step,lr,train_loss,train_accuracy,val_loss,\
                      val_accuracy,images_per_second,seconds\n";
const RESOLVED: &str = "[train.early_stopping]\npatience = 3\n\
    [[phase]]\nname = \"head\"\nepochs = 2\n[[phase]]\nname = \"tune\"\nepochs = 10\n";

fn row(phase: &str, phase_epoch: usize, epoch: usize, accuracy: f64) -> String {
    let step = 10 * epoch;
    format!("{phase},{phase_epoch},{epoch},{step},0.1,0.5,0.5,0.6,{accuracy},100.0,2.0\n")
}

struct Run {
    folder: tempfile::TempDir,
    manifest: Manifest,
}

impl Run {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let run = Self {
            folder,
            manifest: Manifest::begin("cpu", 1, 1),
        };
        run.put("resolved.toml", RESOLVED);
        run.put("metrics.csv", HEADER);
        run.put_manifest();
        run
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn put_manifest(&self) {
        let text = serde_json::to_string(&self.manifest).unwrap();
        self.put("manifest.json", &text);
    }

    fn put_rows(&self, rows: &[String]) {
        self.put("metrics.csv", &format!("{HEADER}{}", rows.concat()));
    }
}

#[test]
fn a_run_is_followed_through_its_phases() {
    let mut run = Run::new();
    let mut reader = RunReader::new(run.folder.path());
    let state = reader.look();
    assert_eq!((state.status(), state.left), ("running", None));
    let phase = state.phase.clone().unwrap();
    assert_eq!((phase.name.as_str(), phase.index, phase.of), ("head", 1, 2));

    let mut rows = vec![row("head", 0, 0, 0.2), row("head", 1, 1, 0.5)];
    run.put_rows(&rows);
    let state = reader.look();
    assert_eq!(state.run.epochs_planned, Some(12));
    assert_eq!(state.patience, Some(Patience { left: 3, of: 3 }));
    let left = state.left.unwrap();
    assert!(left.most.is_none() && left.least <= 1.5, "{left:?}");
    assert!(state.phase_left.unwrap().most.unwrap() > 1.0);

    // The phase is over by its length: the next one has begun.
    rows.push(row("head", 2, 2, 0.5));
    run.put_rows(&rows);
    let state = reader.look();
    let phase = state.phase.clone().unwrap();
    assert_eq!((phase.name.as_str(), phase.epoch), ("tune", 0));
    assert_eq!((state.left, state.rows.len()), (None, 3));

    rows.extend([row("tune", 1, 3, 0.7), row("tune", 2, 4, 0.6)]);
    run.put_rows(&rows);
    // Half a row is none.
    let path = run.folder.path().join("metrics.csv");
    let text = fs::read_to_string(&path).unwrap() + "tune,3,5,5";
    fs::write(&path, text).unwrap();
    let state = reader.look();
    assert_eq!(state.patience, Some(Patience { left: 2, of: 3 }));
    assert_eq!(state.rows.len(), 5);
    let left = state.left.unwrap();
    assert!(left.least < left.most.unwrap(), "{left:?}");

    run.manifest.status = Status::Failed;
    run.manifest.error = Some("the loss is NaN".into());
    run.put_manifest();
    let state = reader.look();
    assert_eq!(state.status(), "failed");
    assert!(state.is_over() && state.left.is_none() && state.patience.is_none());
    assert!(state.run.reason.as_deref().unwrap().contains("NaN"));
}

#[test]
fn damage_is_told_and_a_folder_that_is_gone_keeps_its_last_state() {
    let mut run = Run::new();
    let mut reader = RunReader::new(run.folder.path());
    run.put_rows(&[row("head", 1, 1, 0.5)]);
    assert_eq!(reader.look().rows.len(), 1);
    run.put("metrics.csv", &format!("{HEADER}head,one,1\nhead,1,1\n"));
    run.put("manifest.json", "{");
    let state = reader.look();
    assert_eq!((state.status(), state.damage.len()), ("broken", 1));
    run.put_rows(&[row("head", 1, 1, 0.5)]);
    run.manifest.status = Status::Done;
    run.put_manifest();
    assert_eq!(reader.look().status(), "done");
    assert_eq!(reader.glance().status(), "done");
    fs::remove_dir_all(run.folder.path()).unwrap();
    let state = reader.glance();
    assert_eq!((state.status(), state.rows.len()), ("gone", 1));
    assert!(reader.look().gone);
}

#[cfg(target_os = "linux")]
#[test]
fn a_process_that_is_gone_is_noticed_without_a_change_of_any_file() {
    let mut run = Run::new();
    let child = std::process::Command::new("sleep").arg("600").spawn();
    let mut child = child.unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let start = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19);
    run.manifest.process.pid = child.id();
    run.manifest.process.process_start = start.unwrap().parse().ok();
    run.put_manifest();
    let mut reader = RunReader::without_messages(run.folder.path());
    assert_eq!(reader.look().status(), "running");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(reader.glance().status(), "dead");
}

#[test]
fn warnings_and_rows_are_messages() {
    let run = Run::new();
    let line =
        |level: &str, fields: &str| format!("{{\"level\":\"{level}\",\"fields\":{{{fields}}}}}\n");
    let log = [
        line("INFO", r#""message":"pictures","from":"x""#),
        line("INFO", r#""message":"phase","phase":"head""#),
        line(
            "INFO",
            r#""message":"evaluation","epoch":3,"val_loss":0.5,"val_accuracy":0.75"#,
        ),
        line(
            "WARN",
            r#""message":"no heartbeat","error":"disk\u001b[31m full""#,
        ),
    ];
    run.put("log.jsonl", &log.concat());
    let mut reader = RunReader::new(run.folder.path());
    let messages = reader.look().messages.clone();
    let texts: Vec<(bool, &str)> = messages
        .iter()
        .map(|it| (it.warning, it.text.as_str()))
        .collect();
    assert_eq!(
        texts,
        [
            (false, "phase head"),
            (false, "epoch 3  val_loss 0.5000  val_acc 0.750"),
            (true, "no heartbeat (error: disk [31m full)"),
        ]
    );
    assert_eq!(reader.look().messages.len(), 3);
}
