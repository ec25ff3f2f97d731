//! `xp runs`, `xp diff`, `xp run --dry-run` and `memory_limit`.

use std::fs;
use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use serde_json::{Value, json};
use xp::run::{Manifest, Process, Status};

use super::experiments::run as quickstart;

fn xp(arguments: &[&str]) -> Output {
    Command::cargo_bin("xp")
        .unwrap()
        .env("XP_CACHE__DISK", "false")
        .args(arguments)
        .output()
        .unwrap()
}

#[track_caller]
fn answers(arguments: &[&str]) -> String {
    let output = xp(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}\n{stderr}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn json_of(arguments: &[&str]) -> Value {
    serde_json::from_str(&answers(&[arguments, &["--json"]].concat())).unwrap()
}

/// A run directory with a manifest, `hours` old, and rows.
fn make_run(runs: &Path, name: &str, hours: i64, change: impl FnOnce(&mut Manifest)) {
    let run = runs.join(name);
    fs::create_dir_all(&run).unwrap();
    let mut manifest = Manifest::begin("cpu", 2, 42);
    manifest.started -= jiff::SignedDuration::from_hours(hours);
    manifest.heartbeat = manifest.started + jiff::SignedDuration::from_mins(12);
    manifest.status = Status::Done;
    manifest.ended = Some(manifest.heartbeat);
    change(&mut manifest);
    let text = serde_json::to_string(&manifest).unwrap();
    fs::write(run.join("manifest.json"), text).unwrap();
    fs::write(run.join("resolved.toml"), "[[phase]]\nepochs = 3\n").unwrap();
    let rows = "phase,epoch,val_accuracy\na,0,0.2\na,1,0.5\na,2,0.75\n";
    fs::write(run.join("metrics.csv"), rows).unwrap();
}

#[test]
fn runs_are_listed_as_they_stand() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path();
    make_run(runs, "2026-11-21T18-03-11_done_ab12cd", 5, |it| {
        it.test_accuracy = Some(0.875);
    });
    make_run(runs, "2026-11-21T18-03-11_failed_ab12cd", 4, |it| {
        it.status = Status::Failed;
        it.error = Some("the loss is NaN".into());
    });
    // Its number belongs to this process by now, which started later.
    make_run(runs, "2026-11-21T18-03-11_dead_ab12cd", 3, |it| {
        it.status = Status::Running;
        it.process.process_start = it.process.process_start.map(|start| start - 1);
    });
    make_run(runs, "sweep/2026-11-21T18-03-11_here_ab12cd", 2, |it| {
        it.status = Status::Running;
    });
    make_run(runs, "2026-11-21T18-03-11_there_ab12cd", 1, |it| {
        it.status = Status::Running;
        it.heartbeat = jiff::Timestamp::now();
        it.process = Process {
            boot_id: Some("another".into()),
            ..Process::current()
        };
    });
    fs::create_dir_all(runs.join("2020-01-01T00-00-00_empty_ab12cd")).unwrap();
    fs::create_dir_all(runs.join("pictures/cat")).unwrap();

    let listed = json_of(&["runs", runs.to_str().unwrap()]);
    let listed = listed.as_array().unwrap();
    let shown: Vec<_> = listed
        .iter()
        .map(|run| {
            (
                run["name"].as_str().unwrap(),
                run["status"].as_str().unwrap(),
            )
        })
        .collect();
    let linux = cfg!(target_os = "linux");
    assert_eq!(
        shown,
        [
            ("there", "running"),
            ("here", if linux { "running" } else { "dead" }),
            ("dead", "dead"),
            ("failed", "failed"),
            ("done", "done"),
            ("empty", "broken"),
        ]
    );
    let done = &listed[4];
    assert_eq!(
        (&done["epochs"], &done["epochs_planned"]),
        (&json!(2), &json!(3))
    );
    assert_eq!(
        (&done["test_accuracy"], &done["seconds"]),
        (&json!(0.875), &json!(720.0))
    );

    let text = answers(&["runs", runs.to_str().unwrap(), "--status", "done,failed"]);
    let text = text.replace(runs.to_str().unwrap(), "RUNS");
    insta::assert_snapshot!(text, @"
    status  epochs  val %  test %    age    took  run
    failed     2/3      -       -  4.0 h  12 min  RUNS/2026-11-21T18-03-11_failed_ab12cd  the loss is NaN
    done       2/3      -    87.5  5.0 h  12 min  RUNS/2026-11-21T18-03-11_done_ab12cd
    ");
    let output = xp(&["runs", runs.to_str().unwrap(), "--status", "slow"]);
    assert_eq!(output.status.code(), Some(2));
    let output = xp(&["runs", "nowhere"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let output = xp(&["runs", runs.join("pictures").to_str().unwrap()]);
    assert!(output.status.success() && output.stdout.is_empty());
}

#[test]
fn a_difference_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let short = ["phase[0].epochs=1", "phase[1].epochs=1"];
    let run = |name: &str, sets: &[&str]| {
        let run = quickstart(&folder.path().join(name), &[&short, sets].concat());
        run.to_str().unwrap().to_owned()
    };
    let [a, same, other, data] = [
        run("a", &["threads=1"]),
        run("same", &["threads=2"]),
        run("other", &["train.batch_size=10", "threads=1"]),
        run("data", &["data.generate.per_class=11", "threads=1"]),
    ];

    let found = json_of(&["diff", &a, &same]);
    assert_eq!(found["verdict"], "nothing that decides results differs");
    assert_eq!(found["different"], false);
    assert_eq!(found["metrics"], Value::Null);
    let keys = |found: &Value| -> Vec<(String, bool)> {
        let keys = found["config"].as_array().unwrap().iter();
        keys.map(|it| {
            let key = it["key"].as_str().unwrap().to_owned();
            (key, it["decides"].as_bool().unwrap())
        })
        .collect()
    };
    let of = |key: &str, decides| (key.to_owned(), decides);
    assert_eq!(keys(&found), [of("threads", false), of("runs_dir", false)]);
    assert!(xp(&["diff", &a, &same, "--exit-code"]).status.success());

    let found = json_of(&["diff", &a, &other]);
    assert_eq!(found["verdict"], "the configs differ, the data is the same");
    assert!(keys(&found).contains(&of("train.batch_size", true)));
    assert_eq!(found["metrics"]["epoch"], 1);
    let output = xp(&["diff", &a, &other, "--exit-code"]);
    assert_eq!((output.status.code(), output.stderr.len()), (Some(1), 0));
    let text = answers(&["diff", &a, &other]);
    assert!(text.contains("train.batch_size  8"), "{text}");
    assert!(
        text.contains("the same: data, split, weights, seed, xp"),
        "{text}"
    );

    let found = json_of(&["diff", &a, &data]);
    assert_eq!(found["verdict"], "the configs and the data differ");
    assert_eq!(found["pictures"]["added"].as_array().unwrap().len(), 5);
    assert_eq!(found["pictures"]["removed"], json!([]));

    // A picture of another content, and another machine.
    let path = Path::new(&same).join("split.csv");
    let text = fs::read_to_string(&path).unwrap();
    let row = text.lines().nth(1).unwrap();
    let changed = format!("{}{}", &row[..row.len() - 16], "0".repeat(16));
    fs::write(&path, text.replace(row, &changed)).unwrap();
    let path = Path::new(&same).join("manifest.json");
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    manifest["fingerprints"]["data"] = "another".into();
    manifest["instructions"] = "other".into();
    fs::write(&path, manifest.to_string()).unwrap();
    let found = json_of(&["diff", &a, &same]);
    assert_eq!(
        found["verdict"],
        "the data and the processors' instruction sets differ, the configs are the same"
    );
    assert_eq!(found["pictures"]["changed"].as_array().unwrap().len(), 1);

    assert_eq!(xp(&["diff", &a, "nowhere"]).status.code(), Some(2));
}

fn config() -> String {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/quickstart.toml");
    config.to_str().unwrap().to_owned()
}

#[test]
fn a_dry_run_checks_everything_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let runs = format!("runs_dir={}", folder.path().join("runs").display());
    let config = config();
    let dry = ["run", &config, "--dry-run", "--set", &runs];
    let plan = json_of(&dry);
    assert_eq!(
        plan["pictures"],
        json!({ "train": 360, "val": 120, "test": 120 })
    );
    let phases = plan["phases"].as_array().unwrap();
    assert_eq!(
        (&phases[0]["steps"], &phases[0]["epochs"]),
        (&json!(120), &json!(10))
    );
    assert_eq!(phases[0]["trainable"], 1280 * 5 + 5);
    assert_eq!(phases[0]["cached"], true);
    let peak = plan["memory"]["peak"].as_u64().unwrap();
    assert!((20 << 20..400 << 20).contains(&peak), "{peak}");
    assert!(!folder.path().join("runs").exists());

    let text = answers(&[&dry[..], &["--set", "threads=2"]].concat());
    assert!(text.starts_with("quickstart: nothing is wrong\n"), "{text}");
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );

    let output = xp(&[&dry[..], &["--set", "model.head[1].dense=7"]].concat());
    assert_eq!(output.status.code(), Some(2));
    let output = xp(&[&dry[..], &["--set", "model.weights=gone.safetensors"]].concat());
    assert!(!output.status.success());
}

