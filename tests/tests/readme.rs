//! What the README shows and what ships beside it works.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use clap::Parser;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn readme() -> String {
    fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap()
}

fn xp(args: &[&str]) -> (String, String, Option<i32>) {
    let mut command = Command::cargo_bin("xp").unwrap();
    let output = command.args(args).output().unwrap();
    (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
        output.status.code(),
    )
}

#[test]
fn the_example_loads() {
    let readme = readme();
    let after = readme.split("## Configuration").nth(1).unwrap();
    let example = after.split("```toml\n").nth(1).unwrap();
    let example = example.split("```").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("example.toml");
    fs::write(&path, example).unwrap();
    let (stdout, stderr, code) = xp(&["check", &path.to_string_lossy()]);
    assert_eq!(
        (stdout, stderr.as_str(), code),
        (format!("{}: ok\n", path.display()), "", Some(0))
    );
}

#[test]
fn the_example_of_a_sweep_loads() {
    let readme = readme();
    let section = readme.split("\n## Sweeps").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let blocks = section.split("```toml\n").skip(1);
    let blocks: Vec<&str> = blocks.map(|it| it.split("```").next().unwrap()).collect();
    let folder = tempfile::tempdir().unwrap();
    let quickstart = Path::new(ROOT).join("configs/quickstart.toml");
    fs::copy(quickstart, folder.path().join("flowers.toml")).unwrap();
    let path = folder.path().join("flowers_rates.toml");
    fs::write(&path, blocks.concat()).unwrap();
    let (stdout, stderr, code) = xp(&["check", &path.to_string_lossy()]);
    // 12 combinations less the one that is skipped, with 5 seeds each.
    let expected = format!("{}: ok, 55 trials\n", path.display());
    assert_eq!((stdout, stderr.as_str(), code), (expected, "", Some(0)));
}

#[test]
fn the_command_lines_are_understood() {
    let readme = readme();
    let lines: Vec<&str> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter_map(|line| {
            let launchers = ["mpirun ", "srun ", "torchrun "];
            let is_launched = launchers.iter().any(|it| line.starts_with(it));
            let start = line.find(" xp ").filter(|_| is_launched);
            start.map_or(Some(line), |start| line.get(start + 1..))
        })
        .filter(|line| line.starts_with("xp "))
        .collect();
    assert!(lines.len() >= 5, "{lines:?}");
    for line in lines {
        let parsed = xp::cli::Cli::try_parse_from(line.split_whitespace());
        assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
    }
}

#[test]
fn the_commands_exist() {
    let (help, _, code) = xp(&["--help"]);
    assert_eq!(code, Some(0));
    let readme = readme();
    let named: Vec<&str> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `xp "))
        .filter_map(|rest| rest.split([' ', '`']).next())
        .collect();
    assert!(named.len() >= 9, "{named:?}");
    for name in named {
        let listed = help
            .lines()
            .any(|line| line.split_whitespace().next() == Some(name));
        assert!(listed, "`xp {name}` is not in\n{help}");
    }
}

#[test]
fn shipped_configurations_are_good() {
    let mut checked = 0;
    for entry in fs::read_dir(Path::new(ROOT).join("configs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        if text.contains("weights = \"xp/") && xp::weights::embedded::EMBEDDED.is_empty() {
            continue;
        }
        let (_, stderr, code) = xp(&["check", &path.to_string_lossy()]);
        assert_eq!((stderr.as_str(), code), ("", Some(0)), "{}", path.display());
        checked += 1;
    }
    assert!(checked >= 12, "only {checked} configurations were checked");
}

/// What the table of "Coming from Keras or PyTorch" says of xp, as tables of TOML: what each piece of
/// code sets, and under which section.
fn pieces_of_the_comparison() -> Vec<(String, toml::Table)> {
    let readme = readme();
    let after = readme.split("## Coming from Keras").nth(1).unwrap();
    let section = after.split("\n## ").next().unwrap();
    let mut pieces = Vec::new();
    let mut head = String::new();
    for row in section
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(1)
    {
        // Keras and PyTorch may write `|` no more than TOML does.
        let cell = row.split('|').nth(3).unwrap().trim();
        if let Some(named) = cell.strip_prefix("**`") {
            head = named.strip_suffix("`**").unwrap().to_owned();
            continue;
        }
        for code in cell.split('`').skip(1).step_by(2) {
            let table = code
                .parse()
                .unwrap_or_else(|error| panic!("{code}: {error}"));
            pieces.push((head.clone(), table));
        }
    }
    pieces
}

#[test]
fn the_comparison_is_true() {
    let pieces = pieces_of_the_comparison();
    assert!(pieces.len() > 25, "{}", pieces.len());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("piece.toml");
    let mut wrong = String::new();
    for (head, piece) in pieces {
        let key = piece.keys().next().unwrap().clone();
        let base = r#"
            name = "piece"
            data = { root = "flowers", resize = 256, image_size = 224 }
            model = { backbone = "mobilenet_v2", head = [{ dense = 5 }] }
            train = { batch_size = 16 }
            [[phase]]
            name = "fine_tune"
            epochs = 2
            optimizer = { kind = "adam", lr = 1e-3 }
        "#;
        let mut config: toml::Table = base.parse().unwrap();
        let sections = head.trim_matches(['[', ']']).split('.');
        let mut at = &mut config;
        for section in sections {
            let empty = || toml::Value::Table(toml::Table::new());
            at = match at.entry(section).or_insert_with(empty) {
                toml::Value::Array(phases) => phases[0].as_table_mut().unwrap(),
                section => section.as_table_mut().unwrap(),
            };
        }
        // One says how long a phase is, and one where the pictures are.
        match key.as_str() {
            "steps" => drop(at.remove("epochs")),
            "manifest" => drop(at.remove("root")),
            _ => {}
        }
        at.extend(piece);
        fs::write(&path, toml::to_string(&config).unwrap()).unwrap();
        let (_, stderr, code) = xp(&["check", &path.to_string_lossy()]);
        if (stderr.as_str(), code) != ("", Some(0)) {
            wrong += &format!("{head} {key}\n{stderr}");
        }
    }
    assert_eq!(wrong, "");
}
