//! Pictures from elsewhere: archives, presets, Parquet, the hub; manifests written on first use and
//! label files. All servers are on the loopback interface.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use sha2::{Digest, Sha256};

use super::loopback::{Loopback, Reply};

/// A configuration with this `[data]`, of pictures of 32 pixels, with a head of so many outputs.
fn config(data: &str, outputs: usize) -> String {
    format!(
        r#"name = "sources"
seed = 5
[data]
{data}
image_size = 32
[model]
backbone = "mobilenet_v2"
width = 0.35
weights = "xp/mobilenet_v2_035.shapes"
head = [{{ dense = {outputs} }}]
[[phase]]
name = "head"
freeze = "all"
epochs = 1
optimizer = {{ kind = "adam", lr = 0.01 }}
"#
    )
}

/// A folder to work in, with caches of its own.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::cargo_bin("xp").unwrap();
        command
            .current_dir(self.folder.path())
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("HF_HOME", self.path("hub"))
            .args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What a command answers in JSON.
    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What a failing command says; it must be a failure of the data.
    fn error(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{stderr}");
        stderr.replace(&self.folder.path().display().to_string(), "DIR")
    }
}

/// A small PNG, different for every number.
fn picture(number: usize) -> Vec<u8> {
    let picture = image::RgbImage::from_fn(8, 6, |x, y| {
        let at = number * 13 + (x + 8 * y) as usize;
        image::Rgb([(at * 7) as u8, (at * 3) as u8, number as u8])
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, image::ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

/// A `.tar.gz` of these files.
fn tgz(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut archive = tar::Builder::new(gzip);
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, name, content.as_slice())
            .unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    let sum = Sha256::digest(bytes);
    sum.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Ten ants and ten bees in class folders below `prefix`.
fn insects(prefix: &str) -> Vec<(String, Vec<u8>)> {
    let names = (0..20).map(|n| (["ants", "bees"][n % 2], n));
    names
        .map(|(class, n)| (format!("{prefix}{class}/{n}.png"), picture(n)))
        .collect()
}

/// An archive of them, its name on a good server and its SHA-256.
fn served(archive: &[u8]) -> (Loopback, String) {
    let content = archive.to_vec();
    let server = Loopback::serve(move |asked, _| Reply::file(&content, "v1", asked));
    (server, sha256(archive))
}

#[test]
fn an_archive_is_downloaded_and_unpacked_once() {
    let place = Place::new();
    let (server, sum) = served(&tgz(&insects("insects/v1/")));
    let data = format!(
        "url = \"{}/insects.tgz\"\nsha256 = \"{sum}\"",
        server.endpoint
    );
    place.write("config.toml", config(&data, 2));
    let said = place.json(&["data", "config.toml"]);
    assert_eq!(said["pictures"], 20);
    assert_eq!(said["classes"][0]["class"], "ants");
    assert_eq!(said["origin"]["sha256"], sum.as_str());
    assert_eq!(said["origin"]["pinned"], true);
    let folder = said["origin"]["folder"].as_str().unwrap();
    assert!(folder.ends_with("files/insects/v1"), "{folder}");
    // The archive itself is gone, and the network is not asked again.
    assert_eq!(server.asked().len(), 1);
    assert_eq!(place.json(&["data", "config.toml"]), said);
    assert_eq!(server.asked().len(), 1);
    let left = fs::read_dir(place.path("cache/xp/data/downloads")).unwrap();
    let left: Vec<_> = left
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".lock"))
        .collect();
    assert!(left.is_empty(), "{left:?}");

    let output = place.run(&["data", "config.toml"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(&format!("\nfrom   {}/insects.tgz\n", server.endpoint)));
    assert!(text.contains(&format!("\nsha256 {sum}\n")), "{text}");

    // Another folder of the archive, and one that is not there.
    let said = place.json(&["data", "config.toml", "--set", "data.inside=insects/v1"]);
    assert_eq!(said["pictures"], 20);
    let error = place.error(&["data", "config.toml", "--set", "data.inside=birds"]);
    assert!(error.contains("the archive holds no folder `birds`; it holds `insects`"));

    // Files that went missing are noticed.
    let gone = PathBuf::from(folder).join("ants/0.png");
    fs::remove_file(gone).unwrap();
    let error = place.error(&["data", "config.toml"]);
    assert!(
        error.contains("was changed since it was unpacked"),
        "{error}"
    );
    assert!(
        error.contains("help: delete the folder `DIR/cache/xp/data/"),
        "{error}"
    );
}

#[test]
fn a_download_that_broke_off_goes_on_in_the_next_run() {
    let place = Place::new();
    let archive = tgz(&insects(""));
    let half = archive.len() / 2;
    let (content, sum) = (archive.clone(), sha256(&archive));
    let server = Loopback::serve(move |asked, before| match before {
        0 => Reply::file(&content, "v1", asked).cut(half),
        1..=4 => Reply::status(503),
        _ => Reply::file(&content, "v1", asked),
    });
    let data = format!(
        "url = \"{}/insects.tgz\"\nsha256 = \"{sum}\"",
        server.endpoint
    );
    place.write("config.toml", config(&data, 2));
    let error = place.error(&["data", "config.toml"]);
    assert!(error.contains("cannot download"), "{error}");
    assert!(error.contains("status 503"), "{error}");
    assert!(error.contains("help: download http"), "{error}");
    assert_eq!(place.json(&["data", "config.toml"])["pictures"], 20);
    let last = server.asked().pop().unwrap();
    assert_eq!(last.range, Some((half, None)));
    assert_eq!(last.if_range.as_deref(), Some("\"v1\""));
}

#[test]
fn what_is_not_the_file_is_refused() {
    let place = Place::new();
    let archive = tgz(&insects(""));
    let content = archive.clone();
    let server = Loopback::serve(move |asked, _| match asked.path.as_str() {
        "/there.tgz" => Reply::file(&content, "v1", asked),
        "/moved.tgz" => Reply::redirect("/there.tgz"),
        "/cut.tgz" => Reply::file(&content[..content.len() / 2], "v1", asked),
        "/none.tgz" => Reply::file(b"<html>sorry</html>", "v1", asked),
        _ => Reply::status(404),
    });
    let error = |name: &str, sum: &str| {
        let data = format!("url = \"{}/{name}\"\nsha256 = \"{sum}\"", server.endpoint);
        place.write("config.toml", config(&data, 2));
        place.error(&["data", "config.toml"])
    };
    let sum = sha256(&archive);
    let text = error("gone.tgz", &sum);
    assert!(text.contains("there is no such file (404)"), "{text}");
    let text = error("there.tgz", &"0".repeat(64));
    assert!(
        text.contains(&format!("its SHA-256 is {sum}, not 0000")),
        "{text}"
    );
    let text = error("cut.tgz", &sha256(&archive[..archive.len() / 2]));
    assert!(text.contains("cannot be unpacked"), "{text}");
    let text = error("none.tgz", &sha256(b"<html>sorry</html>"));
    assert!(text.contains("no archive in a known format"), "{text}");
    // Nothing of it counts as data.
    let data = format!(
        "url = \"{}/moved.tgz\"\nsha256 = \"{sum}\"",
        server.endpoint
    );
    place.write("config.toml", config(&data, 2));
    assert_eq!(place.json(&["data", "config.toml"])["pictures"], 20);
    // With another pin than that of the file that is here.
    let text = error("moved.tgz", &"1".repeat(64));
    assert!(text.contains(&format!("SHA-256 {sum}, not 1111")), "{text}");
}

#[test]
fn a_hostile_archive_leaves_nothing() {
    let place = Place::new();
    let mut header = tar::Header::new_gnu();
    let name = b"../../../../escaped.png";
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name);
    header.set_size(1);
    header.set_cksum();
    let mut archive = tar::Builder::new(Vec::new());
    archive.append(&header, &b"x"[..]).unwrap();
    let (server, sum) = served(&archive.into_inner().unwrap());
    let data = format!("url = \"{}/bad.tar\"\nsha256 = \"{sum}\"", server.endpoint);
    place.write("config.toml", config(&data, 2));
    let error = place.error(&["data", "config.toml"]);
    assert!(error.contains("leads out of it"), "{error}");
    assert!(error.contains("help: do not trust it"), "{error}");
    let mut found = Vec::new();
    names(place.folder.path(), &mut found);
    assert!(
        !found.iter().any(|name| name.ends_with(".png")),
        "{found:?}"
    );
}

fn names(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        found.push(path.display().to_string());
        if path.is_dir() {
            names(&path, found);
        }
    }
}

