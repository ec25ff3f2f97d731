//! Features on disk: what other runs find there, what damages them, and `xp cache`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use xp::engine::store::{About, FeatureStore};

/// One phase on frozen features.
const HEAD: &str =
    "phase=[{ name = 'head', freeze = 'all', epochs = 1, optimizer = { kind = 'sgd', lr = 0.1 } }]";

/// A folder with pictures, runs and features of its own.
pub(super) struct Place(tempfile::TempDir);

/// What a run left.
pub(super) struct Ran {
    dir: PathBuf,
    pub(super) stderr: String,
}

impl Place {
    /// Ten pictures of each of two classes.
    pub(super) fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for class in ["a", "b"] {
            for index in 0..10 {
                place.draw(class, index, 0);
            }
        }
        place
    }

    pub(super) fn draw(&self, class: &str, index: u8, variant: u8) {
        let folder = self.0.path().join("pictures").join(class);
        fs::create_dir_all(&folder).unwrap();
        let picture = image::RgbImage::from_fn(40, 40, |x, y| {
            let stripe = if class == "a" { x } else { y };
            let stripe = if stripe / 4 % 2 == 0 { 200 } else { 40 };
            image::Rgb([stripe, index * 20, variant])
        });
        picture.save(folder.join(format!("{index}.png"))).unwrap();
    }

    pub(super) fn features(&self) -> PathBuf {
        self.0.path().join("features")
    }

    /// `xp run` of a head and a fine-tuning phase, changed by `sets`.
    pub(super) fn command(&self, sets: &[&str]) -> Command {
        let config = self.0.path().join("config.toml");
        let text = r#"
            name = "cached"
            runs_dir = "runs"
            data = { root = "pictures", split = { train = 0.6, val = 0.2, test = 0.2 }, image_size = 32 }
            model = { backbone = "mobilenet_v2", width = 0.35, weights = "xp/mobilenet_v2_035.shapes", pooling = "avg", head = [{ dense = 2 }] }
            train = { batch_size = 8 }
            [[phase]]
            name = "head"
            freeze = "all"
            epochs = 2
            optimizer = { kind = "adam", lr = 1e-2 }
            [[phase]]
            name = "fine_tune"
            freeze_before = "block_14_expand"
            epochs = 1
            optimizer = { kind = "adam", lr = 1e-4 }
        "#;
        fs::write(&config, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_xp"));
        command.args(["run", config.to_str().unwrap(), "--json"]);
        for set in sets {
            command.args(["--set", set]);
        }
        command.env("XP_CACHE__DIR", self.features());
        command.stdout(std::process::Stdio::piped());
        command.stderr(std::process::Stdio::piped());
        command
    }

    #[track_caller]
    pub(super) fn run(&self, sets: &[&str]) -> Ran {
        ran(self.command(sets).output().unwrap())
    }

    fn segments(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.features()).unwrap();
        let files = entries.flat_map(|entry| fs::read_dir(entry.unwrap().path()).unwrap());
        let files = files.map(|file| file.unwrap().path());
        files
            .filter(|file| file.extension().is_some_and(|e| e == "rows"))
            .collect()
    }

    fn cache(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xp"));
        command.arg("cache").args(arguments);
        command
            .env("XP_CACHE__DIR", self.features())
            .output()
            .unwrap()
    }
}

#[track_caller]
fn ran(output: Output) -> Ran {
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let dir = PathBuf::from(answer["run"].as_str().unwrap());
    Ran { dir, stderr }
}

impl Ran {
    /// Everything that a run computes, without what depends on the clock.
    pub(super) fn results(&self) -> (Vec<String>, Vec<Vec<u8>>) {
        let metrics = fs::read_to_string(self.dir.join("metrics.csv")).unwrap();
        let metrics = metrics.lines().map(|line| {
            let columns: Vec<&str> = line.split(',').take(9).collect();
            columns.join(",")
        });
        let files = [
            "checkpoints/last/weights.safetensors",
            "predictions.csv",
            "test.json",
        ];
        let files = files.map(|file| fs::read(self.dir.join(file)).unwrap());
        (metrics.collect(), files.to_vec())
    }

