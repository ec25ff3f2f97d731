//! `xp plot`.

use std::fs;
use std::path::Path;
use std::process::Command;

use insta::assert_snapshot;

/// What can be drawn of a run.
pub(super) const KINDS: [&str; 7] = [
    "curves",
    "lr",
    "confusion",
    "roc",
    "pr",
    "classes",
    "mistakes",
];

const HEADER: &str = "phase,phase_epoch,epoch,step,lr,train_loss,train_accuracy,val_loss,\
                      val_accuracy,images_per_second,seconds\n";
const ROWS: &str = "\
feature_extraction,0,0,0,0.0,,,1.61,0.21,0.0,1.5
feature_extraction,1,1,25,0.0001,1.2,0.5,0.9,0.7,151.2,5.1
fine_tune,1,2,50,0.00001,0.8,0.75,0.6,0.8125,92.0,9.75
";

/// Stdout, stderr and exit code of `xp plot` in a folder, in one text.
fn plot(folder: &Path, args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_xp"))
        .arg("plot")
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    format!(
        "exit {}\n{}{}",
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr)
    )
}

/// `test.json` of 20 pictures of some classes, all right but for two.
fn test_json(classes: &[&str]) -> String {
    let count = classes.len();
    let mut confusion = vec![vec![0; count]; count];
    for (index, row) in confusion.iter_mut().enumerate() {
        row[index] = 20 / count - 1;
        row[(index + 1) % count] += 1;
    }
    let class = |name: &&str| {
        serde_json::json!({
            "class": name, "support": 20 / count, "precision": 0.9, "recall": 0.9, "f1": 0.9
        })
    };
    let report = serde_json::json!({
        "split": "test", "checkpoint": "best", "images": 20, "loss": 0.5, "accuracy": 0.9,
        "accuracy_interval": [0.7, 0.97], "confusion": confusion,
        "per_class": classes.iter().map(class).collect::<Vec<_>>(),
    });
    report.to_string()
}

const PREDICTIONS: &str = "\
path,class,predicted,correct,confidence
cat/1.jpg,cat,cat,true,0.9
cat/2.jpg,cat,dog,false,0.7
dog/1.jpg,dog,dog,true,0.7
dog/2.jpg,dog,dog,true,0.6
";

/// A run directory with some files.
fn make_run(folder: &Path, name: &str, files: &[(&str, &str)]) {
    let run = folder.join(name);
    fs::create_dir_all(&run).unwrap();
    for (file, text) in files {
        fs::write(run.join(file), text).unwrap();
    }
}

fn is_png(path: &Path) -> bool {
    fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"\x89PNG\r\n\x1a\n"))
}

