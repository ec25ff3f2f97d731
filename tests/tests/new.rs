//! `xp new`: from a folder of pictures to a configuration that checks and runs unchanged.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use insta::assert_snapshot;

/// The backbone that xp carries, at a size that takes no time.
const TINY: &[&str] = &[
    "--backbone",
    "mobilenet_v2",
    "--weights",
    "xp/mobilenet_v2_035.shapes",
    "--width",
    "0.35",
    "--size",
    "32",
];

/// A folder to work in.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(self, path: &str, bytes: impl AsRef<[u8]>) -> Self {
        let file = self.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
        self
    }

    /// So many pictures in a folder, all different.
    fn pictures(mut self, folder: &str, count: u8) -> Self {
        for index in 0..count {
            self = self.file(&format!("{folder}/{index:02}.png"), picture(folder, index));
        }
        self
    }

    fn flowers() -> Self {
        let flowers = Self::new().pictures("flowers/daisy", 20);
        let flowers = flowers.pictures("flowers/rose", 20);
        flowers.pictures("flowers/tulip", 20)
    }

    /// Runs `xp` here: what it says on stdout and stderr, and its exit code.
    fn xp(&self, arguments: &[&str]) -> (String, String, i32) {
        let output = Command::cargo_bin("xp")
            .unwrap()
            .current_dir(self.path())
            .env("XP_CACHE__DISK", "false")
            .args(arguments)
            .output()
            .unwrap();
        (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
            output.status.code().unwrap(),
        )
    }

    #[track_caller]
    fn succeeds(&self, arguments: &[&str]) -> (String, String) {
        let (stdout, stderr, code) = self.xp(arguments);
        assert_eq!(code, 0, "{arguments:?}\n{stderr}");
        (stdout, stderr)
    }

    /// Everything that a command that must fail says, with its exit code.
    #[track_caller]
    fn fails(&self, arguments: &[&str]) -> String {
        let (stdout, stderr, code) = self.xp(arguments);
        assert_eq!(stdout, "", "{stderr}");
        format!("{stderr}exit {code}")
    }

    /// Writes a configuration for `folder` that must be good, and returns it.
    #[track_caller]
    fn writes(&self, folder: &str) -> String {
        let mut arguments = vec!["new", folder, "--output", "new.toml", "--force"];
        arguments.extend(TINY);
        self.succeeds(&arguments);
        let (_, stderr) = self.succeeds(&["check", "new.toml"]);
        assert_eq!(stderr, "");
        self.succeeds(&["data", "new.toml"]);
        fs::read_to_string(self.path().join("new.toml")).unwrap()
    }
}

