//! Bad data sets: each gives one clear message and never a panic.

use std::fs;
use std::path::{Path, PathBuf};

use insta::{assert_snapshot, with_settings};
use xp::config::DataConfig;
use xp::data::Dataset;
use xp::records::Split;

/// A data set under construction in a folder of its own.
struct Data {
    folder: tempfile::TempDir,
}

impl Data {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Two classes, `cat` and `dog`, of ten pictures each.
    fn cats_and_dogs() -> Self {
        Self::new().class("cat", 10).class("dog", 10)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    fn file(self, path: &str, bytes: impl AsRef<[u8]>) -> Self {
        let file = self.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
        self
    }

    fn dir(self, path: &str) -> Self {
        fs::create_dir_all(self.path().join(path)).unwrap();
        self
    }

    /// `count` pictures, all different, in the folder `name`.
    fn class(mut self, name: &str, count: usize) -> Self {
        for index in 0..count {
            let bytes = picture(&format!("{name} {index}"));
            self = self.file(&format!("{name}/{index}.png"), bytes);
        }
        self
    }

    /// Opens it with a `[data]` section in which `DIR` stands for the folder.
    fn open(&self, toml: &str) -> Result<Dataset, String> {
        let toml = toml.replace("DIR", &self.path().display().to_string());
        let config: DataConfig = toml::from_str(&toml).unwrap();
        Dataset::open(&config, 7).map_err(|error| {
            let text = format!("{error}\nhelp: {}", error.help());
            text.replace(&self.path().display().to_string(), "DIR")
        })
    }

    /// The message that it gives.
    fn error(&self, toml: &str) -> String {
        self.open(toml)
            .expect_err("this data set should be refused")
    }

    /// The issues that it gives, one a line.
    fn issues(&self, toml: &str) -> String {
        let dataset = self.open(toml).unwrap();
        let rows = dataset.issues.iter();
        let lines: Vec<String> = rows
            .map(|row| format!("{} {}: {}", row.kind, row.path, row.reason))
            .collect();
        lines.join("\n")
    }
}

/// A small PNG, different for every name.
fn picture(name: &str) -> Vec<u8> {
    let sum = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let colours = sum.to_le_bytes();
    let picture = image::RgbImage::from_fn(4, 3, |x, y| {
        let at = (x + 4 * y) as usize;
        image::Rgb([colours[at % 8], colours[(at + 3) % 8], at as u8])
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, image::ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures");
    fs::read(folder.join(name)).unwrap()
}

/// Compares a message with its snapshot.
macro_rules! check {
    ($message:expr, @$snapshot:literal) => {
        with_settings!({ filters => vec![(r"\(os error \d+\)", "(os error)")] }, {
            assert_snapshot!($message, @$snapshot);
        })
    };
}

const ROOT: &str = "root = 'DIR'";
const MANIFEST: &str = "root = 'DIR'\nmanifest = 'DIR/m.csv'";
const COLUMN: &str = "root = 'DIR'\nmanifest = 'DIR/m.csv'\nsplit = { by = 'column' }";
const FOLDERS: &str = "root = 'DIR'\nsplit = { by = 'folders' }";
const SKIP: &str = "root = 'DIR'\non_corrupt = 'skip'";

#[test]
fn no_source() {
    check!(Data::new().error(""), @r"
    `[data]` names no pictures
    help: set `data.root`, `data.manifest` or another source of pictures
    ");
}

#[test]
fn root_missing() {
    check!(Data::new().error("root = 'DIR/nowhere'"), @r"
    the data root `DIR/nowhere` does not exist
    help: correct `data.root`; relative paths start at the file that names them
    ");
}

#[test]
fn root_is_a_file() {
    let data = Data::new().file("data.zip", "PK");
    check!(data.error("root = 'DIR/data.zip'"), @r"
    the data root `DIR/data.zip` is not a folder
    help: `data.root` is a folder of class folders, `data.manifest` a CSV file; correct `data.root`
    ");
}

#[test]
fn root_empty() {
    check!(Data::new().error(ROOT), @r"
    `DIR` holds no pictures
    help: put JPEG, PNG, WebP, BMP or GIF pictures into one folder a class, or list them in a manifest
    ");
}

#[test]
fn pictures_in_no_class_folder() {
    let data = Data::new()
        .file("a.png", picture("a"))
        .file("b.png", picture("b"));
    check!(data.error(ROOT), @r"
    `DIR` holds no class folders, only 2 files
    help: move the pictures into one folder a class, or list them in a manifest
    ");
}

#[test]
fn folders_of_splits_taken_for_classes() {
    let data = Data::new()
        .class("train/cat", 2)
        .class("train/dog", 2)
        .class("val/cat", 2);
    check!(data.error(ROOT), @r#"
    the classes of `DIR` would be `train`, `val`, which look like splits
    help: set `data.split = { by = "folders" }`, or `data.class_from = "leaf"` to split anew
    "#);
}

#[test]
fn one_class() {
    check!(Data::new().class("cat", 5).error(ROOT), @r#"
    `DIR` holds one class only, `cat`
    help: give at least two classes, one folder each; `data.class_from = "leaf"` takes the innermost folder as the class
    "#);
}

#[test]
fn class_without_pictures() {
    let data = Data::cats_and_dogs()
        .dir("bird")
        .file("eel/notes.txt", "none yet");
    check!(data.error(ROOT), @r"
    class `bird` has no pictures in `DIR`
    help: add pictures to the folder, or remove it
    ");
}

#[test]
fn leaf_class_without_pictures() {
    let data = Data::new()
        .class("pets/cat", 5)
        .class("pets/dog", 5)
        .dir("wild/fox");
    check!(data.error("root = 'DIR'\nclass_from = 'leaf'"), @r"
    class `fox` has no pictures in `DIR`
    help: add pictures to the folder, or remove it
    ");
}

#[test]
fn leaf_classes_may_hold_folders() {
    let data = Data::new()
        .class("cat", 5)
        .class("cat/tabby", 5)
        .class("pets/dog", 5);
    let data = data.file("pets/README.txt", "hello");
    let dataset = data.open("root = 'DIR'\nclass_from = 'leaf'").unwrap();
    assert_eq!(dataset.classes, ["cat", "dog", "tabby"]);
}

#[test]
fn class_left_without_pictures() {
    let data = Data::cats_and_dogs()
        .file("bird/a.jpg", "x")
        .file("bird/b.jpg", "");
    check!(data.error(SKIP), @r#"
    class `bird` has no usable pictures left (2 skipped over all classes)
    help: replace the pictures that `on_corrupt = "skip"` dropped, or remove the class
    "#);
}

#[test]
fn class_names_clash() {
    let data = Data::cats_and_dogs().class("Cat", 4);
    check!(data.issues(ROOT), @r"similar_class cat: class `cat` differs from `Cat` in case only");
    assert_eq!(data.open(ROOT).unwrap().classes, ["Cat", "cat", "dog"]);
}

#[test]
fn broken_pictures() {
    let data = Data::cats_and_dogs()
        .file("cat/cut.jpg", &fixture("plain.jpg")[..300])
        .file("cat/empty.png", "")
        .file("dog/page.jpg", "<html>404</html>")
        .file("dog/scan.tif", b"II*\0rest of a TIFF");
    check!(data.error(ROOT), @r#"
    4 of 24 pictures cannot be used
      cat/cut.jpg: truncated: the end of the picture is missing
      cat/empty.png: the file is empty
      dog/page.jpg: not a picture in a known format
      dog/scan.tif: TIFF pictures are not supported; convert it to PNG or JPEG
    help: repair or remove them, or set `data.on_corrupt = "skip"` to go on without them
    "#);
    check!(data.issues(SKIP), @r"
    corrupt cat/cut.jpg: truncated: the end of the picture is missing
    corrupt cat/empty.png: the file is empty
    corrupt dog/page.jpg: not a picture in a known format
    corrupt dog/scan.tif: TIFF pictures are not supported; convert it to PNG or JPEG
    ");
}

#[test]
fn many_broken_pictures() {
    let mut data = Data::cats_and_dogs();
    for index in 0..14 {
        data = data.file(&format!("cat/broken_{index:02}.jpg"), "x");
    }
    check!(data.error(ROOT), @r#"
    14 of 34 pictures cannot be used
      cat/broken_00.jpg: not a picture in a known format
      cat/broken_01.jpg: not a picture in a known format
      cat/broken_02.jpg: not a picture in a known format
      cat/broken_03.jpg: not a picture in a known format
      cat/broken_04.jpg: not a picture in a known format
      cat/broken_05.jpg: not a picture in a known format
      cat/broken_06.jpg: not a picture in a known format
      cat/broken_07.jpg: not a picture in a known format
      cat/broken_08.jpg: not a picture in a known format
      cat/broken_09.jpg: not a picture in a known format
      and 4 more
    help: repair or remove them, or set `data.on_corrupt = "skip"` to go on without them
    "#);
}

#[test]
fn truncated_at_any_length() {
    let whole = fixture("progressive.jpg");
    let mut data = Data::cats_and_dogs();
    let lengths = (0..whole.len()).step_by(7);
    let count = lengths.clone().count();
    for length in lengths {
        data = data.file(&format!("cat/cut_{length}.jpg"), &whole[..length]);
    }
    let error = data.error(ROOT);
    assert!(
        error.starts_with(&format!("{count} of {} pictures", count + 20)),
        "{error}"
    );
    assert_eq!(data.open(SKIP).unwrap().items.len(), 20);
}

#[test]
fn too_large_picture() {
    let mut bytes = fixture("plain.jpg");
    let frame = bytes
        .windows(2)
        .position(|pair| pair == [0xFF, 0xC0])
        .unwrap();
    bytes[frame + 5..frame + 9].copy_from_slice(&[0xF0, 0, 0xF0, 0]);
    check!(Data::cats_and_dogs().file("dog/bomb.jpg", bytes).error(ROOT), @r#"
    1 of 21 pictures cannot be used
      dog/bomb.jpg: 61440x61440 pixels, more than 16384 a side or 100 megapixels
    help: repair or remove them, or set `data.on_corrupt = "skip"` to go on without them
    "#);
}

#[test]
fn other_files_are_ignored() {
    let data = Data::cats_and_dogs()
        .file("README.txt", "hello")
        .file("cat/Thumbs.db", "x")
        .file("cat/.DS_Store", "x")
        .file(".cache/x.png", "x")
        .file("__MACOSX/cat/._0.png", "x");
    check!(data.issues(ROOT), @r"
    ignored README.txt: lies in no class folder
    ignored __MACOSX: left behind by an archive
    ignored cat/Thumbs.db: not a picture
    ");
}

#[test]
fn wrong_extension_is_no_fault() {
    let data = Data::cats_and_dogs().file("cat/photo.txt", fixture("plain.jpg"));
    let dataset = data.open(ROOT).unwrap();
    assert_eq!(dataset.items.len(), 21);
    assert!(dataset.issues.is_empty());
}

#[test]
fn same_picture_in_two_classes() {
    let data = Data::cats_and_dogs()
        .file("cat/same.png", picture("same"))
        .file("dog/copy.png", picture("same"));
    check!(data.error(ROOT), @r#"
    2 pictures stand under two classes with the same bytes
      cat/same.png: class `cat`, but `dog/copy.png` is class `dog`
      dog/copy.png: class `dog`, but `cat/same.png` is class `cat`
    help: keep each picture under one class, or set `data.on_corrupt = "skip"` to drop all copies
    "#);
    check!(data.issues(SKIP), @r"
    conflicting_label cat/same.png: class `cat`, but `dog/copy.png` is class `dog`; all copies dropped
    conflicting_label dog/copy.png: class `dog`, but `cat/same.png` is class `cat`; all copies dropped
    ");
}

#[test]
fn same_picture_twice_in_a_class() {
    let data = Data::cats_and_dogs()
        .file("cat/same.png", picture("same"))
        .file("cat/copy.png", picture("same"));
    check!(data.issues(ROOT), @r"duplicate cat/copy.png: same bytes as `cat/same.png`; both kept, in one split");
}

#[test]
fn too_few_for_the_splits() {
    check!(Data::cats_and_dogs().class("fox", 2).error(ROOT), @r"
    class `fox` has too few pictures: 2 distinct, for 3 splits
    help: add pictures, remove the class, or set the share of a split to 0
    ");
}

#[test]
fn copies_are_no_second_picture() {
    let data = Data::cats_and_dogs()
        .class("fox", 2)
        .file("fox/copy.png", picture("fox 0"));
    check!(data.error(ROOT), @r"
    class `fox` has too few pictures: 2 distinct, for 3 splits
    help: add pictures, remove the class, or set the share of a split to 0
    ");
}

#[test]
fn hash_split_leaves_a_class_untrained() {
    let toml = "root = 'DIR'\nsplit = { by = 'hash', train = 0.01, val = 0.01, test = 0.98 }";
    check!(Data::cats_and_dogs().error(toml), @r"
    class `cat` has no training pictures
    help: give it training pictures, or remove the class
    ");
}

#[test]
fn hash_split_leaves_a_split_empty() {
    let toml = "root = 'DIR'\nsplit = { by = 'hash', train = 0.998, val = 0.001, test = 0.001 }";
    check!(Data::cats_and_dogs().error(toml), @r"
    the val split got no pictures
    help: add pictures, or set its share to 0
    ");
}

#[test]
fn folders_without_train() {
    let data = Data::new().class("val/cat", 2).class("val/dog", 2);
    check!(data.error(FOLDERS), @r#"
    `DIR` has no folder `train`
    help: `split.by = "folders"` expects `train`, and optionally `val` and `test`, under `data.root`
    "#);
}

#[test]
fn two_folders_of_a_split() {
    let data = Data::new().class("train/cat", 2).class("train/dog", 2);
    check!(data.class("val/cat", 2).class("valid/cat", 2).error(FOLDERS), @r"
    `DIR` has two folders for the val split, `val` and `valid`
    help: keep one of them
    ");
}

#[test]
fn class_only_in_the_test_folder() {
    let data = Data::new()
        .class("train/cat", 2)
        .class("train/dog", 2)
        .class("test/fox", 2);
    check!(data.error(FOLDERS), @r"
    class `fox` has no training pictures
    help: give it training pictures, or remove the class
    ");
}

#[test]
fn copies_leave_train_for_the_held_out_folder() {
    let data = Data::new()
        .class("train/cat", 3)
        .class("train/dog", 3)
        .class("validation/dog", 3)
        .file("validation/cat/copy.png", picture("train/cat 1"))
        .class("extra", 1);
    check!(data.issues(FOLDERS), @r"
    ignored extra: no folder of a split (`train`, `val`, `test`)
    duplicate train/cat/1.png: same bytes as `validation/cat/copy.png` in val; dropped from train
    ");
    let dataset = data.open(FOLDERS).unwrap();
    assert_eq!(dataset.counts(), [[2, 1, 0], [3, 3, 0]]);
}

#[test]
fn folders_with_a_manifest() {
    let data = Data::cats_and_dogs().file("m.csv", "cat/0.png,cat\n");
    check!(data.error("manifest = 'DIR/m.csv'\nsplit = { by = 'folders' }"), @r#"
    `split.by = "folders"` needs folders below `data.root`, not a manifest
    help: set `data.root` alone, or split another way
    "#);
}

#[test]
fn column_without_a_manifest() {
    check!(Data::cats_and_dogs().error("root = 'DIR'\nsplit = { by = 'column' }"), @r#"
    `split.by = "column"` needs `data.manifest`
    help: add a column headed `split`, or use `split = { train = 0.8, val = 0.1, test = 0.1 }`
    "#);
}

#[test]
fn manifest_missing() {
    check!(Data::cats_and_dogs().error(MANIFEST), @r"
    the data manifest `DIR/m.csv` does not exist
    help: correct `data.manifest`; relative paths start at the file that names them
    ");
}

#[test]
fn manifest_empty() {
    check!(Data::cats_and_dogs().file("m.csv", "\n\n").error(MANIFEST), @r"
    `DIR/m.csv` holds no pictures
    help: put JPEG, PNG, WebP, BMP or GIF pictures into one folder a class, or list them in a manifest
    ");
}

#[test]
fn manifest_header_alone() {
    check!(Data::cats_and_dogs().file("m.csv", "path,label\n").error(MANIFEST), @r"
    `DIR/m.csv` holds no pictures
    help: put JPEG, PNG, WebP, BMP or GIF pictures into one folder a class, or list them in a manifest
    ");
}

#[test]
fn manifest_without_a_label_column() {
    let data = Data::cats_and_dogs().file("m.csv", "path,width\ncat/0.png,4\n");
    check!(data.error(MANIFEST), @r"
    `DIR/m.csv` line 1: no column named `label` among `path`, `width`
    help: name the columns `path`, `label` and optionally `split`
    ");
}

#[test]
fn manifest_without_a_path_column() {
    let data = Data::cats_and_dogs().file("m.csv", "where,label\ncat/0.png,cat\n");
    check!(data.error(MANIFEST), @r"
    `DIR/m.csv` line 1: no column named `path` among `where`, `label`
    help: name the columns `path`, `label` and optionally `split`
    ");
}

#[test]
fn manifest_of_one_column() {
    let data = Data::cats_and_dogs().file("m.csv", "cat/0.png\ndog/0.png\n");
    check!(data.error(MANIFEST), @r"
    `DIR/m.csv` line 1: 1 field where path, label and optionally split are expected
    help: separate fields by commas, quote those that hold commas, or name the columns in a header
    ");
}

#[test]
fn manifest_row_too_long() {
    let data = Data::cats_and_dogs().file("m.csv", "path,label\ncat/0.png,cat, tabby\n");
    check!(data.error(MANIFEST), @r"
    `DIR/m.csv` line 2: 3 fields where 2 are expected
    help: quote fields that hold commas
    ");
}

#[test]
fn manifest_label_empty() {
    let data = Data::cats_and_dogs().file("m.csv", "path,label\ncat/0.png,cat\ndog/0.png,\n");
    check!(data.error(MANIFEST), @r"
    `DIR/m.csv` line 3: the label of `dog/0.png` is empty
    help: give a label, or remove the line
    ");
}

#[test]
fn manifest_path_empty() {
    let data = Data::cats_and_dogs().file("m.csv", "path,label\n,cat\n");
    check!(data.error(MANIFEST), @r"
    `DIR/m.csv` line 2: the path is empty
    help: give a path, or remove the line
    ");
}

#[test]
fn manifest_names_missing_files() {
    let rows = "path,label\ncat/0.png,cat\ncat/99.png,cat\ndog/0.png,dog\ndog,dog\n";
    let data = Data::cats_and_dogs().file("m.csv", rows);
    check!(data.error(MANIFEST), @r#"
    2 of 4 pictures cannot be used
      cat/99.png: does not exist (line 3)
      dog: is not a file (line 5)
    help: repair or remove them, or set `data.on_corrupt = "skip"` to go on without them
    "#);
}

#[test]
fn manifest_leads_out_of_the_root() {
    let data = Data::cats_and_dogs().file("m.csv", "path,label\n../secret.png,cat\n");
    check!(data.error(MANIFEST), @r"
    `DIR/m.csv` line 2: `../secret.png` leads out of `DIR`
    help: paths are relative to `data.root`, or to the manifest's folder without one; `data.allow_outside = true` lets them lead out of it
    ");
    let data = Data::cats_and_dogs().file("m.csv", "path,label\n/etc/passwd,cat\n");
    check!(data.error(MANIFEST), @r"
    `DIR/m.csv` line 2: `/etc/passwd` leads out of `DIR`
    help: paths are relative to `data.root`, or to the manifest's folder without one; `data.allow_outside = true` lets them lead out of it
    ");
}

#[cfg(unix)]
#[test]
fn manifest_leads_out_of_the_root_by_a_link() {
    use std::os::unix::fs::symlink;
    let elsewhere = Data::cats_and_dogs();
    let rows: String = (0..10)
        .map(|n| format!("cat/{n}.png,cat\nlinked/{n}.png,dog\n"))
        .collect();
    let data = Data::new().class("cat", 10).file("m.csv", &rows);
    symlink(elsewhere.path().join("dog"), data.path().join("linked")).unwrap();
    check!(data.error(MANIFEST), @r"
    `DIR/m.csv` line 2: `linked/0.png` leads out of `DIR`
    help: paths are relative to `data.root`, or to the manifest's folder without one; `data.allow_outside = true` lets them lead out of it
    ");
    let allowed = format!("{MANIFEST}\nallow_outside = true");
    assert_eq!(data.open(&allowed).unwrap().items.len(), 20);
    // A link of a single file, and paths that say so.
    fs::remove_file(data.path().join("linked")).unwrap();
    let data = data.class("linked", 9);
    symlink(
        elsewhere.path().join("dog/9.png"),
        data.path().join("linked/9.png"),
    )
    .unwrap();
    let error = data.error(MANIFEST);
    assert!(
        error.contains("line 20: `linked/9.png` leads out of"),
        "{error}"
    );
    let outside = elsewhere.path().join("dog").display().to_string();
    let data = data.file("m.csv", rows.replace("linked", &outside));
    assert!(data.error(MANIFEST).contains("leads out of"));
    let dataset = data.open(&allowed).unwrap();
    assert_eq!(dataset.items.len(), 20);
    assert!(dataset.items[0].path.starts_with(&outside));
}

#[test]
fn manifest_with_names_that_csv_quotes() {
    let rows = "path,label\n\"cat/a, \"\"b\"\".png\",\"say \"\"hi\"\", twice\"\n\
                cat/0.png,\"say \"\"hi\"\", twice\"\ndog/0.png,\"two\nlines\"\ndog/1.png,\"two\nlines\"\n";
    let data = Data::cats_and_dogs()
        .file("cat/a, \"b\".png", picture("quoted"))
        .file("m.csv", rows);
    let toml = format!("{MANIFEST}\nsplit = {{ train = 0.5, val = 0.5, test = 0 }}");
    let dataset = data.open(&toml).unwrap();
    assert_eq!(dataset.classes, ["say \"hi\", twice", "two\nlines"]);
    assert_eq!(dataset.items.len(), 4);
}

#[test]
fn manifest_repeats_a_line() {
    let rows: String = (0..10)
        .map(|n| format!("cat/{n}.png,cat\ndog/{n}.png,dog\n"))
        .collect();
    let data = Data::cats_and_dogs().file("m.csv", format!("{rows}./cat/0.png,cat\n"));
    check!(data.issues(MANIFEST), @r"repeated cat/0.png: line 21 repeats line 1; dropped");
    let data = data.file("m.csv", format!("{rows}cat/0.png,dog\n"));
    check!(data.error(MANIFEST), @r"
    `DIR/m.csv` line 21: `cat/0.png` has label `dog` here and `cat` in line 1
    help: keep one of the two lines
    ");
}

#[test]
fn manifest_names_no_picture() {
    let rows = "path,label\nnotes.txt,cat\ndog/0.png,dog\n";
    let data = Data::cats_and_dogs()
        .file("m.csv", rows)
        .file("notes.txt", "hello");
    check!(data.error(MANIFEST), @r#"
    1 of 2 pictures cannot be used
      notes.txt: not a picture in a known format
    help: repair or remove them, or set `data.on_corrupt = "skip"` to go on without them
    "#);
}

#[test]
fn manifest_not_utf8() {
    let data = Data::cats_and_dogs().file("m.csv", b"path,label\ncat/0.png,caf\xe9\n");
    check!(data.error(MANIFEST), @r"
    `DIR/m.csv` line 2: not UTF-8
    help: save the manifest as UTF-8
    ");
}

#[test]
fn column_missing() {
    let data = Data::cats_and_dogs().file("m.csv", "path,label\ncat/0.png,cat\n");
    check!(data.error(COLUMN), @r#"
    `split.by = "column"` needs a split column in the manifest
    help: add a column headed `split`, or use `split = { train = 0.8, val = 0.1, test = 0.1 }`
    "#);
}

#[test]
fn column_with_an_unknown_word() {
    let rows = "path,label,split\ncat/0.png,cat,train\ndog/0.png,dog,holdout\n";
    check!(Data::cats_and_dogs().file("m.csv", rows).error(COLUMN), @r"
    `DIR/m.csv` line 3: `holdout` is no split
    help: write `train`, `val` or `test`
    ");
}

#[test]
fn column_leaves_a_class_untrained() {
    let rows = "path,label,split\ncat/0.png,cat,train\ndog/0.png,dog,test\n";
    check!(Data::cats_and_dogs().file("m.csv", rows).error(COLUMN), @r"
    class `dog` has no training pictures
    help: give it training pictures, or remove the class
    ");
}

#[test]
fn good_manifests_are_read() {
    let rows = "\u{feff}Split,File,Class\r\ntrain,cat/0.png,\"cat, tame\"\r\n\
                valid,cat/1.png,\"cat, tame\"\r\ntraining, dog/0.png ,dog\r\n";
    let data = Data::cats_and_dogs().file("m.csv", rows);
    let dataset = data.open(COLUMN).unwrap();
    assert_eq!(dataset.classes, ["cat, tame", "dog"]);
    assert_eq!(dataset.counts(), [[1, 1, 0], [1, 0, 0]]);
    assert_eq!(dataset.items[1].split, Split::Val);
    let data = Data::cats_and_dogs().file(
        "m.csv",
        "cat/0.png,cat,test\ncat/1.png,cat,train\ndog/0.png,dog,train\n",
    );
    let dataset = data
        .open("manifest = 'DIR/m.csv'\nsplit = { by = 'column' }")
        .unwrap();
    assert_eq!(dataset.counts(), [[1, 0, 1], [1, 0, 0]]);
}

#[cfg(unix)]
#[test]
fn links_in_circles_and_to_nothing() {
    use std::os::unix::fs::symlink;
    let data = Data::cats_and_dogs();
    let root = data.path();
    symlink(&root, root.join("cat/up")).unwrap();
    symlink(root.join("cat"), root.join("dog/cats")).unwrap();
    symlink(root.join("dog"), root.join("cat/dogs")).unwrap();
    let error = data.error(ROOT);
    assert!(error.contains("stand under two classes"), "{error}");
    let data = Data::cats_and_dogs();
    let root = data.path();
    symlink(&root, root.join("cat/up")).unwrap();
    symlink(root.join("gone.png"), root.join("dog/gone.png")).unwrap();
    check!(data.issues(SKIP), @r"
    ignored cat/up: links to a folder that holds it
    corrupt dog/gone.png: cannot be read: No such file or directory (os error)
    ");
}

#[cfg(unix)]
#[test]
fn name_that_is_not_utf8() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let data = Data::cats_and_dogs();
    let name = OsStr::from_bytes(b"caf\xe9.png");
    fs::write(data.path().join("cat").join(name), picture("cafe")).unwrap();
    check!(data.error(ROOT), @r#"
    1 of 21 pictures cannot be used
      cat/caf�.png: its name is not UTF-8; rename it
    help: repair or remove them, or set `data.on_corrupt = "skip"` to go on without them
    "#);
    check!(data.issues(SKIP), @r"bad_name cat/caf�.png: its name is not UTF-8; rename it");
}

#[test]
fn a_class_of_one_picture() {
    let data = Data::cats_and_dogs().class("fox", 1);
    check!(data.error(ROOT), @r"
    class `fox` has too few pictures: 1 distinct, for 3 splits
    help: add pictures, remove the class, or set the share of a split to 0
    ");
    let whole = format!("{ROOT}\nsplit = {{ train = 1, val = 0, test = 0 }}");
    assert_eq!(data.open(&whole).unwrap().counts()[2], [1, 0, 0]);
}

#[test]
fn pictures_that_go_or_change_after_the_scan() {
    let data = Data::cats_and_dogs();
    let dataset = data.open(ROOT).unwrap();
    let place = |path: &str| {
        let mut items = dataset.items.iter();
        items.position(|item| item.path == path).unwrap()
    };
    fs::remove_file(data.path().join("cat/3.png")).unwrap();
    let data = data.file("dog/4.png", picture("another"));
    let said = |path: &str| {
        let error = dataset.picture(place(path)).unwrap_err();
        format!("{error}\nhelp: {}", error.help())
    };
    check!(said("cat/3.png"), @r"
    picture `cat/3.png` is gone since it was scanned
    help: leave the data alone during a run; start again
    ");
    check!(said("dog/4.png"), @r"
    picture `dog/4.png` changed since it was scanned
    help: leave the data alone during a run; start again
    ");
    assert!(dataset.picture(place("dog/5.png")).is_ok());
    drop(data);
}

#[cfg(target_os = "linux")]
#[test]
fn pictures_that_cannot_be_read() {
    use std::os::unix::fs::symlink;
    let data = Data::cats_and_dogs();
    // Nobody may read this, not even the superuser as whom tests may run.
    symlink("/proc/self/mem", data.path().join("cat/mem.png")).unwrap();
    let error = data.error(ROOT);
    assert!(error.contains("  cat/mem.png: cannot be read: "), "{error}");
    assert_eq!(data.open(SKIP).unwrap().items.len(), 20);
}

#[cfg(unix)]
#[test]
fn folders_that_may_not_be_read() {
    use std::os::unix::fs::PermissionsExt;
    let data = Data::cats_and_dogs();
    let folder = data.path().join("dog");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o000)).unwrap();
    let readable = fs::read_dir(&folder).is_ok();
    let outcome = data.open(ROOT);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    // To the superuser nothing is forbidden.
    if !readable {
        let error = outcome.unwrap_err();
        assert!(error.contains("cannot read `DIR/dog`"), "{error}");
        assert!(
            error.contains("check the path and its permissions"),
            "{error}"
        );
    }
}

#[cfg(unix)]
#[test]
fn things_that_are_no_files() {
    let data = Data::cats_and_dogs();
    let socket = data.path().join("cat/socket.png");
    let _held = std::os::unix::net::UnixListener::bind(socket).unwrap();
    check!(data.issues(ROOT), @r"ignored cat/socket.png: neither a file nor a folder");
}

#[test]
fn a_folder_for_a_model_has_a_class_that_it_does_not_know() {
    let data = Data::cats_and_dogs();
    let classes = ["cat", "fox"].map(String::from);
    let error = Dataset::labelled(&data.path(), &classes, Default::default()).unwrap_err();
    let text = format!("{error}\nhelp: {}", error.help());
    check!(text.replace(&data.path().display().to_string(), "DIR"), @r"
    class `dog` of `DIR` is none of the model's
    help: the model knows `cat`, `fox`
    ");
}