#[test]
fn two_processes_share_one_download() {
    let place = Place::new();
    let (server, sum) = served(&tgz(&insects("")));
    let data = format!(
        "url = \"{}/insects.tgz\"\nsha256 = \"{sum}\"",
        server.endpoint
    );
    place.write("config.toml", config(&data, 2));
    std::thread::scope(|scope| {
        for sheet in ["1.png", "2.png", "3.png"] {
            let place = &place;
            scope.spawn(move || {
                let said = place.json(&["data", "config.toml", "--sheet", sheet]);
                assert_eq!(said["pictures"], 20);
            });
        }
    });
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn an_address_on_the_command_line_has_a_sum_of_its_own() {
    let place = Place::new();
    let (server, sum) = served(&tgz(&insects("")));
    let data = "url = \"http://127.0.0.1:9/other.tgz\"\nsha256 = \"00\"\ninside = \"other\"";
    let data = data.replace("\"00\"", &format!("\"{}\"", "0".repeat(64)));
    place.write("config.toml", config(&data, 2));
    let url = format!("data.url={}/insects.tgz", server.endpoint);
    let sum = format!("data.sha256={sum}");
    let said = place.json(&["data", "config.toml", "--set", &url, "--set", &sum]);
    let from = said["origin"]["from"].as_str().unwrap();
    assert!(from.ends_with("insects.tgz"), "{from}");
    // A name stands for another address than the file's.
    let preset = place.run(&["check", "config.toml", "--set", "data.preset=ants_bees"]);
    let stderr = String::from_utf8_lossy(&preset.stderr);
    assert!(preset.status.success(), "{stderr}");
}

#[test]
fn parquet_files_of_one_name_keep_apart_and_none_is_left_out() {
    let place = Place::new();
    let files = ["train-00000-of-00001", "test-00000-of-00001"];
    let [train, test] =
        files.map(|name| fs::read(fixture(&format!("flowers/data/{name}.parquet"))).unwrap());
    place.write("set/data/train.parquet", train);
    place.write("set/data_train.parquet", test);
    place.write("config.toml", config("parquet = \"set\"", 3));
    let said = place.json(&["data", "config.toml"]);
    let total: u64 = said["total"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_u64().unwrap())
        .sum();
    assert_eq!(total, 12 + 6);
    #[cfg(unix)]
    {
        let link = place.path("set/validation.parquet");
        std::os::unix::fs::symlink("nowhere", link).unwrap();
        let error = place.error(&["data", "config.toml"]);
        assert!(error.contains("validation.parquet"), "{error}");
    }
}

#[test]
fn a_preset_comes_from_a_mirror() {
    let place = Place::new();
    let mut files = insects("hymenoptera_data/train/");
    for n in 20..26 {
        let class = ["ants", "bees"][n % 2];
        files.push((format!("hymenoptera_data/val/{class}/{n}.png"), picture(n)));
    }
    let (server, sum) = served(&tgz(&files));
    let data = format!(
        "preset = \"ants_bees\"\nurl = \"{}/h.zip\"\nsha256 = \"{sum}\"\nsplit = {{ by = \"folders\" }}",
        server.endpoint
    );
    place.write("config.toml", config(&data, 2));
    let said = place.json(&["data", "config.toml"]);
    assert_eq!(said["total"], serde_json::json!([20, 6, 0]));
    let from = said["origin"]["from"].as_str().unwrap();
    assert!(from.starts_with("ants_bees: http://127.0.0.1"), "{from}");
    assert!(
        said["origin"]["licence"]
            .as_str()
            .unwrap()
            .contains("ImageNet")
    );
    let given = place.json(&["data", "config.toml", "--set", "data.split.by=given"]);
    assert_eq!(given, said);
    // A folder on the command line is meant instead.
    for (name, content) in insects("photos/") {
        place.write(&name, content);
    }
    let root = place.path("photos").display().to_string();
    let said = place.json(&[
        "data",
        "config.toml",
        "--set",
        &format!("data.root={root}"),
        "--set",
        "data.split.by=ratio",
    ]);
    assert_eq!(said["origin"]["from"], root.as_str());
    assert_eq!(said["total"], serde_json::json!([16, 2, 2]));
}

fn fixture(path: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet");
    folder.join(path)
}

#[test]
fn parquet_files_are_read() {
    let place = Place::new();
    let open = |data: &str| {
        let store = place.path("store").display().to_string();
        let toml = format!("download_dir = '{store}'\n{data}");
        let config: xp::config::DataConfig = toml::from_str(&toml).unwrap();
        xp::data::Dataset::open(&config, 3).map_err(|error| format!("{error}\n{}", error.help()))
    };
    let flowers = fixture("flowers").display().to_string();
    let given = format!("parquet = '{flowers}'\nsplit = {{ by = 'given' }}");
    let dataset = open(&given).unwrap();
    assert_eq!(dataset.classes, ["daisy", "rose", "tulip"]);
    assert_eq!(dataset.counts(), [[4, 1, 2], [4, 1, 2], [4, 1, 2]]);
    let first = &dataset.items[0];
    assert_eq!(first.path, "data_test-00000-of-00001/000000.png");
    assert_eq!(dataset.classes[first.label], "rose");
    assert_eq!((first.width, first.height), (6, 5));
    // The second time it is there.
    let again = open(&given).unwrap();
    assert_eq!(again.split_fingerprint, dataset.split_fingerprint);
    let ratio = open(&format!("parquet = '{flowers}'")).unwrap();
    assert_eq!(ratio.items.len(), 21);

    let plain = fixture("plain.parquet").display().to_string();
    let dataset = open(&format!(
        "parquet = ['{plain}']\nsplit = {{ test = 0, val = 0.2 }}"
    ));
    let dataset = dataset.unwrap();
    assert_eq!(dataset.classes, ["daisy", "rose"]);
    assert_eq!(dataset.items.len(), 8);
    let error = open(&format!("parquet = '{plain}'\nsplit = {{ by = 'given' }}")).unwrap_err();
    assert!(
        error.contains("`split.by = \"given\"` needs files named"),
        "{error}"
    );

    let numbers = fixture("numbers.parquet").display().to_string();
    let whole = format!("parquet = '{numbers}'\nsplit = {{ train = 1, val = 0, test = 0 }}");
    let error = open(&whole).unwrap_err();
    assert!(
        error.starts_with("2 of 13 pictures cannot be used"),
        "{error}"
    );
    let dataset = open(&format!("on_corrupt = 'skip'\n{whole}")).unwrap();
    let expected: Vec<String> = (0..11).map(|number| format!("{number:02}")).collect();
    assert_eq!(dataset.classes, expected);
    let issues: Vec<String> = dataset
        .issues
        .iter()
        .map(|row| format!("{} {}: {}", row.kind, row.path, row.reason))
        .collect();
    insta::assert_snapshot!(issues.join("\n"), @r"
    unlabelled numbers/000011: there is no label in this row
    missing numbers/000012: there is no picture in this row
    unlabelled numbers/000013: the label -1 is none
    missing numbers/000014: there is no picture in this row
    ");

    let two = fixture("two_labels.parquet").display().to_string();
    let shares = "split = { train = 0.5, val = 0.5, test = 0 }";
    let error = open(&format!("parquet = '{two}'\n{shares}")).unwrap_err();
    assert!(
        error.contains("several columns of labels, `coarse`, `extra`"),
        "{error}"
    );
    assert!(error.contains("`data.columns = {"), "{error}");
    let columns = "columns = { label = 'coarse' }";
    let dataset = open(&format!("parquet = '{two}'\n{columns}\n{shares}")).unwrap();
    assert_eq!(dataset.classes, ["daisy", "rose"]);
    let columns = "columns = { label = 'fine' }";
    let error = open(&format!("parquet = '{two}'\n{columns}\n{shares}")).unwrap_err();
    assert!(
        error.contains("it has no column `fine`; its columns are `img`, "),
        "{error}"
    );
}

#[test]
fn damaged_parquet_files_are_refused() {
    let place = Place::new();
    let whole = fs::read(fixture("flowers/data/train-00000-of-00001.parquet")).unwrap();
    let open = |bytes: &[u8]| {
        place.write("set.parquet", bytes);
        let toml = format!(
            "parquet = '{}'\ndownload_dir = '{}'",
            place.path("set.parquet").display(),
            place.path("store").display()
        );
        let config: xp::config::DataConfig = toml::from_str(&toml).unwrap();
        xp::data::Dataset::open(&config, 3)
    };
    for length in (0..whole.len()).step_by(97) {
        let error = open(&whole[..length]).unwrap_err();
        assert!(
            error.to_string().contains("set.parquet` cannot be used"),
            "{error}"
        );
    }
    // Whatever a changed byte does, it is an error or other data, and no panic.
    for at in (0..whole.len()).step_by(61) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        let _ = open(&bytes);
    }
    assert!(open(&whole).is_ok());
}

#[test]
fn a_data_set_of_the_hub_is_fetched_once() {
    let place = Place::new();
    let server = Loopback::serve(move |asked, _| {
        let path = asked.path.split('?').next().unwrap();
        if path.starts_with("/api/datasets/xp/flowers/revision/") {
            let files = ["train", "validation", "test"].map(
                |split| serde_json::json!({ "rfilename": format!("data/{split}-00000-of-00001.parquet") }),
            );
            let answer = serde_json::json!({ "sha": "c0ffee", "siblings": files });
            return Reply::whole(answer.to_string().as_bytes());
        }
        match path.strip_prefix("/datasets/xp/flowers/resolve/c0ffee/") {
            Some(file) => {
                let content = fs::read(fixture("flowers").join(file)).unwrap();
                Reply::file(&content, &sha256(&content), asked)
            }
            None => Reply::status(404),
        }
    });
    place.write(
        "config.toml",
        config("hf = \"xp/flowers\"\nsplit = { by = \"given\" }", 3),
    );
    let json = |arguments: &[&str]| {
        let output = place
            .command(arguments)
            .env("HF_ENDPOINT", &server.endpoint)
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), output.stdout, stderr)
    };
    let (code, stdout, stderr) = json(&["data", "config.toml", "--json"]);
    assert_eq!(code, Some(0), "{stderr}");
    let said: serde_json::Value = serde_json::from_slice(&stdout).unwrap();
    assert_eq!(said["total"], serde_json::json!([12, 3, 6]));
    assert_eq!(said["origin"]["commit"], "c0ffee");
    let asked = server.asked().len();
    let (code, again, _) = json(&["data", "config.toml", "--json"]);
    assert_eq!((code, again), (Some(0), stdout));
    assert_eq!(server.asked().len(), asked);
    let (code, _, stderr) = json(&["data", "config.toml", "--set", "data.hf=xp/none"]);
    assert_eq!(code, Some(3));
    assert!(stderr.contains("there is no such data set"), "{stderr}");
}