fn picture(folder: &str, index: u8) -> Vec<u8> {
    let tint = folder
        .bytes()
        .fold(0u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
    let picture = image::RgbImage::from_fn(40, 30, |x, y| image::Rgb([tint, index, (x * y) as u8]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    let format = image::ImageFormat::Png;
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// The line of a configuration that sets `key`, without its comment.
#[track_caller]
fn line<'a>(config: &'a str, key: &str) -> &'a str {
    let key = format!("{key} = ");
    let line = config.lines().find(|line| line.starts_with(&key));
    let line = line.unwrap_or_else(|| panic!("no `{key}` in\n{config}"));
    line.split(" #").next().unwrap().trim_end()
}

#[test]
fn what_it_writes_checks_and_runs() {
    let desk = Desk::flowers();
    let mut arguments = vec!["new", "flowers"];
    arguments.extend(TINY);
    let (stdout, stderr) = desk.succeeds(&arguments);
    assert_snapshot!(
        stdout.trim_end(),
        @"flowers.toml: mobilenet_v2 at 32 px, 48 train, 6 val, 6 test pictures"
    );
    assert_snapshot!(stderr.trim_end(), @r"
    flowers: 3 classes in class folders, 60 pictures (20 each), median 40 x 30 px
    warning: 6 validation pictures are few: one of them is 16.7 % of accuracy
    next: xp run flowers.toml
    ");
    let written = fs::read_to_string(desk.path().join("flowers.toml")).unwrap();
    assert_snapshot!("new_configuration", written);

    assert_eq!(
        desk.xp(&["check", "flowers.toml"]),
        ("flowers.toml: ok\n".into(), String::new(), 0)
    );
    let (stdout, _) = desk.succeeds(&["run", "flowers.toml", "--json"]);
    let answer: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert!(answer["test_accuracy"].as_f64().is_some(), "{answer}");
    let run = desk.path().join(answer["run"].as_str().unwrap());
    assert!(run.join("model.safetensors").is_file());
}

#[test]
fn the_defaults_check_without_the_network() {
    let desk = Desk::flowers();
    desk.succeeds(&["new", "flowers"]);
    desk.succeeds(&["check", "flowers.toml"]);
    let config = fs::read_to_string(desk.path().join("flowers.toml")).unwrap();
    assert_eq!(line(&config, "backbone"), "backbone = \"mobilenet_v2\"");
    // For pictures of 40 x 30 pixels.
    assert_eq!(line(&config, "image_size"), "image_size = 96");
}

#[test]
fn it_follows_how_the_pictures_lie() {
    let splits = Desk::new()
        .pictures("pets/train/cat", 6)
        .pictures("pets/train/dog", 6)
        .pictures("pets/val/cat", 2)
        .pictures("pets/val/dog", 2);
    let config = splits.writes("pets");
    assert_eq!(line(&config, "root"), "root = \"pets\"");
    assert_eq!(line(&config, "split"), "split = { by = \"folders\" }");
    // Two classes, one output.
    assert!(line(&config, "head").ends_with("{ dense = 1 }]"));

    // Nothing to validate on: it comes out of the training pictures, never out of the test.
    let no_val = Desk::new()
        .pictures("pets/train/cat", 6)
        .pictures("pets/train/dog", 6)
        .pictures("pets/test/cat", 2)
        .pictures("pets/test/dog", 2);
    let config = no_val.writes("pets");
    assert_eq!(line(&config, "root"), "root = \"pets/train\"");
    assert_eq!(
        line(&config, "split"),
        "split = { train = 0.9, val = 0.1, test = 0 }"
    );
    assert!(
        config.contains("xp evaluate RUN --data pets/test"),
        "{config}"
    );

    let rows = |split: [&str; 4]| {
        let mut text = "path,label,split\n".to_owned();
        for (index, split) in (0..16).zip(split.iter().cycle()) {
            let class = ["cat", "dog"][index / 8];
            text += &format!("{class}/{:02}.png,{class},{split}\n", index % 8);
        }
        text
    };
    let listed = |text: String| {
        let desk = Desk::new().pictures("pets/cat", 8).pictures("pets/dog", 8);
        desk.file("pets/list.csv", text)
    };
    let config = listed(rows(["train", "train", "val", "test"])).writes("pets");
    assert_eq!(line(&config, "manifest"), "manifest = \"pets/list.csv\"");
    assert_eq!(line(&config, "split"), "split = { by = \"column\" }");
    let config = listed(rows(["a", "b", "c", "d"])).writes("pets/list.csv");
    assert_eq!(
        line(&config, "split"),
        "split = { train = 0.8, val = 0.1, test = 0.1 }"
    );

    // Two pictures a class are enough to train and to validate.
    let few = Desk::new().pictures("pets/cat", 2).pictures("pets/dog", 2);
    assert_eq!(
        line(&few.writes("pets"), "split"),
        "split = { train = 0.8, val = 0.2, test = 0 }"
    );
}

#[test]
fn it_warns_of_what_is_wrong_with_the_pictures() {
    let desk = Desk::new()
        .pictures("my pets/cat", 20)
        .pictures("my pets/dog", 4)
        .file("my pets/cat/broken.jpg", "no picture");
    let mut arguments = vec!["new", "my pets"];
    arguments.extend(TINY);
    let (_, stderr) = desk.succeeds(&arguments);
    assert_snapshot!(stderr.trim_end(), @r"
    my pets: 2 classes in class folders, 24 pictures (4 to 20 each), median 40 x 30 px
    warning: `cat` has 5 times the pictures of `dog` (20 and 4): the configuration weighs classes
    warning: 3 validation pictures are few: one of them is 33.3 % of accuracy
    warning: 1 issue in the data; the configuration goes on without broken ones; the first: `cat/broken.jpg` not a picture in a known format
    next: xp run my_pets.toml
    ");
    desk.succeeds(&["check", "my_pets.toml"]);
    desk.succeeds(&["data", "my_pets.toml"]);
    let config = fs::read_to_string(desk.path().join("my_pets.toml")).unwrap();
    assert_eq!(line(&config, "on_corrupt"), "on_corrupt = \"skip\"");
    assert_eq!(
        line(&config, "class_weights"),
        "class_weights = \"balanced\""
    );
}

#[test]
fn a_bad_folder_gives_one_error() {
    let desk = Desk::new()
        .file("empty/readme.txt", "nothing")
        .pictures("one/cat", 4)
        .pictures("loose", 4)
        .pictures("few/cat", 4)
        .pictures("few/dog", 1)
        .file("file.txt", "text")
        .file("table.csv", "date,price\nmonday,3\n");
    let said: Vec<String> = [
        "missing",
        "file.txt",
        "table.csv",
        "empty",
        "one",
        "loose",
        "few",
    ]
    .into_iter()
    .map(|folder| desk.fails(&["new", folder]))
    .collect();
    assert_snapshot!(said.join("\n\n"), @r"
    error: the data folder `missing` does not exist
      help: name a folder that holds one folder of pictures a class, or a CSV file
    exit 3

    error: the data folder `file.txt` is not a folder
      help: name a folder that holds one folder of pictures a class, or a CSV file
    exit 3

    error: `./table.csv` holds no pictures
      help: put JPEG, PNG, WebP, BMP or GIF pictures into one folder a class, or list them in a manifest
    exit 3

    error: `empty` holds no pictures
      help: put JPEG, PNG, WebP, BMP or GIF pictures into one folder a class, or list them in a manifest
    exit 3

    error: `one` holds one class only, `cat`
      help: give at least two classes, one folder each
    exit 3

    error: `loose` holds no class folders, only 4 files
      help: move the pictures into one folder a class, or list them in a manifest
    exit 3

    error: class `dog` has too few pictures: 1 distinct, for 3 splits
      help: add pictures, or remove the class
    exit 3
    ");
    assert!(!desk.path().join("one.toml").exists());
}

#[test]
fn bad_usage_is_told_before_the_pictures_are_read() {
    let desk = Desk::flowers().file("flowers.toml", "mine");
    let said: Vec<String> = [
        // Nobody is there to be asked.
        &["new"][..],
        &["new", "flowers"],
        &["new", "missing", "--backbone", "mobilenetv2"],
        &["new", "missing", "--backbone", "resnet50", "--width", "0.5"],
        &[
            "new",
            "missing",
            "--backbone",
            "resnet50",
            "--weights",
            "none.safetensors",
        ],
    ]
    .into_iter()
    .map(|arguments| desk.fails(arguments))
    .collect();
    assert_snapshot!(said.join("\n\n"), @r"
    error: no folder of pictures is named
      help: name one: `xp new FOLDER`; or a CSV file of paths and labels
    exit 2

    error: `flowers.toml` exists already
      help: `--force` replaces it, `--output OTHER.toml` writes elsewhere
    exit 2

    error: there is no backbone `mobilenetv2`
      help: did you mean `mobilenet_v2`?
    exit 2

    error: `resnet50` comes in one width only
      help: leave `width` out
    exit 2

    error: cannot read the weights `none.safetensors`: No such file or directory (os error 2)
      help: check the path of the file and who may read it
    exit 1
    ");
    let kept = fs::read_to_string(desk.path().join("flowers.toml")).unwrap();
    assert_eq!(kept, "mine");

    desk.succeeds(&["new", "flowers", "--force"]);
    let written = fs::read_to_string(desk.path().join("flowers.toml")).unwrap();
    let (stdout, _) = desk.succeeds(&["new", "flowers", "--output", "-"]);
    assert_eq!(stdout, written);
    desk.succeeds(&["new", "flowers", "--output", "other.toml"]);
    desk.succeeds(&["check", "other.toml"]);
}

#[test]
fn answers_in_json() {
    let desk = Desk::flowers();
    fs::create_dir(desk.path().join("configs")).unwrap();
    let output = "configs/mine.toml";
    let (stdout, _) = desk.succeeds(&["new", "flowers", "--output", output, "--json"]);
    let answer: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let wanted = serde_json::json!({
        "config": output,
        "root": "flowers",
        "layout": "class folders",
        "pictures": 60,
        "classes": [
            { "class": "daisy", "pictures": 20 },
            { "class": "rose", "pictures": 20 },
            { "class": "tulip", "pictures": 20 },
        ],
        "train": 48,
        "val": 6,
        "test": 6,
        "median_size": [40, 30],
        "issues": 0,
        "warnings": ["6 validation pictures are few: one of them is 16.7 % of accuracy"],
        "backbone": "mobilenet_v2",
        "image_size": 96,
    });
    assert_eq!(answer, wanted);
    let config = fs::read_to_string(desk.path().join(output)).unwrap();
    assert_eq!(line(&config, "root"), "root = \"../flowers\"");
    desk.succeeds(&["data", output]);
}

#[test]
fn every_backbone_gets_a_good_configuration() {
    let desk = Desk::flowers();
    let mut arguments = vec!["check".to_owned()];
    for family in xp::zoo::registry::FAMILIES {
        let output = format!("{}.toml", family.name);
        let flags = ["--backbone", family.name, "--output", &output];
        desk.succeeds(&[&["new", "flowers"][..], &flags].concat());
        arguments.push(output);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (_, stderr) = desk.succeeds(&arguments);
    assert_eq!(stderr, "");
}
