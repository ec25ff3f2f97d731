//! One experiment over several processes, which find one another as torchrun's do.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::experiments::timeless_metrics;

const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/quickstart.toml");

/// All that has a state or looks at a whole batch, with a last chunk and a last batch that are not whole.
const ALL: &[&str] = &[
    "data.generate.per_class=10",
    "data.image_size=32",
    "data.augment.flip_horizontal=true",
    "data.augment.erase={ probability = 0.5 }",
    "train.batch_size=10",
    "train.accumulate=2",
    "train.ema={ decay = 0.9 }",
    "train.evaluate_first=true",
    "cache.disk=false",
    "checkpoint.every={ steps = 1 }",
    "threads=1",
    "phase[0].epochs=1",
    "phase[0].augment=false",
    "phase[1].epochs=2",
    "phase[1].bn=train",
    "phase[1].mixup=0.2",
    "phase[1].cutmix=1.0",
];

/// Ranks of one command, each a process.
struct Job {
    ranks: Vec<Child>,
}

impl Job {
    fn start(count: usize, arguments: &[&str], each: impl Fn(usize) -> Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let start = |rank: usize| {
            let mut command = Command::new(assert_cmd::cargo::cargo_bin("xp"));
            command.args(arguments).args(each(rank));
            if count > 1 {
                command
                    .env("RANK", rank.to_string())
                    .env("WORLD_SIZE", count.to_string())
                    .env("MASTER_ADDR", "127.0.0.1")
                    .env("MASTER_PORT", port.to_string());
            }
            command.stdin(Stdio::null());
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().unwrap()
        };
        Self {
            ranks: (0..count).map(start).collect(),
        }
    }

    fn end(self) -> Vec<Output> {
        let ends = self.ranks.into_iter().map(Child::wait_with_output);
        ends.map(Result::unwrap).collect()
    }

    fn signal(&self, rank: usize, name: &str) {
        let pid = self.ranks[rank].id().to_string();
        let sent = Command::new("kill").args([name, &pid]).status().unwrap();
        assert!(sent.success());
    }
}

fn arguments<'a>(run: &'a str, sets: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["run", CONFIG, "--run-dir", run];
    for set in sets {
        arguments.extend(["--set", *set]);
    }
    arguments
}

fn codes(outputs: &[Output]) -> Vec<Option<i32>> {
    outputs.iter().map(|output| output.status.code()).collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn succeed(outputs: &[Output]) {
    for output in outputs {
        assert_eq!(output.status.code(), Some(0), "{}", said(output));
    }
    for other in &outputs[1..] {
        assert_eq!((said(other).as_str(), other.stdout.len()), ("", 0));
    }
}

fn run(folder: &Path, name: &str, count: usize, sets: &[&str]) -> PathBuf {
    let run = folder.join(name);
    let job = Job::start(count, &arguments(run.to_str().unwrap(), sets), |_| {
        Vec::new()
    });
    succeed(&job.end());
    run
}

/// What decides: everything but times, and settings such as where features are cached.
fn results(run: &Path) -> (Vec<String>, Vec<u8>, Vec<u8>) {
    let read = |name: &str| fs::read(run.join(name)).unwrap();
    let mut weights = read("model.safetensors");
    let header = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    weights.drain(..8 + header);
    (timeless_metrics(run), weights, read("predictions.csv"))
}

#[test]
fn any_number_of_ranks_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let expected = results(&run(folder.path(), "1", 1, ALL));
    for count in [2, 3] {
        let run = run(folder.path(), &count.to_string(), count, ALL);
        assert!(results(&run) == expected, "{count} ranks");
        let manifest = fs::read_to_string(run.join("manifest.json")).unwrap();
        assert!(manifest.contains(&format!("\"ranks\": {count}")));
    }
}

#[test]
fn features_are_computed_in_parts_and_taken_from_disk_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let cache = format!("cache.dir={}", folder.path().join("cache").display());
    let sets = [
        "data.generate.per_class=10",
        "data.image_size=32",
        "train.batch_size=10",
        "phase[0].epochs=2",
        "phase[1].epochs=1",
        "threads=1",
    ];
    let without = [&sets[..], &["cache.features=false"]].concat();
    let with = [&sets[..], &[&cache]].concat();
    let expected = results(&run(folder.path(), "none", 1, &without));
    for (name, count) in [("cold", 2), ("warm", 3), ("alone", 1)] {
        assert!(
            results(&run(folder.path(), name, count, &with)) == expected,
            "{name}"
        );
    }
    assert!(results(&run(folder.path(), "never", 2, &without)) == expected);
}