#[test]
fn one_run_is_drawn_from_its_tables_alone() {
    let folder = tempfile::tempdir().unwrap();
    let test = r#"{
        "split": "test", "checkpoint": "best", "images": 4, "loss": 0.5, "accuracy": 0.75,
        "accuracy_interval": [0.3, 0.95], "confusion": [[2, 0], [1, 1]],
        "per_class": [
            { "class": "cat", "support": 2, "precision": 0.66, "recall": 1.0, "f1": 0.8 },
            { "class": "dog", "support": 2, "precision": 1.0, "recall": 0.5, "f1": 0.66 }
        ]
    }"#;
    let metrics = format!("{HEADER}{ROWS}");
    let files = [
        ("metrics.csv", metrics.as_str()),
        ("test.json", test),
        ("manifest.json", "{"),
    ];
    make_run(folder.path(), "2026-11-21T18-03-11_cats_ab12cd", &files);
    let run = folder.path().join("2026-11-21T18-03-11_cats_ab12cd");
    assert_snapshot!(plot(folder.path(), &["2026-11-21T18-03-11_cats_ab12cd"]), @r#"
    exit 0
    2026-11-21T18-03-11_cats_ab12cd/curves.png
    2026-11-21T18-03-11_cats_ab12cd/confusion.png
    "#);
    assert!(is_png(&run.join("curves.png")) && is_png(&run.join("confusion.png")));

    assert_snapshot!(plot(&run, &[".", "--output", "mine.png", "--json"]), @r#"
    exit 0
    {"pictures":["mine.png"]}
    "#);
    let drawn = fs::read(run.join("mine.png")).unwrap();
    assert_eq!(drawn, fs::read(run.join("curves.png")).unwrap());
}

#[test]
fn several_runs_are_overlaid() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = format!("{HEADER}{ROWS}");
    for name in ["a", "b"] {
        make_run(folder.path(), name, &[("metrics.csv", &metrics)]);
    }
    assert_snapshot!(plot(folder.path(), &["a", "b"]), @r#"
    exit 0
    compare.png
    "#);
    assert!(is_png(&folder.path().join("compare.png")));
    assert_snapshot!(plot(folder.path(), &["a", "b", "-o", "no/such/folder.png"]), @r#"
    exit 1
    error: cannot write `no/such/folder.png`: its folder does not exist; check the path
    "#);
}

#[test]
fn what_cannot_be_drawn_is_said() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("pictures")).unwrap();
    fs::write(folder.path().join("a.toml"), "").unwrap();
    make_run(folder.path(), "early", &[("resolved.toml", "")]);
    make_run(folder.path(), "empty", &[("metrics.csv", "")]);
    make_run(folder.path(), "header", &[("metrics.csv", HEADER)]);
    let wrong = format!("{HEADER}{ROWS}").replace("0.8125", "eighty");
    make_run(folder.path(), "wrong", &[("metrics.csv", &wrong)]);
    make_run(folder.path(), "foreign", &[("metrics.csv", "a,b\n1,2\n")]);
    let all = [
        "absent", "pictures", "a.toml", "early", "empty", "header", "wrong", "foreign",
    ];
    let said: Vec<String> = all.iter().map(|run| plot(folder.path(), &[run])).collect();
    assert_snapshot!(said.join("\n"), @r#"
        exit 2
        error: `absent` is not a run directory: there is no such folder
          help: give a folder made by `xp run`, for example `runs/2026-11-21T18-03-11_NAME_ab12cd`

        exit 2
        error: `pictures` is not a run directory: it has no `metrics.csv`, `manifest.json` or `resolved.toml`
          help: give a folder made by `xp run`, for example `runs/2026-11-21T18-03-11_NAME_ab12cd`

        exit 2
        error: `a.toml` is not a run directory: it is a file
          help: give a folder made by `xp run`, for example `runs/2026-11-21T18-03-11_NAME_ab12cd`

        exit 1
        error: `early/metrics.csv` is not there
          help: the run ended before its first epoch; run it again with `xp run`

        exit 1
        error: `empty/metrics.csv` has no rows
          help: the run has not finished an epoch; wait for the first one

        exit 1
        error: `header/metrics.csv` has no rows
          help: the run has not finished an epoch; wait for the first one

        exit 1
        error: `wrong/metrics.csv` is damaged: line 4, `val_accuracy`: invalid float literal
          help: correct or delete that line; the first line names the columns

        exit 1
        error: `foreign/metrics.csv` is damaged: line 2: missing field `phase`
          help: correct or delete that line; the first line names the columns
        "#);
}

#[test]
fn torn_tail_and_damaged_test_are_warnings() {
    let folder = tempfile::tempdir().unwrap();
    let torn = format!("{HEADER}{ROWS}fine_tune,2,3,75,0.0000");
    make_run(
        folder.path(),
        "torn",
        &[("metrics.csv", &torn), ("test.json", "{\n")],
    );
    assert_snapshot!(plot(folder.path(), &["torn"]), @r#"
    exit 0
    torn/curves.png
    warning: `torn/metrics.csv` ends in the middle of a row; that row is left out
    warning: `confusion.png` is not drawn: `torn/test.json` is damaged: EOF while parsing an object at line 2 column 0
    "#);
}

#[test]
fn every_kind_is_drawn_in_both_formats_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = format!("{HEADER}{ROWS}");
    let test = test_json(&["cat", "dog"]);
    let files = [
        ("metrics.csv", metrics.as_str()),
        ("test.json", &test),
        ("predictions.csv", PREDICTIONS),
    ];
    make_run(folder.path(), "run", &files);
    fs::create_dir(folder.path().join("paper")).unwrap();
    assert_snapshot!(plot(folder.path(), &["run", "--kind", "all"]), @"
    exit 0
    run/curves.png
    run/lr.png
    run/confusion.png
    run/roc.png
    run/pr.png
    run/classes.png
    run/mistakes.png
    warning: `mistakes` has no pictures: cannot read `run/resolved.toml`: No such file or directory (os error 2)
    ");
    let svg = plot(
        folder.path(),
        &[
            "run", "--kind", "all", "--format", "svg", "-o", "paper", "--json",
        ],
    );
    assert_snapshot!(svg, @r#"
    exit 0
    {"pictures":["paper/curves.svg","paper/lr.svg","paper/confusion.svg","paper/roc.svg","paper/pr.svg","paper/classes.svg","paper/mistakes.svg"]}
    warning: `mistakes` has no pictures: cannot read `run/resolved.toml`: No such file or directory (os error 2)
    "#);
    for kind in KINDS {
        assert!(
            is_png(&folder.path().join(format!("run/{kind}.png"))),
            "{kind}"
        );
        let svg = fs::read(folder.path().join(format!("paper/{kind}.svg"))).unwrap();
        let again = folder.path().join(format!("{kind}.svg"));
        plot(
            folder.path(),
            &["run", "--kind", kind, "-o", again.to_str().unwrap()],
        );
        assert!(fs::read(again).unwrap() == svg, "{kind} differs");
        assert!(svg.starts_with(b"<?xml") && svg.ends_with(b"</svg>\n"));
    }
}

#[test]
fn what_a_run_lacks_and_where_pictures_cannot_go_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = format!("{HEADER}{ROWS}");
    let (two, three) = (
        test_json(&["cat", "dog"]),
        test_json(&["cat", "dog", "emu"]),
    );
    let broken = PREDICTIONS.replace("0.6", "NaN");
    let sure = "path,class,cat,dog,emu\ncat/1.jpg,cat,0.5,NaN,0.5\n";
    let runs: [(&str, &[(&str, &str)]); 5] = [
        ("untested", &[]),
        (
            "three",
            &[("test.json", &three), ("predictions.csv", PREDICTIONS)],
        ),
        ("lost", &[("test.json", &two)]),
        ("nan", &[("test.json", &two), ("predictions.csv", &broken)]),
        (
            "table",
            &[("test.json", &three), ("probabilities.csv", sure)],
        ),
    ];
    for (name, files) in runs {
        make_run(
            folder.path(),
            name,
            &[&[("metrics.csv", metrics.as_str())], files].concat(),
        );
    }
    let cases: [&[&str]; 13] = [
        &["untested", "--kind", "all"],
        &["untested", "--kind", "curves,roc"],
        &["three", "--kind", "roc"],
        &["lost", "--kind", "pr"],
        &["lost", "--kind", "mistakes"],
        &["nan", "--kind", "roc"],
        &["nan", "--kind", "mistakes"],
        &["table", "--kind", "pr"],
        &["table", "--kind", "all"],
        &["nan", "--kind", "roc,pr", "-o", "one.png"],
        &["nan", "--kind", "lr", "-o", "one.png", "--format", "svg"],
        &["nan", "lost", "--kind", "roc"],
        &["nan", "--kind", "rock"],
    ];
    let said = cases.map(|case| format!("{}\n{}", case.join(" "), plot(folder.path(), case)));
    assert_snapshot!(said.join("\n"), @r#"
        untested --kind all
        exit 0
        untested/curves.png
        untested/lr.png
        `untested/test.json` is not there: drawn is what needs no test

        untested --kind curves,roc
        exit 1
        error: `untested/test.json` is not there
          help: the run has no test split (`data.split`), or has not come to its test yet

        three --kind roc
        exit 1
        error: `three/probabilities.csv` is not there
          help: `predictions.csv` alone tells the probabilities of two classes; a run of more keeps them since that file exists, unless it has millions of them

        lost --kind pr
        exit 1
        error: `lost/predictions.csv` is not there
          help: the run has no test split (`data.split`), or has not come to its test yet

        lost --kind mistakes
        exit 1
        error: `lost/predictions.csv` is not there
          help: the run has no test split (`data.split`), or has not come to its test yet

        nan --kind roc
        exit 1
        error: `nan/predictions.csv` is damaged: line 5: NaN is no probability
          help: correct or delete that line

        nan --kind mistakes
        exit 0
        nan/mistakes.png
        warning: `mistakes` has no pictures: cannot read `nan/resolved.toml`: No such file or directory (os error 2)

        table --kind pr
        exit 1
        error: `table/probabilities.csv` is damaged: line 2, `dog`: `NaN` is no probability
          help: correct or delete that line; the first line names the columns

        table --kind all
        exit 0
        table/curves.png
        table/lr.png
        table/confusion.png
        table/classes.png
        warning: `roc.png` is not drawn: `table/probabilities.csv` is damaged: line 2, `dog`: `NaN` is no probability
        warning: `pr.png` is not drawn: `table/probabilities.csv` is damaged: line 2, `dog`: `NaN` is no probability
        warning: `mistakes.png` is not drawn: `table/predictions.csv` is not there

        nan --kind roc,pr -o one.png
        exit 2
        error: `one.png` is no folder, and cannot hold 2 pictures
          help: give a folder that exists, or one `--kind`

        nan --kind lr -o one.png --format svg
        exit 2
        error: `one.png` does not end as `--format svg` does
          help: change one of them, or leave out `--format`

        nan lost --kind roc
        exit 2
        error: `roc` is drawn of one run at a time
          help: of several runs only their `curves` are overlaid

        nan --kind rock
        exit 2
        error: invalid value 'rock' for '--kind <KIND>'
          [possible values: curves, lr, confusion, roc, pr, classes, mistakes, all]

          tip: a similar value exists: 'roc'

        For more information, try '--help'.
    "#);
}

#[test]
fn several_runs_are_overlaid_as_svg_too() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = format!("{HEADER}{ROWS}");
    for name in ["a", "b"] {
        make_run(folder.path(), name, &[("metrics.csv", &metrics)]);
    }
    assert_snapshot!(plot(folder.path(), &["a", "b", "--format", "svg"]), @"
    exit 0
    compare.svg
    ");
    let svg = fs::read_to_string(folder.path().join("compare.svg")).unwrap();
    assert!(
        svg.contains("<title>Comparison of runs: 2 runs, accuracy and loss in validation</title>")
    );
}