#[test]
fn a_limit_of_memory_makes_room_or_refuses_and_changes_no_bit() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, sets: &[&str]| quickstart(&folder.path().join(name), sets);
    let metrics = |run: &Path| -> Vec<String> {
        let text = fs::read_to_string(run.join("metrics.csv")).unwrap();
        let rows = text.lines();
        rows.map(|row| row.split(',').take(9).collect::<Vec<_>>().join(","))
            .collect()
    };
    let free = run("free", &[]);
    let config = config();
    let tiny = [
        "data.generate.per_class=10",
        "data.image_size=32",
        "train.batch_size=8",
    ];
    let mut dry = vec!["run", &config, "--dry-run"];
    tiny.iter().for_each(|set| dry.extend(["--set", set]));
    let mut least = dry.clone();
    least.extend(["--set", "cache.memory='0'"]);
    let least = json_of(&least)["memory"]["peak"].as_u64().unwrap();
    let whole = json_of(&dry)["memory"]["peak"].as_u64().unwrap();
    assert!(least < whole);
    let limit = format!("memory_limit='{}'", (least + whole) / 2);
    let limited = run("limited", &[&limit]);
    assert_eq!(metrics(&free), metrics(&limited));

    // Fewer pictures at a time: the same but for rounding.
    let peak = |sets: &[&str]| {
        let mut dry = dry.clone();
        sets.iter().for_each(|set| dry.extend(["--set", set]));
        json_of(&dry)["memory"]["peak"].as_u64().unwrap()
    };
    let uncached = [
        "cache.features=false",
        "data.augment.flip_horizontal=true",
        "data.image_size=48",
        "train.batch_size=16",
        "threads=2",
    ];
    let [bare, two] = ["train.micro_batch=16", "train.micro_batch=2"]
        .map(|size| peak(&[&uncached[..], &["cache.memory='0'", size]].concat()));
    assert!(two < bare, "{two} {bare}");
    let limit = format!("memory_limit='{two}'");
    let [whole, parts] = [("whole", "memory_limit='1GB'"), ("parts", &limit)].map(|(name, set)| {
        let run = run(name, &[&uncached[..], &[set]].concat());
        let manifest = fs::read_to_string(run.join("manifest.json")).unwrap();
        let manifest: Value = serde_json::from_str(&manifest).unwrap();
        (metrics(&run), manifest["micro_batch"].clone())
    });
    assert_eq!(whole.1, "whole");
    let pictures = parts.1["pictures"].as_u64();
    assert!(pictures.is_some_and(|pictures| pictures < 16), "{parts:?}");
    for (whole, parts) in whole.0.iter().zip(&parts.0).skip(1) {
        for (a, b) in whole.split(',').zip(parts.split(',')).skip(1) {
            match (a.parse::<f64>(), b.parse::<f64>()) {
                (Ok(a), Ok(b)) => assert!((a - b).abs() <= 1e-3 * a.abs(), "{whole}\n{parts}"),
                _ => assert_eq!(a, b),
            }
        }
    }

    dry.extend(["--set", "memory_limit=1MB"]);
    let output = xp(&dry);
    assert_eq!(output.status.code(), Some(4));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("but `memory_limit` is 1.0 MB"), "{stderr}");
    assert!(
        stderr.contains("command line") && stderr.contains("help: "),
        "{stderr}"
    );
    dry.pop();
    dry.push("memory_limit=lots");
    assert_eq!(xp(&dry).status.code(), Some(2));
}

#[cfg(target_os = "linux")]
#[test]
fn want_of_memory_has_an_exit_code_and_advice() {
    let command = format!(
        "ulimit -v 3000000; exec {} run {} --set 'model.head=[{{ dense = 1000000 }}, {{ dense = 5 }}]' --set runs_dir=/nowhere",
        env!("CARGO_BIN_EXE_xp"),
        config()
    );
    let output = std::process::Command::new("sh")
        .args(["-c", &command])
        .env("XP_CACHE__DISK", "false")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{stderr}");
    assert!(
        stderr.contains("error: out of memory\n  help: "),
        "{stderr}"
    );
}