/// Waits until a run has a checkpoint.
fn wait_for_checkpoint(run: &Path) {
    let until = Instant::now() + Duration::from_secs(120);
    while !run.join("checkpoints/last").exists() {
        assert!(Instant::now() < until, "no checkpoint");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Ends a job in its middle and goes on with another number of ranks.
fn survives(signal: &str, of: usize, count: usize, then: usize) {
    let folder = tempfile::tempdir().unwrap();
    let sets = [ALL, &["phase[1].epochs=6"]].concat();
    let expected = results(&run(folder.path(), "whole", 1, &sets));
    let broken = folder.path().join("broken");
    let path = broken.to_str().unwrap();
    let mut arguments = arguments(path, &sets);
    arguments.extend(["--peer-timeout", "4"]);
    let mut job = Job::start(count, &arguments, |_| Vec::new());
    wait_for_checkpoint(&broken);
    job.signal(of, signal);
    let began = Instant::now();
    // A launcher ends who cannot hear of the others' end.
    let stopped = (signal == "-STOP").then(|| job.ranks.remove(of));
    let outputs = job.end();
    let took = began.elapsed();
    if let Some(mut stopped) = stopped {
        stopped.kill().unwrap();
        stopped.wait().unwrap();
    }
    assert!(took < Duration::from_secs(30), "{took:?}");
    let mut survivors: Vec<&Output> = outputs.iter().collect();
    if signal == "-KILL" {
        survivors.remove(of);
    }
    for output in &survivors {
        assert_eq!(output.status.code(), Some(75), "{}", said(output));
    }
    let told = survivors
        .iter()
        .filter(|output| said(output).contains("error: "));
    assert_eq!(told.count(), 1);
    if signal != "-TERM" {
        let text = survivors
            .iter()
            .map(|output| said(output))
            .collect::<String>();
        assert!(text.contains(&format!("rank {of} on `")), "{text}");
    }
    let job = Job::start(then, &["resume", path], |_| Vec::new());
    succeed(&job.end());
    assert!(results(&broken) == expected);
}

#[test]
fn a_job_that_loses_a_rank_ends_and_goes_on_with_fewer() {
    survives("-KILL", 1, 3, 1);
}

#[test]
fn a_job_that_loses_its_first_rank_ends_and_goes_on() {
    survives("-KILL", 0, 2, 3);
}

#[test]
fn a_rank_that_hangs_is_noticed() {
    survives("-STOP", 1, 2, 2);
}

#[test]
fn a_signal_to_any_rank_stops_all() {
    survives("-TERM", 1, 2, 1);
}

#[test]
fn ranks_that_have_not_the_same_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let arguments = arguments(path.to_str().unwrap(), &["data.generate.per_class=10"]);
    for (set, code, message) in [
        (
            "train.batch_size=7",
            2,
            "has another configuration than rank 0",
        ),
        (
            "data.generate.per_class=11",
            2,
            "has another configuration than rank 0",
        ),
        ("data.root=/nowhere", 3, "does not exist"),
        ("train.batch_sise=7", 2, "batch_sise"),
    ] {
        let each = |rank| match rank {
            1 => vec!["--set".to_owned(), set.to_owned()],
            _ => Vec::new(),
        };
        let outputs = Job::start(2, &arguments, each).end();
        assert_eq!(codes(&outputs), [Some(code); 2], "{}", said(&outputs[0]));
        let told = said(&outputs[0]);
        assert!(
            told.contains("rank 1 on `") && told.contains(message),
            "{told}"
        );
        assert_eq!(said(&outputs[1]), "");
        assert!(!path.exists());
    }
}

#[test]
fn a_launcher_that_says_half_is_refused_and_leftovers_are_not_one() {
    let xp = |variables: &[(&str, &str)], arguments: &[&str]| {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("xp"));
        command.args(arguments).envs(variables.iter().copied());
        command.output().unwrap()
    };
    let half = [("RANK", "0"), ("WORLD_SIZE", "2")];
    let output = xp(&half, &["run", CONFIG]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("MASTER_ADDR"), "{}", said(&output));
    // What is not for several each does for itself.
    let whole = |rank| {
        [
            ("RANK", rank),
            ("WORLD_SIZE", "2"),
            ("MASTER_ADDR", "127.0.0.1"),
            ("MASTER_PORT", "29511"),
        ]
    };
    let [first, second] = ["0", "1"].map(|rank| xp(&whole(rank), &["check", CONFIG]));
    assert_eq!(codes(&[first.clone(), second.clone()]), [Some(0); 2]);
    assert!(!first.stdout.is_empty() && first.stdout == second.stdout);
    let sweep = xp(&whole("0"), &["sweep", CONFIG]);
    assert_eq!(sweep.status.code(), Some(2));
    assert!(
        said(&sweep).contains("was started 2 times"),
        "{}",
        said(&sweep)
    );
    let left_over = xp(&[("RANK", "3")], &["check", CONFIG]);
    assert_eq!(left_over.status.code(), Some(0));
}
