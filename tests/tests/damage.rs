//! Damaged run directories: every command that reads one says what is wrong or carries on, and
//! changes nothing but what it is there to write.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use assert_cmd::Command;

use super::experiments::{run as quickstart, timeless_metrics};

/// A name, and what is done to a copy of a good run.
type Damage = (String, Box<dyn Fn(&Path) + Sync>);

const FILES: [&str; 11] = [
    "config.toml",
    "resolved.toml",
    "manifest.json",
    "split.csv",
    "data_issues.csv",
    "metrics.csv",
    "test.json",
    "predictions.csv",
    "probabilities.csv",
    "model.safetensors",
    "checkpoints/best/state.json",
];

/// What a run goes on from.
const CHECKPOINT: [&str; 9] = [
    "resolved.toml",
    "manifest.json",
    "split.csv",
    "metrics.csv",
    "checkpoints/last/state.json",
    "checkpoints/last/weights.safetensors",
    "checkpoints/last/optimizer.safetensors",
    "checkpoints/last/sums.json",
    "checkpoints/best/weights.safetensors",
];

const GARBAGE: &[u8] = b"\x00\xff\xfe{[\"garbage\n,,\r\x1b[31m\x80";

/// Each file gone, empty, cut, replaced.
fn any_file(files: &[&'static str]) -> Vec<Damage> {
    let mut all: Vec<Damage> = Vec::new();
    for &file in files {
        all.push((
            format!("{file} removed"),
            Box::new(move |run| fs::remove_file(run.join(file)).unwrap()),
        ));
        for (name, part) in [("emptied", 0.0), ("cut early", 0.1), ("cut late", 0.97)] {
            let cut = move |run: &Path| {
                let bytes = fs::read(run.join(file)).unwrap();
                let length = (bytes.len() as f64 * part) as usize;
                fs::write(run.join(file), &bytes[..length]).unwrap();
            };
            all.push((format!("{file} {name}"), Box::new(cut)));
        }
        all.push((
            format!("{file} garbage"),
            Box::new(move |run| fs::write(run.join(file), GARBAGE).unwrap()),
        ));
    }
    for file in ["manifest.json", "metrics.csv", "model.safetensors"] {
        let replace = move |run: &Path| {
            fs::remove_file(run.join(file)).unwrap();
            fs::create_dir(run.join(file)).unwrap();
        };
        all.push((format!("{file} a folder"), Box::new(replace)));
    }
    all
}

/// A file's text changed.
fn edited(
    file: &'static str,
    name: &str,
    edit: impl Fn(String) -> String + Sync + 'static,
) -> Damage {
    let apply = move |run: &Path| {
        let text = fs::read_to_string(run.join(file)).unwrap();
        let changed = edit(text.clone());
        assert_ne!(text, changed, "{file} is as it was");
        fs::write(run.join(file), changed).unwrap();
    };
    (format!("{file}: {name}"), Box::new(apply))
}

/// A JSON file with a value changed.
fn set(file: &'static str, key: &'static str, value: serde_json::Value) -> Damage {
    edited(file, &format!("{key} = {value}"), move |text| {
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        match value.is_null() {
            true => drop(json.as_object_mut().unwrap().remove(key)),
            false => json[key] = value.clone(),
        }
        json.to_string()
    })
}

fn rows(text: &str) -> Vec<Vec<String>> {
    let rows = text.lines();
    rows.map(|row| row.split(',').map(str::to_owned).collect())
        .collect()
}

fn joined(rows: Vec<Vec<String>>) -> String {
    rows.iter().map(|row| row.join(",") + "\n").collect()
}

/// Column `column` of all rows below the header.
fn column(name: &'static str, column: usize, value: &'static str) -> Damage {
    edited("metrics.csv", name, move |text| {
        let mut rows = rows(&text);
        rows.iter_mut()
            .skip(1)
            .for_each(|row| row[column] = value.into());
        joined(rows)
    })
}

/// From another version, or by another hand.
fn foreign() -> Vec<Damage> {
    use serde_json::json;
    vec![
        set("manifest.json", "status", json!("paused")),
        set("manifest.json", "status", json!("running")),
        set("manifest.json", "pid", json!("none")),
        set("manifest.json", "pid", json!(4294967295u32)),
        set("manifest.json", "heartbeat", json!(null)),
        set("manifest.json", "started", json!("yesterday")),
        set("manifest.json", "started", json!("9999-12-30T22:00:00Z")),
        set("manifest.json", "ended", json!("-009999-01-02T00:00:00Z")),
        set("manifest.json", "fingerprints", json!(null)),
        set("manifest.json", "process_start", json!(null)),
        set("manifest.json", "xp_build", json!(null)),
        set("manifest.json", "threads", json!(-1)),
        set("manifest.json", "best", json!({ "epoch": 1e9 as u64 })),
        set("manifest.json", "test_accuracy", json!(1e300)),
        set("manifest.json", "energy", json!({ "joules": [1, 2] })),
        set(
            "manifest.json",
            "error",
            json!("\u{1b}[2J\nnot for the terminal"),
        ),
        edited("manifest.json", "nested", |_| "[".repeat(100_000)),
        edited("metrics.csv", "columns in another order", |text| {
            let mut rows = rows(&text);
            rows.iter_mut().for_each(|row| row.reverse());
            joined(rows)
        }),
        edited("metrics.csv", "half a line", |text| {
            text[..text.trim_end().rfind(',').unwrap() - 20].to_owned()
        }),
        edited("metrics.csv", "two headers", |text| {
            let header = text.lines().next().unwrap();
            format!("{text}{header}\n{}", text.lines().last().unwrap())
        }),
        edited("metrics.csv", "the header alone", |text| {
            text.lines().next().unwrap().to_owned() + "\n"
        }),
        edited("metrics.csv", "no header", |text| {
            text.split_once('\n').unwrap().1.to_owned()
        }),
        edited("metrics.csv", "a new column", |text| {
            text.lines().map(|row| format!("{row},x\n")).collect()
        }),
        edited("metrics.csv", "fewer columns", |text| {
            let mut rows = rows(&text);
            rows.iter_mut().for_each(|row| row.truncate(3));
            joined(rows)
        }),
        edited("metrics.csv", "in DOS lines", |text| {
            text.replace('\n', "\r\n")
        }),
        column("an endless epoch", 2, "18446744073709551615"),
        column("a negative epoch", 2, "-1"),
        column("NaN losses", 5, "NaN"),
        column("infinite losses", 7, "-inf"),
        column("enormous losses", 7, "1e308"),
        column("accuracies beyond all", 8, "1e300"),
        edited("split.csv", "another split", |text| {
            text.replace(",train,", ",holdout,")
        }),
        edited("split.csv", "an older one", |text| {
            let mut rows = rows(&text);
            rows.iter_mut().for_each(|row| row.truncate(4));
            joined(rows)
        }),
        set("test.json", "confusion", json!([[1, 2], [3]])),
        set("test.json", "confusion", json!([])),
        set("test.json", "per_class", json!([])),
        set("test.json", "images", json!(0)),
        set("test.json", "accuracy", json!(null)),
        edited("predictions.csv", "no columns known", |text| {
            text.replace("path,", "file,")
        }),
        edited("resolved.toml", "a key of the future", |text| {
            format!("energy = 1\n{text}")
        }),
        edited("resolved.toml", "phases of another kind", |text| {
            text.replace("epochs = 1", "epochs = \"many\"")
        }),
    ]
}

/// Every file below a folder with its content.
fn content(folder: &Path) -> BTreeMap<PathBuf, blake3::Hash> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.insert(path.clone(), blake3::hash(b"a folder"));
            found.extend(content(&path));
        } else {
            let hash = blake3::hash(&fs::read(&path).unwrap());
            found.insert(path, hash);
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(fs::copy(&path, &target).unwrap()),
        }
    }
}