/// Class folders with names that CSV has to quote.
fn awkward(place: &Place) -> [&'static str; 3] {
    let classes = ["a, b", "say \"hi\"", "two\nlines"];
    for (at, class) in classes.iter().enumerate() {
        for n in 0..10 {
            place.write(&format!("photos/{class}/{n}.png"), picture(10 * at + n));
        }
    }
    classes
}

#[cfg(unix)]
#[test]
fn a_manifest_is_written_on_first_use() {
    let place = Place::new();
    let classes = awkward(&place);
    let split = "split = { by = \"column\", train = 0.6, val = 0.2, test = 0.2 }";
    let data = format!(
        "root = \"photos\"\nmanifest = \"lists/photos.csv\"\ncreate_manifest = true\n{split}"
    );
    place.write("config.toml", config(&data, 3));
    let plan = place.json(&["run", "config.toml", "--dry-run"]);
    assert_eq!(plan["pictures"]["train"], 18);
    assert!(!place.path("lists").exists(), "a dry run writes nothing");
    let said = place.json(&["data", "config.toml"]);
    assert_eq!(said["total"], serde_json::json!([18, 6, 6]));
    let found: Vec<&str> = said["classes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|class| class["class"].as_str().unwrap())
        .collect();
    assert_eq!(found, classes);
    let text = fs::read_to_string(place.path("lists/photos.csv")).unwrap();
    assert!(
        text.starts_with("path,label,split\n\"a, b/0.png\",\"a, b\","),
        "{text}"
    );

    // Later runs read it as it is: whatever the seed, and whatever has been added since.
    place.write("photos/a, b/new.png", picture(99));
    assert_eq!(
        place.json(&["data", "config.toml", "--set", "seed=6"]),
        said
    );
    place.write("lists/photos.csv", text.replace(",test\n", ",val\n"));
    let said = place.json(&["data", "config.toml"]);
    assert_eq!(said["total"], serde_json::json!([18, 12, 0]));

    // The same seed writes the same bytes, another another split.
    fs::remove_file(place.path("photos/a, b/new.png")).unwrap();
    for (seed, same) in [("5", true), ("6", false)] {
        fs::remove_file(place.path("lists/photos.csv")).unwrap();
        place.json(&["data", "config.toml", "--set", &format!("seed={seed}")]);
        let again = fs::read_to_string(place.path("lists/photos.csv")).unwrap();
        assert_eq!(again == text, same, "{seed}");
    }
}

#[test]
fn a_manifest_of_broken_pictures_is_not_written() {
    let place = Place::new();
    for (name, content) in insects("photos/") {
        place.write(&name, content);
    }
    place.write("photos/ants/broken.png", "x");
    let data = "root = \"photos\"\nmanifest = \"photos.csv\"\ncreate_manifest = true";
    place.write("config.toml", config(data, 2));
    let error = place.error(&["data", "config.toml"]);
    assert!(error.contains("1 of 21 pictures cannot be used"), "{error}");
    assert!(!place.path("photos.csv").exists());
    let said = place.json(&["data", "config.toml", "--set", "data.on_corrupt=skip"]);
    assert_eq!(said["pictures"], 20);
    let text = fs::read_to_string(place.path("photos.csv")).unwrap();
    assert!(!text.contains("broken"), "{text}");
}

#[test]
fn classes_follow_those_of_a_label_file() {
    let place = Place::new();
    for (name, content) in insects("photos/") {
        place.write(&name, content);
    }
    let mut labels = Vec::new();
    for n in 0..1000 {
        let name = if n == 700 {
            "bees".into()
        } else {
            format!("thing {n}")
        };
        writeln!(labels, "{n},{name}").unwrap();
    }
    place.write("labels.txt", labels);
    let data = "root = \"photos\"\nlabels = \"labels.txt\"\nsplit = { train = 0.6, val = 0.2, test = 0.2 }";
    place.write("config.toml", config(data, 1001));
    let output = place.run(&["data", "config.toml"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let head: Vec<&str> = text.lines().take(5).collect();
    insta::assert_snapshot!(head.join("\n"), @r"
    class            train      val     test      all
    bees      700        6        2        2       10
    ants     1000        6        2        2       10
    total               12        4        4       20
    and 999 classes without pictures
    ");

    let output = place.run(&["run", "config.toml", "--set", "runs_dir=runs"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert!(
        stderr.contains("data: 2 of 1001 classes, 12 train"),
        "{stderr}"
    );
    let run = fs::read_dir(place.path("runs")).unwrap().next().unwrap();
    let run = run.unwrap().path();
    let split = fs::read_to_string(run.join("split.csv")).unwrap();
    assert!(
        split.contains(",ants,1000,") && split.contains(",bees,700,"),
        "{split}"
    );
    let test = fs::read_to_string(run.join("test.json")).unwrap();
    let test: serde_json::Value = serde_json::from_str(&test).unwrap();
    let told = test["per_class"].as_array().unwrap();
    assert!((2..=6).contains(&told.len()), "{}", told.len());
    assert_eq!(test["confusion"].as_array().unwrap().len(), told.len());
    assert_eq!(test["images"], 4);

    let run = run.display().to_string();
    let output = place.run(&["evaluate", &run]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().count() < 10, "{text}");
    let output = place.run(&["evaluate", &run, "--data", "photos"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("of 20 pictures"), "{text}");

    let error = String::from_utf8(
        place
            .run(&["run", "config.toml", "--set", "data.labels=imagenet"])
            .stderr,
    );
    assert!(error.unwrap().contains("the data has 1002 classes"));
    let error = place.error(&["data", "config.toml", "--set", "data.labels=none.txt"]);
    assert!(
        error.contains("the data labels `DIR/none.txt` does not exist"),
        "{error}"
    );
}

#[test]
fn classes_are_cut_to_so_many_pictures() {
    let place = Place::new();
    for n in 0..50 {
        let class = if n < 12 { "few" } else { "many" };
        place.write(&format!("photos/{class}/{n}.png"), picture(n));
    }
    place.write(
        "config.toml",
        config("root = \"photos\"\nmax_per_class = 20", 2),
    );
    let said = place.json(&["data", "config.toml"]);
    assert_eq!(said["pictures"], 32);
    assert_eq!(said["left_out"], 18);
    let counts = &said["classes"][1];
    assert_eq!(
        (&counts["train"], &counts["val"], &counts["test"]),
        (&16.into(), &2.into(), &2.into())
    );
    let output = place.run(&["data", "config.toml"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("18 pictures left out by `max_per_class`"),
        "{text}"
    );
    // Which ones does not depend on their names.
    let before = said["data_fingerprint"].clone();
    fs::rename(
        place.path("photos/few/0.png"),
        place.path("photos/few/renamed.png"),
    )
    .unwrap();
    let said = place.json(&["data", "config.toml"]);
    assert_eq!(said["left_out"], 18);
    assert_ne!(said["data_fingerprint"], before);
}
