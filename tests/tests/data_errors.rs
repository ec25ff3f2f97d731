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
    check!(Data::new().error(""), @"");
}

#[test]
fn root_missing() {
    check!(Data::new().error("root = 'DIR/nowhere'"), @"");
}

#[test]
fn root_is_a_file() {
    let data = Data::new().file("data.zip", "PK");
    check!(data.error("root = 'DIR/data.zip'"), @"");
}

#[test]
fn root_empty() {
    check!(Data::new().error(ROOT), @"");
}

#[test]
fn pictures_in_no_class_folder() {
    let data = Data::new()
        .file("a.png", picture("a"))
        .file("b.png", picture("b"));
    check!(data.error(ROOT), @"");
}

#[test]
fn one_class() {
    check!(Data::new().class("cat", 5).error(ROOT), @"");
}

#[test]
fn class_without_pictures() {
    let data = Data::cats_and_dogs()
        .dir("bird")
        .file("eel/notes.txt", "none yet");
    check!(data.error(ROOT), @"");
}

#[test]
fn leaf_class_without_pictures() {
    let data = Data::new()
        .class("pets/cat", 5)
        .class("pets/dog", 5)
        .dir("wild/fox");
    check!(data.error("root = 'DIR'\nclass_from = 'leaf'"), @"");
}

#[test]
fn class_left_without_pictures() {
    let data = Data::cats_and_dogs()
        .file("bird/a.jpg", "x")
        .file("bird/b.jpg", "");
    check!(data.error(SKIP), @"");
}

#[test]
fn class_names_clash() {
    check!(Data::cats_and_dogs().class("Cat", 4).error(ROOT), @"");
}

#[test]
fn broken_pictures() {
    let data = Data::cats_and_dogs()
        .file("cat/cut.jpg", &fixture("plain.jpg")[..300])
        .file("cat/empty.png", "")
        .file("dog/page.jpg", "<html>404</html>")
        .file("dog/scan.tif", b"II*\0rest of a TIFF");
    check!(data.error(ROOT), @"");
    check!(data.issues(SKIP), @"");
}

#[test]
fn many_broken_pictures() {
    let mut data = Data::cats_and_dogs();
    for index in 0..14 {
        data = data.file(&format!("cat/broken_{index:02}.jpg"), "x");
    }
    check!(data.error(ROOT), @"");
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
    check!(Data::cats_and_dogs().file("dog/bomb.jpg", bytes).error(ROOT), @"");
}

#[test]
fn other_files_are_ignored() {
    let data = Data::cats_and_dogs()
        .file("README.txt", "hello")
        .file("cat/Thumbs.db", "x")
        .file("cat/.DS_Store", "x")
        .file(".cache/x.png", "x")
        .file("__MACOSX/cat/._0.png", "x");
    check!(data.issues(ROOT), @"");
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
    check!(data.error(ROOT), @"");
    check!(data.issues(SKIP), @"");
}

#[test]
fn same_picture_twice_in_a_class() {
    let data = Data::cats_and_dogs()
        .file("cat/same.png", picture("same"))
        .file("cat/copy.png", picture("same"));
    check!(data.issues(ROOT), @"");
}

#[test]
fn too_few_for_the_splits() {
    check!(Data::cats_and_dogs().class("fox", 2).error(ROOT), @"");
}

#[test]
fn copies_are_no_second_picture() {
    let data = Data::cats_and_dogs()
        .class("fox", 2)
        .file("fox/copy.png", picture("fox 0"));
    check!(data.error(ROOT), @"");
}

#[test]
fn hash_split_leaves_a_class_untrained() {
    let toml = "root = 'DIR'\nsplit = { by = 'hash', train = 0.01, val = 0.01, test = 0.98 }";
    check!(Data::cats_and_dogs().error(toml), @"");
}

#[test]
fn hash_split_leaves_a_split_empty() {
    let toml = "root = 'DIR'\nsplit = { by = 'hash', train = 0.998, val = 0.001, test = 0.001 }";
    check!(Data::cats_and_dogs().error(toml), @"");
}

#[test]
fn folders_without_train() {
    let data = Data::new().class("val/cat", 2).class("val/dog", 2);
    check!(data.error(FOLDERS), @"");
}

#[test]
fn two_folders_of_a_split() {
    let data = Data::new().class("train/cat", 2).class("train/dog", 2);
    check!(data.class("val/cat", 2).class("valid/cat", 2).error(FOLDERS), @"");
}

#[test]
fn class_only_in_the_test_folder() {
    let data = Data::new()
        .class("train/cat", 2)
        .class("train/dog", 2)
        .class("test/fox", 2);
    check!(data.error(FOLDERS), @"");
}

#[test]
fn copies_leave_train_for_the_held_out_folder() {
    let data = Data::new()
        .class("train/cat", 3)
        .class("train/dog", 3)
        .class("validation/dog", 3)
        .file("validation/cat/copy.png", picture("train/cat 1"))
        .class("extra", 1);
    check!(data.issues(FOLDERS), @"");
    let dataset = data.open(FOLDERS).unwrap();
    assert_eq!(dataset.counts(), [[2, 1, 0], [3, 3, 0]]);
}

