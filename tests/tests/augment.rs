//! Random changes of training pictures in whole runs: bits, caches, phases, the contact sheet.

use std::fs;
use std::process::Command;

use super::feature_cache::Place;

/// Every change there is.
const ALL: &str = "data.augment={ flip_horizontal = true, flip_vertical = true, rotate = 20, \
                   random_resized_crop = true, trivial_augment = true, \
                   color_jitter = { brightness = 0.3, contrast = 0.3, saturation = 0.3, hue = 0.1 }, \
                   erase = { probability = 0.5, fill = 'noise' } }";

/// The same in two views.
fn in_views() -> String {
    ALL.replacen("{ flip", "{ views = 2, flip", 1)
}

#[test]
fn all_changes_give_the_same_bits_whatever_the_threads() {
    let place = Place::new();
    let mixed = "phase=[{ name = 'fine_tune', freeze_before = 'block_14_expand', epochs = 3, \
                 mixup = 0.2, cutmix = 1.0, optimizer = { kind = 'adam', lr = 1e-3 } }]";
    let run = |threads: &str| place.run(&[ALL, mixed, "train.label_smoothing=0.1", threads]);
    let one = run("threads=1");
    assert_eq!(one.counts()[0], 8, "validation and test: {}", one.stderr);
    for threads in ["threads=1", "threads=2", "threads=7"] {
        assert!(run(threads).results() == one.results(), "{threads}");
    }
    let other = run("seed=7");
    assert!(other.results().0 != one.results().0);
}

#[test]
fn a_phase_without_changes_trains_on_cached_features() {
    let place = Place::new();
    let phases = |head: &str| {
        format!(
            "phase=[{{ name = 'head', freeze = 'all', epochs = 2, {head}, \
             optimizer = {{ kind = 'adam', lr = 1e-2 }} }}, \
             {{ name = 'fine_tune', freeze_before = 'block_14_expand', epochs = 1, \
             optimizer = {{ kind = 'adam', lr = 1e-4 }} }}]"
        )
    };
    let plain = phases("augment = false");
    let off = place.run(&[ALL, &plain, "cache.features=false"]);
    let cold = place.run(&[ALL, &plain]);
    // The head's 12 train pictures; 4 val pictures of two layers; 4 test pictures.
    assert_eq!(cold.counts(), [24, 0, 24], "{}", cold.stderr);
    assert!(cold.results() == off.results());
    let warm = place.run(&[ALL, &plain]);
    assert_eq!(warm.counts(), [24, 24, 0], "{}", warm.stderr);
    assert!(warm.results() == off.results());

    let changed = place.run(&[ALL, &phases("augment = true")]);
    assert_eq!(changed.counts()[0], 12, "{}", changed.stderr);
    assert!(changed.results().0[1] != off.results().0[1]);
    // The features of the first phase are those of other pictures than the second one sees.
    let mixed = "phase=[{ name = 'head', freeze = 'all', epochs = 1, augment = false, \
                 optimizer = { kind = 'adam', lr = 1e-2 } }, \
                 { name = 'mixed', freeze = 'all', epochs = 1, augment = false, mixup = 0.5, \
                 optimizer = { kind = 'adam', lr = 1e-2 } }]";
    let cached = place.run(&[ALL, mixed]);
    assert_eq!(cached.counts()[0], 20, "{}", cached.stderr);
    assert!(cached.results() == place.run(&[ALL, mixed, "cache.features=false"]).results());
    let apart = place.run(&[ALL, &mixed.replace("mixup = 0.5", "mixup = 0")]);
    assert!(cached.results().0[1] == apart.results().0[1]);
    assert!(cached.results().0[2] != apart.results().0[2]);
}

#[test]
fn views_are_the_same_bits_off_cold_warm_and_mapped() {
    let place = Place::new();
    let views = in_views();
    let with = |more: &str| place.run(&[&views, "phase[0].epochs=3", more]);
    let off = with("cache.features=false");
    let cold = with("cache.memory=0MB");
    // Two layers of 12 train pictures in two views and of 4 val pictures; 4 test pictures.
    let lines = cold
        .stderr
        .matches("12 train pictures in 2 views each")
        .count();
    assert_eq!(lines, 2, "{}", cold.stderr);
    assert!(cold.results() == off.results());
    let warm = with("cache.memory=1GB");
    let reused = warm.stderr.matches("in 2 views each, 24 reused").count();
    assert_eq!(reused, 2, "{}", warm.stderr);
    assert!(warm.results() == off.results());
    assert!(with("cache.memory=0MB").results() == off.results());
    assert!(with("cache.disk=false").results() == off.results());

    // Another picture changes no other's views, and another seed or change all of them.
    let all = "data.split={ train = 1.0, val = 0.0, test = 0.0 }";
    place.run(&[&views, all]);
    place.draw("b", 4, 1);
    let warm = place.run(&[&views, all]);
    assert!(
        warm.stderr
            .contains("in 2 views each, 38 reused, 2 computed"),
        "{}",
        warm.stderr
    );
    let other = place.run(&[&views.replace("rotate = 20", "rotate = 21")]);
    assert!(
        other.stderr.contains("in 2 views each, 0 reused"),
        "{}",
        other.stderr
    );
    let seed = place.run(&[&views, "seed=7"]);
    assert!(
        seed.stderr.contains("in 2 views each, 0 reused"),
        "{}",
        seed.stderr
    );
}

#[test]
fn the_contact_sheet_shows_several_draws_of_a_picture() {
    let place = Place::new();
    let sheet = |sets: &[&str]| {
        let config = place.command(&[]).get_args().nth(1).unwrap().to_owned();
        let path = place.features().with_extension("png");
        let mut command = Command::new(env!("CARGO_BIN_EXE_xp"));
        command.arg("data").arg(config).arg("--sheet").arg(&path);
        for set in sets {
            command.args(["--set", set]);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let picture = image::load_from_memory(&fs::read(path).unwrap()).unwrap();
        (picture.width(), picture.height())
    };
    // Tiles of 32 pixels, gaps of 6, lines of 26: a class name above each block of rows.
    assert_eq!(sheet(&[]), (320, 6 + 2 * (26 + 38)));
    assert_eq!(sheet(&[ALL]), (320, 6 + 2 * (26 + 2 * 38)));
    assert_eq!(sheet(&[&in_views()]), (320, 6 + 2 * (26 + 2 * 38)));
}