/// What is wrong with how a command took a damage; `None` if nothing is.
fn wrong(arguments: &[&str], run: &Path) -> Option<String> {
    let before = content(run);
    let output = Command::cargo_bin("xp")
        .unwrap()
        .env("XP_CACHE__DISK", "false")
        .args(arguments)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let said = format!("{arguments:?} ended with {:?}\n{stderr}", output.status);
    let tame = |text: &[u8]| text.iter().all(|&byte| byte == b'\n' || byte >= b' ');
    match output.status.code() {
        Some(0..=3) => {}
        _ => return Some(said),
    }
    if !output.status.success() && !stderr.contains("error: ") {
        return Some(format!("{said}\nno error is told"));
    }
    if !tame(&output.stdout) || !tame(&output.stderr) {
        return Some(format!("{said}\nit steers the terminal"));
    }
    (content(run) != before).then(|| format!("{said}\nthe run directory has changed"))
}

/// Judges a copy of a run for every damage, two at a time; nothing may be wrong with any.
fn each(
    damages: &[Damage],
    (run, copies): (&Path, &Path),
    judge: impl Fn(&Path, &str) -> Option<String> + Sync,
) {
    let next = AtomicUsize::new(0);
    let problems = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let index @ 0.. = next.fetch_add(1, Ordering::Relaxed)
                    && let Some((name, damage)) = damages.get(index)
                {
                    let damaged = copies.join(format!("2026-11-21T18-03-11_run{index}_ab12cd"));
                    copy(run, &damaged);
                    damage(&damaged);
                    problems.lock().unwrap().extend(judge(&damaged, name));
                }
            });
        }
    });
    let problems = problems.into_inner().unwrap();
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