#[test]
fn folders_with_a_manifest() {
    let data = Data::cats_and_dogs().file("m.csv", "cat/0.png,cat\n");
    check!(data.error("manifest = 'DIR/m.csv'\nsplit = { by = 'folders' }"), @"");
}

#[test]
fn column_without_a_manifest() {
    check!(Data::cats_and_dogs().error("root = 'DIR'\nsplit = { by = 'column' }"), @"");
}

#[test]
fn manifest_missing() {
    check!(Data::cats_and_dogs().error(MANIFEST), @"");
}

#[test]
fn manifest_empty() {
    check!(Data::cats_and_dogs().file("m.csv", "\n\n").error(MANIFEST), @"");
}

#[test]
fn manifest_header_alone() {
    check!(Data::cats_and_dogs().file("m.csv", "path,label\n").error(MANIFEST), @"");
}

#[test]
fn manifest_without_a_label_column() {
    let data = Data::cats_and_dogs().file("m.csv", "path,width\ncat/0.png,4\n");
    check!(data.error(MANIFEST), @"");
}

#[test]
fn manifest_without_a_path_column() {
    let data = Data::cats_and_dogs().file("m.csv", "where,label\ncat/0.png,cat\n");
    check!(data.error(MANIFEST), @"");
}

#[test]
fn manifest_of_one_column() {
    let data = Data::cats_and_dogs().file("m.csv", "cat/0.png\ndog/0.png\n");
    check!(data.error(MANIFEST), @"");
}

#[test]
fn manifest_row_too_long() {
    let data = Data::cats_and_dogs().file("m.csv", "path,label\ncat/0.png,cat, tabby\n");
    check!(data.error(MANIFEST), @"");
}

#[test]
fn manifest_label_empty() {
    let data = Data::cats_and_dogs().file("m.csv", "path,label\ncat/0.png,cat\ndog/0.png,\n");
    check!(data.error(MANIFEST), @"");
}

#[test]
fn manifest_path_empty() {
    let data = Data::cats_and_dogs().file("m.csv", "path,label\n,cat\n");
    check!(data.error(MANIFEST), @"");
}

#[test]
fn manifest_names_missing_files() {
    let rows = "path,label\ncat/0.png,cat\ncat/99.png,cat\ndog/0.png,dog\ndog,dog\n";
    let data = Data::cats_and_dogs().file("m.csv", rows);
    check!(data.error(MANIFEST), @"");
}

#[test]
fn manifest_leads_out_of_the_root() {
    let data = Data::cats_and_dogs().file("m.csv", "path,label\n../secret.png,cat\n");
    check!(data.error(MANIFEST), @"");
    let data = Data::cats_and_dogs().file("m.csv", "path,label\n/etc/passwd,cat\n");
    check!(data.error(MANIFEST), @"");
}

#[test]
fn manifest_repeats_a_line() {
    let rows: String = (0..10)
        .map(|n| format!("cat/{n}.png,cat\ndog/{n}.png,dog\n"))
        .collect();
    let data = Data::cats_and_dogs().file("m.csv", format!("{rows}./cat/0.png,cat\n"));
    check!(data.issues(MANIFEST), @"");
    let data = data.file("m.csv", format!("{rows}cat/0.png,dog\n"));
    check!(data.error(MANIFEST), @"");
}

#[test]
fn manifest_names_no_picture() {
    let rows = "path,label\nnotes.txt,cat\ndog/0.png,dog\n";
    let data = Data::cats_and_dogs()
        .file("m.csv", rows)
        .file("notes.txt", "hello");
    check!(data.error(MANIFEST), @"");
}

#[test]
fn manifest_not_utf8() {
    let data = Data::cats_and_dogs().file("m.csv", b"path,label\ncat/0.png,caf\xe9\n");
    check!(data.error(MANIFEST), @"");
}

#[test]
fn column_missing() {
    let data = Data::cats_and_dogs().file("m.csv", "path,label\ncat/0.png,cat\n");
    check!(data.error(COLUMN), @"");
}

#[test]
fn column_with_an_unknown_word() {
    let rows = "path,label,split\ncat/0.png,cat,train\ndog/0.png,dog,holdout\n";
    check!(Data::cats_and_dogs().file("m.csv", rows).error(COLUMN), @"");
}

#[test]
fn column_leaves_a_class_untrained() {
    let rows = "path,label,split\ncat/0.png,cat,train\ndog/0.png,dog,test\n";
    check!(Data::cats_and_dogs().file("m.csv", rows).error(COLUMN), @"");
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
    check!(data.issues(SKIP), @"");
}

#[cfg(unix)]
#[test]
fn name_that_is_not_utf8() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let data = Data::cats_and_dogs();
    let name = OsStr::from_bytes(b"caf\xe9.png");
    fs::write(data.path().join("cat").join(name), picture("cafe")).unwrap();
    check!(data.error(ROOT), @"");
    check!(data.issues(SKIP), @"");
}

#[test]
fn a_folder_for_a_model_has_a_class_that_it_does_not_know() {
    let data = Data::cats_and_dogs();
    let classes = ["cat", "fox"].map(String::from);
    let error = Dataset::labelled(&data.path(), &classes, Default::default()).unwrap_err();
    let text = format!("{error}\nhelp: {}", error.help());
    check!(text.replace(&data.path().display().to_string(), "DIR"), @"");
}