    /// Pictures in all, reused and computed, over all layers and splits.
    pub(super) fn counts(&self) -> [usize; 3] {
        let mut counts = [0; 3];
        for line in self
            .stderr
            .lines()
            .filter(|line| line.starts_with("features of"))
        {
            let words: Vec<&str> = line.split([' ', ',']).collect();
            let before = |name: &str| {
                let at = words.iter().position(|word| *word == name)?;
                words[..at]
                    .iter()
                    .rev()
                    .find_map(|word| word.parse::<usize>().ok())
            };
            for (count, name) in counts.iter_mut().zip(["pictures", "reused", "computed"]) {
                *count += before(name).unwrap_or(0);
            }
        }
        counts
    }
}

#[test]
fn features_off_cold_warm_and_mapped_give_the_same_bits() {
    let place = Place::new();
    let off = place.run(&["cache.features=false"]);
    assert_eq!(off.counts(), [0; 3]);
    assert!(!place.features().exists());
    let memory = place.run(&["cache.disk=false"]);
    // Two layers of 12 train and 4 val pictures.
    assert_eq!(memory.counts(), [32, 0, 32]);
    assert!(!place.features().exists());

    let cold = place.run(&["cache.memory=0MB"]);
    assert_eq!(cold.counts(), [36, 0, 36], "{}", cold.stderr);
    assert!(cold.stderr.contains("on disk"), "{}", cold.stderr);
    let warm = place.run(&[]);
    assert_eq!(warm.counts(), [36, 36, 0], "{}", warm.stderr);
    assert!(!warm.stderr.contains("on disk"));
    let mapped = place.run(&["cache.memory=0MB"]);
    assert_eq!(mapped.counts(), [36, 36, 0]);
    for (name, ran) in [
        ("memory", memory),
        ("cold", cold),
        ("warm", warm),
        ("mapped", mapped),
    ] {
        assert_eq!(ran.results().0, off.results().0, "{name}");
        assert!(ran.results().1 == off.results().1, "{name}");
    }
}

#[test]
fn other_splits_reuse_and_other_pictures_and_weights_do_not() {
    let place = Place::new();
    let with = |sets: &[&str]| place.run(&[&[HEAD], sets].concat()).counts();
    assert_eq!(with(&[]), [20, 0, 20]);
    assert_eq!(with(&["seed=7", "train.batch_size=5"]), [20, 20, 0]);
    place.draw("b", 4, 1);
    assert_eq!(with(&[]), [20, 19, 1]);
    place.draw("b", 4, 0);
    assert_eq!(with(&[]), [20, 20, 0], "the old bytes are back");
    assert_eq!(with(&["data.normalize=zero_one"]), [20, 0, 20]);
    assert_eq!(with(&["model.weights=none"]), [20, 0, 20]);
    assert_eq!(
        with(&["model.weights=none", "seed=7"]),
        [20, 0, 20],
        "other random weights"
    );
}

#[test]
fn two_runs_at_once_and_damaged_files_change_nothing() {
    let place = Place::new();
    let runs = [(); 2].map(|()| place.command(&[]).spawn().unwrap());
    let [first, second] = runs.map(|run| ran(run.wait_with_output().unwrap()));
    assert!(first.results() == second.results());

    for file in place.segments() {
        let mut bytes = fs::read(&file).unwrap();
        let last = bytes.len() - 50;
        bytes[last] ^= 1;
        fs::write(&file, bytes).unwrap();
    }
    fs::write(place.segments()[0].with_file_name(".half.tmp"), "half").unwrap();
    let again = place.run(&[]);
    assert!(
        again.stderr.contains("warning: cached features in"),
        "{}",
        again.stderr
    );
    assert_eq!(again.counts(), [36, 0, 36]);
    assert!(again.results() == first.results());
    let warm = place.run(&[]);
    assert_eq!(warm.counts(), [36, 36, 0]);
    assert!(!warm.stderr.contains("warning"), "{}", warm.stderr);
}