#[test]
fn damaged_runs_are_told_or_carried_on_with_and_never_changed() {
    let folder = tempfile::tempdir().unwrap();
    let good = quickstart(
        &folder.path().join("good"),
        &["phase[0].epochs=1", "phase[1].epochs=1"],
    );
    let picture = folder.path().join("picture.png");
    fs::copy(good.join("curves.png"), &picture).unwrap();
    let damages: Vec<Damage> = any_file(&FILES).into_iter().chain(foreign()).collect();
    assert!(damages.len() >= 50, "{}", damages.len());

    let runs = folder.path().join("runs");
    each(&damages, (&good, &runs), |run, name| {
        let [path, good, picture] = [run, &good, &picture].map(|path| path.to_str().unwrap());
        let out = folder.path().join(run.file_name().unwrap());
        let out = out.with_extension("png");
        let seen = out.with_extension("seen");
        let commands = [
            vec!["plot", path, "-o", out.to_str().unwrap()],
            vec!["plot", path, "-o", out.to_str().unwrap(), "--kind", "roc"],
            vec!["evaluate", path],
            vec!["predict", path, picture],
            vec!["explain", path, picture, "-o", seen.to_str().unwrap()],
            vec!["diff", good, path],
            vec!["diff", path, good, "--json"],
            vec!["runs", path],
        ];
        for arguments in commands {
            if let Some(wrong) = wrong(&arguments, run) {
                return Some(format!("{name}: {wrong}"));
            }
        }
        // As users draw, the pictures may change.
        for drawn in ["curves.png", "confusion.png"] {
            fs::remove_file(run.join(drawn)).unwrap();
        }
        let before = content(run);
        let _ = wrong(&["plot", path], run);
        let mut after = content(run);
        for drawn in ["curves.png", "confusion.png"] {
            after.remove(&run.join(drawn));
        }
        (before != after).then(|| format!("{name}: drawing changed other files"))
    });

    // All of them side by side.
    assert_eq!(wrong(&["runs", runs.to_str().unwrap()], &runs), None);
    let output = Command::cargo_bin("xp")
        .unwrap()
        .args(["runs", runs.to_str().unwrap(), "--json"])
        .output()
        .unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), damages.len());
    let broken = listed.iter().filter(|run| run["status"] == "broken");
    assert!(broken.clone().count() >= 10);
    assert!(broken.clone().all(|run| run["reason"].is_string()));
}

/// What a run comes to, times apart.
fn results(run: &Path) -> [Option<Vec<u8>>; 4] {
    let metrics = run
        .join("metrics.csv")
        .is_file()
        .then(|| timeless_metrics(run).join("\n"));
    let file = |name: &str| fs::read(run.join(name)).ok();
    [
        metrics.map(String::into_bytes),
        file("model.safetensors"),
        file("test.json"),
        file("predictions.csv"),
    ]
}

#[test]
fn a_damaged_run_goes_on_to_the_same_results_or_says_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let good = quickstart(
        &folder.path().join("good"),
        &["phase[0].epochs=1", "phase[1].epochs=1"],
    );
    let expected = results(&good);
    // Killed behind its last checkpoint, before anything of its end was written.
    let killed = folder.path().join("killed");
    copy(&good, &killed);
    set("manifest.json", "status", serde_json::json!("interrupted")).1(&killed);
    let damages = any_file(&CHECKPOINT).into_iter().chain(foreign());
    let damages: Vec<Damage> = damages.collect();
    each(&damages, (&killed, folder.path()), |run, name| {
        let before = content(run);
        let output = Command::cargo_bin("xp")
            .unwrap()
            .env("XP_CACHE__DISK", "false")
            .args(["resume", run.to_str().unwrap(), "--quiet"])
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let said = format!("{name}: ended with {:?}\n{stderr}", output.status);
        match output.status.code() {
            // Rows behind the checkpoint are taken as they are read.
            Some(0) if name.starts_with("metrics.csv") && results(run)[1..] == expected[1..] => {
                None
            }
            Some(0) if results(run) == expected => None,
            Some(0) => Some(format!("{said}\nother results")),
            Some(1..=3) if stderr.contains("error: ") => {
                // That it was tried, and that it failed, may be told.
                let mut after = content(run);
                let told = ["manifest.json", "log.jsonl", ".lock", "report.html"];
                after.retain(|path, _| !told.iter().any(|it| path.ends_with(it)));
                let kept = |path: &PathBuf, hash| before.get(path) == Some(hash);
                let changed = after.iter().find(|(path, hash)| !kept(path, hash));
                changed.map(|(path, _)| format!("{said}\n`{}` has changed", path.display()))
            }
            _ => Some(said),
        }
    });
}
