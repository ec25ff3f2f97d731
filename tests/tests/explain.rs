//! `xp explain`: what a network looked at.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::experiments::{run, succeeds, xp};

fn fixture(name: &str) -> std::path::PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures");
    folder.join(name)
}

#[test]
fn a_model_shows_what_it_looked_at_in_pictures_and_folders() {
    let folder = tempfile::tempdir().unwrap();
    let run = run(folder.path(), &["data.image_size=64"]);
    let run = run.to_str().unwrap();
    let photos = folder.path().join("photos");
    let predict = |photos: &str| -> Vec<Value> {
        let said = succeeds(xp(&["predict", run, photos, "--top", "5", "--json"]));
        serde_json::from_str(&said).unwrap()
    };
    let photo = fixture("photo.png");
    let answer = predict(photo.to_str().unwrap()).remove(0);
    let class = |rank: usize| answer["classes"][rank]["class"].as_str().unwrap();
    // Pictures of one name in the folders of two classes, and one of a single pixel.
    for (folder, name) in [(class(0), "a.png"), (class(1), "a.png"), ("none", "a.png")] {
        fs::create_dir_all(photos.join(folder)).unwrap();
        fs::copy(&photo, photos.join(folder).join(name)).unwrap();
    }
    image::RgbImage::from_pixel(1, 1, image::Rgb([9, 200, 30]))
        .save(photos.join("none/pixel.png"))
        .unwrap();
    let (photos, out) = (photos.to_str().unwrap(), folder.path().join("seen"));
    let out = out.to_str().unwrap();
    let said = succeeds(xp(&["explain", run, photos, "--out", out, "--json"]));
    let explained: Vec<Value> = serde_json::from_str(&said).unwrap();
    assert_eq!(explained.len(), 4);
    for (explained, predicted) in explained.iter().zip(predict(photos)) {
        assert_eq!(explained["path"], predicted["path"]);
        assert_eq!(explained["class"], predicted["classes"][0]["class"]);
        assert_eq!(
            explained["probability"],
            predicted["classes"][0]["probability"]
        );
        assert_eq!(explained["shown"][0]["class"], explained["class"]);
        let path = explained["path"].as_str().unwrap();
        let named = [class(0), class(1)].into_iter();
        let mut named = named.filter(|class| path.contains(&format!("/{class}/")));
        assert_eq!(explained["true_class"].as_str(), named.next(), "{path}");
        let drawn = image::open(explained["out"].as_str().unwrap()).unwrap();
        assert_eq!((drawn.width(), drawn.height()), (674, 376));
    }
    let files: BTreeSet<&str> = explained
        .iter()
        .map(|it| it["out"].as_str().unwrap())
        .collect();
    assert_eq!(files.len(), 4);
    // The same again is the same files, to the byte; another class or layer has its own.
    let contents = || -> Vec<Vec<u8>> { files.iter().map(|it| fs::read(it).unwrap()).collect() };
    let before = contents();
    succeeds(xp(&["explain", run, photos, "--out", out]));
    assert_eq!(contents(), before);
    let other = ["--class", class(1), "--layer", "block_13_expand_BN"];
    let arguments = [&["explain", run, photos, "--out", out][..], &other[..]].concat();
    let lines = succeeds(xp(&arguments));
    assert_eq!(lines.lines().count(), 4);
    let shown = format!(", shown {} ", class(1));
    assert!(lines.lines().all(|line| line.contains(&shown)), "{lines}");
    assert_eq!(contents(), before);
    assert_eq!(fs::read_dir(out).unwrap().count(), 8);

    let arguments = ["explain", run, photos, "--out", out, "--top", "3", "--json"];
    let top: Vec<Value> = serde_json::from_str(&succeeds(xp(&arguments))).unwrap();
    assert_eq!(top[0]["shown"].as_array().unwrap().len(), 3);
    // What cannot be read is told, and the others are shown.
    fs::write(Path::new(photos).join("none/z.png"), "no picture").unwrap();
    let output = xp(&["explain", run, photos, "--out", out]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 4);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("none/z.png"), "{told}");
    assert!(told.contains("1 of 5 pictures could not be read"), "{told}");
}

#[test]
fn what_cannot_be_shown_is_told_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    // So small that the last map is a single pixel: the one before is taken.
    let run = run(folder.path(), &["phase[0].epochs=1", "phase[1].epochs=1"]);
    let (run, photo) = (run.to_str().unwrap(), fixture("photo.png"));
    let photo = photo.to_str().unwrap();
    let out = folder.path().join("seen");
    let explain = |more: &[&str]| {
        let arguments = ["explain", run, photo, "--out", out.to_str().unwrap()];
        let output = xp(&[&arguments[..], more].concat());
        let told = String::from_utf8(output.stderr).unwrap();
        (told, output.status.code())
    };
    for (more, expected) in [
        (
            ["--class", "no such class"],
            vec!["knows no class `no such class`", "help: "],
        ),
        (
            ["--layer", "block_13_expand_bn"],
            vec![
                "has no layer `block_13_expand_bn`",
                "did you mean `block_13_expand_BN`",
            ],
        ),
        (
            ["--layer", "dense"],
            vec![
                "is a vector of 5 values, without places",
                "`block_13_expand_relu`",
            ],
        ),
        (
            ["--layer", "out_relu"],
            vec![
                "is a map of 1 x 1 x 1280, without places",
                "`block_13_expand_relu`",
            ],
        ),
        (["--layer", "input_1"], vec!["is the picture itself"]),
    ] {
        let (told, code) = explain(&more);
        assert_eq!(code, Some(2), "{told}");
        for part in expected {
            assert!(told.contains(part), "{part} in {told}");
        }
        assert!(!out.exists());
    }
    let (told, code) = explain(&["--class", "a", "--top", "2"]);
    assert!(code == Some(2) && told.contains("--top"), "{told}");
    fs::write(&out, "").unwrap();
    let (told, code) = explain(&[]);
    assert!(
        code == Some(1) && told.contains("cannot make the folder"),
        "{told}"
    );
    fs::remove_file(&out).unwrap();
    assert_eq!(explain(&[]), (String::new(), Some(0)));
}