#[test]
fn features_of_another_build_are_noticed() {
    let place = Place::new();
    let first = place.run(&[]);
    let store = FeatureStore::new(place.features(), 1 << 30);
    for entry in store.list().unwrap() {
        // The same files with other values.
        let key = blake3::Hash::from_hex(format!("{:0<64}", entry.name)).unwrap();
        let elements = {
            let file = fs::read_dir(place.features().join(&entry.name)).unwrap();
            let mut files = file.map(|file| file.unwrap().path());
            let rows = files
                .find(|file| file.extension().is_some_and(|e| e == "rows"))
                .unwrap();
            let bytes = fs::read(rows).unwrap();
            u64::from_le_bytes(bytes[8..16].try_into().unwrap()) as usize
        };
        let pictures: Vec<[u8; 32]> = fs::read_dir(place.0.path().join("pictures/a"))
            .unwrap()
            .chain(fs::read_dir(place.0.path().join("pictures/b")).unwrap())
            .map(|file| *blake3::hash(&fs::read(file.unwrap().path()).unwrap()).as_bytes())
            .collect();
        let (mut entry, _) = store.open(&key, elements, About::default());
        entry.discard().unwrap();
        entry
            .append(&pictures, &vec![0.5; pictures.len() * elements])
            .unwrap();
    }
    let again = place.run(&[]);
    assert!(
        again.stderr.contains("not what this build of xp computes"),
        "{}",
        again.stderr
    );
    assert!(again.results() == first.results());
}

#[test]
fn a_disk_that_cannot_be_written_is_told_once_and_harms_nothing() {
    let place = Place::new();
    let off = place.run(&["cache.features=false"]);
    fs::write(place.features(), "no folder").unwrap();
    for memory in ["cache.memory=1GB", "cache.memory=0MB"] {
        let ran = place.run(&[memory]);
        let warnings = ran
            .stderr
            .matches("warning: features are not kept on disk")
            .count();
        assert_eq!(warnings, 1, "{}", ran.stderr);
        assert!(ran.results() == off.results());
    }
}

#[test]
fn the_cache_is_listed_and_cleared() {
    let place = Place::new();
    let text = |output: &Output| String::from_utf8(output.stdout.clone()).unwrap();
    let dir = text(&place.cache(&["dir"]));
    assert_eq!(Path::new(dir.trim()), place.features());
    let empty = place.cache(&["ls"]);
    assert_eq!(text(&empty), "");
    assert!(String::from_utf8_lossy(&empty.stderr).contains("nothing is kept"));

    place.run(&[]);
    let listed = text(&place.cache(&["ls"]));
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 3, "{listed}");
    assert!(lines[0].starts_with("key           features"));
    let json = |arguments: &[&str]| -> serde_json::Value {
        serde_json::from_slice(&place.cache(arguments).stdout).unwrap()
    };
    let listed = json(&["ls", "--json"]);
    let entries = listed["entries"].as_array().unwrap();
    assert!(
        entries
            .iter()
            .all(|entry| entry["backbone"] == "mobilenet_v2")
    );
    let pictures = entries
        .iter()
        .map(|entry| entry["pictures"].as_u64().unwrap());
    assert_eq!(pictures.sum::<u64>(), 36);

    let newest = entries[0]["bytes"].as_u64().unwrap().to_string();
    let dry = text(&place.cache(&["gc", "--max-size", &newest, "--dry-run"]));
    assert!(dry.starts_with("would remove"), "{dry}");
    let after = json(&["gc", "--max-size", &newest, "--json"]);
    assert_eq!(after["removed"][0]["key"], entries[1]["key"]);
    assert_eq!(
        json(&["ls", "--json"])["entries"][0]["key"],
        entries[0]["key"]
    );
    place.cache(&["gc", "--all"]);
    assert_eq!(json(&["ls", "--json"])["bytes"], 0);
    let refused = place.cache(&["gc", "--max-size", "4 parsecs"]);
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn runs_keep_the_store_below_its_limit() {
    let place = Place::new();
    place.run(&[HEAD, "model.weights=none"]);
    let store = FeatureStore::new(place.features(), 0);
    let bytes = |store: &FeatureStore| -> u64 {
        store.list().unwrap().iter().map(|entry| entry.bytes).sum()
    };
    let limit = bytes(&store);
    let max_size = format!("cache.max_size={}kB", limit / 1000 + 1);
    let second = place.run(&[HEAD, &max_size]);
    assert_eq!(second.counts(), [20, 0, 20]);
    assert!(bytes(&store) <= limit + 1000);
    assert_eq!(place.run(&[HEAD, &max_size]).counts(), [20, 20, 0]);
    let none = place.run(&[HEAD, "cache.max_size=1kB", "cache.memory=0MB"]);
    assert_eq!(none.counts(), [0; 3], "nothing fits anywhere");
}
