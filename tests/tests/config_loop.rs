//! What a configuration may say of lengths, evaluations, steps and samples, and what is said of
//! mistakes in it.

use std::path::Path;

use super::config_errors::replace;
use super::config_phases::{said_of, said_with};

const LENGTH: &str = "epochs = 10";

macro_rules! check {
    ($lines:expr, @$snapshot:literal) => {
        insta::assert_snapshot!(said_of(&replace(LENGTH, $lines)), @$snapshot)
    };
}

macro_rules! check_train {
    ($lines:expr, @$snapshot:literal) => {
        insta::assert_snapshot!(said_of(&replace("loss = \"auto\"", $lines)), @$snapshot)
    };
}

#[test]
fn one_length_of_a_phase() {
    check!("", @r#"
    error: `phase[0]` has neither `epochs` nor `steps`
      --> config.toml:19:1
       |
    19 | [[phase]]
       | ^^^^^^^^^
       = help: say how long it trains, for example `epochs = 10`
    "#);
    check!("epochs = 10\nsteps = 300", @r#"
    error: `phase[0]` has both `epochs` and `steps`
      --> config.toml:23:9
       |
    23 | steps = 300
       |         ^^^
       = help: keep one of them
    "#);
    check!("steps = 0", @r#"
    error: `phase[0].steps` must be an integer from 1 to 1000000000, but it is 0
      --> config.toml:22:9
       |
    22 | steps = 0
       |         ^
    "#);
    check!("step = 300", @r#"
    error: unknown key `step` in `phase[0]`
      --> config.toml:22:1
       |
    22 | step = 300
       | ^^^^
       = help: did you mean `steps`?
    "#);
    check!("steps = 300\nevaluate_every = 0", @r#"
    error: `phase[0].evaluate_every` must be an integer of at least 1, but it is 0
      --> config.toml:23:18
       |
    23 | evaluate_every = 0
       |                  ^
    "#);
    check!("steps = 20\nevaluate_every = 30", @r#"
    warning: `phase[0].evaluate_every` is more than the 20 steps of the phase: it is evaluated once, at its end
      --> config.toml:23:18
       |
    23 | evaluate_every = 30
       |                  ^^
       = help: evaluate more often, or take it out
    "#);
    check!("epochs = 10\nevaluate_every = \"epoch\"", @r#"
    error: `phase[0].evaluate_every` must be an integer of at least 1, but it is the string "epoch"
      --> config.toml:23:18
       |
    23 | evaluate_every = "epoch"
       |                  ^^^^^^^
    "#);
}

#[test]
fn schedules_in_steps() {
    let schedule = |length: &str, schedule: &str| {
        let text = format!("{length}\nschedule = {{ {schedule} }}");
        said_of(&replace(LENGTH, &text))
    };
    insta::assert_snapshot!(schedule("steps = 20", "kind = \"cosine\", warmup_steps = 30"), @r#"
    error: the warm-up (30 steps) is longer than the phase (20)
      --> config.toml:23:46
       |
    23 | schedule = { kind = "cosine", warmup_steps = 30 }
       |                                              ^^
       = help: shorten it, or give the phase more steps
    "#);
    insta::assert_snapshot!(schedule("steps = 20", "kind = \"cosine\", warmup_steps = 3, warmup_epochs = 1"), @r#"
    error: `phase[0].schedule` has both `warmup_epochs` and `warmup_steps`
      --> config.toml:23:46
       |
    23 | schedule = { kind = "cosine", warmup_steps = 3, warmup_epochs = 1 }
       |                                              ^
       = help: keep one of them
    "#);
    insta::assert_snapshot!(schedule("epochs = 20", "kind = \"step\", every_epochs = 3, every_steps = 50"), @r#"
    error: `phase[0].schedule` has both `every_epochs` and `every_steps`
      --> config.toml:23:61
       |
    23 | schedule = { kind = "step", every_epochs = 3, every_steps = 50 }
       |                                                             ^^
       = help: keep one of them
    "#);
    insta::assert_snapshot!(schedule("steps = 20", "kind = \"step\", every_steps = 50"), @r#"
    warning: the rate never steps: the phase has 20 steps
      --> config.toml:23:43
       |
    23 | schedule = { kind = "step", every_steps = 50 }
       |                                           ^^
       = help: step earlier, or take the schedule out
    "#);
    insta::assert_snapshot!(schedule("steps = 20", "kind = \"step\""), @r#"
    error: `phase[0].schedule` has neither `every_epochs` nor `every_steps`
      --> config.toml:23:12
       |
    23 | schedule = { kind = "step" }
       |            ^^^^^^^^^^^^^^^^^
       = help: say when the rate drops, for example `every_epochs = 3`
    "#);
}

#[test]
fn clipping() {
    check!("epochs = 10\nclip_norm = 0", @r#"
    error: `phase[0].clip_norm` must be a number greater than 0, but it is 0
      --> config.toml:23:13
       |
    23 | clip_norm = 0
       |             ^
    "#);
    check!("epochs = 10\nclip_value = -1.0", @r#"
    error: `phase[0].clip_value` must be a number greater than 0, but it is -1.0
      --> config.toml:23:14
       |
    23 | clip_value = -1.0
       |              ^^^^
    "#);
    check!("epochs = 10\nclip = 1.0", @r#"
    error: unknown key `clip` in `phase[0]`
      --> config.toml:23:1
       |
    23 | clip = 1.0
       | ^^^^
       = help: did you mean `clip_norm`?
    "#);
}

#[test]
fn settings_of_the_loop() {
    check_train!("accumulate = 0", @r#"
    error: `train.accumulate` must be an integer from 1 to 65536, but it is 0
      --> config.toml:16:14
       |
    16 | accumulate = 0
       |              ^
    "#);
    check_train!("sampling = \"weighted\"", @r#"
    error: unknown value "weighted" for `train.sampling`
      --> config.toml:16:12
       |
    16 | sampling = "weighted"
       |            ^^^^^^^^^^
       = help: known values: `"shuffle"` or `"balanced"`
    "#);
    check_train!("sampling = \"balanced\"\nclass_weights = \"balanced\"", @r#"
    warning: rare classes are made up for twice: by `sampling` and by `class_weights`
      --> config.toml:16:12
       |
    16 | sampling = "balanced"
       |            ^^^^^^^^^^
       = help: keep one of the two
    "#);
    check_train!("micro_batch = 32", @r#"
    warning: `train.micro_batch` does nothing: a batch has 32 pictures
      --> config.toml:16:15
       |
    16 | micro_batch = 32
       |               ^^
       = help: make it smaller, or leave it out
    "#);
    check_train!("ema = 0.999", @r#"
    error: `train.ema` must be a table, but it is 0.999
      --> config.toml:16:7
       |
    16 | ema = 0.999
       |       ^^^^^
    "#);
    check_train!("ema = { decay = 1.0 }", @r#"
    error: `train.ema.decay` must be a number greater than 0 and less than 1, but it is 1.0
      --> config.toml:16:17
       |
    16 | ema = { decay = 1.0 }
       |                 ^^^
    "#);
    check_train!("ema = { decay = 0.999, warm_up = true }", @r#"
    error: unknown key `warm_up` in `train.ema`
      --> config.toml:16:24
       |
    16 | ema = { decay = 0.999, warm_up = true }
       |                        ^^^^^^^
       = help: did you mean `warmup`?
    "#);
    check_train!("eval_batches = 0", @r#"
    error: `train.eval_batches` must be an integer of at least 1, but it is 0
      --> config.toml:16:16
       |
    16 | eval_batches = 0
       |                ^
    "#);
    check_train!("drop_last = 1", @r#"
    error: `train.drop_last` must be true or false, but it is 1
      --> config.toml:16:13
       |
    16 | drop_last = 1
       |             ^
    "#);
    check_train!("test_last = \"yes\"", @r#"
    error: `train.test_last` must be true or false, but it is the string "yes"
      --> config.toml:16:13
       |
    16 | test_last = "yes"
       |             ^^^^^
    "#);
    let text = replace("val = 0.1, test = 0.1", "val = 0, test = 0.2");
    let text = text.replace("loss = \"auto\"", "eval_batches = 3");
    insta::assert_snapshot!(said_of(&text), @r#"
    error: `train.eval_batches` needs validation pictures, but `data.split.val` is 0
      --> config.toml:16:16
       |
    16 | eval_batches = 3
       |                ^
       = help: take it out, or give `data.split.val` a share
    "#);
}

#[test]
fn fewer_pictures_than_a_whole_batch() {
    let folder = tempfile::tempdir().unwrap();
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/quickstart.toml");
    let base = format!("extends = {:?}\n", config.display().to_string());
    let text = base
        + "[train]\ndrop_last = true\nbatch_size = 64\n\
           [data]\ngenerate = { kind = \"patterns\", per_class = 10 }\n";
    insta::assert_snapshot!(said_with(folder.path(), &text), @r#"
    error: there are 30 training pictures, less than the 64 of a batch, and `drop_last` leaves out what is no whole batch
     --> config.toml:3:13
      |
    3 | drop_last = true
      |             ^^^^
      = help: take it out, or make `batch_size` smaller
    "#);
}

#[test]
fn how_often_the_state_is_kept() {
    let every = |every: &str| {
        let section = format!("[checkpoint]\nevery = {every}\n\n[[phase]]");
        said_of(&replace("[[phase]]", &section))
    };
    insta::assert_snapshot!(every("\"epochs\""), @r#"
    error: unknown value "epochs" for `checkpoint.every`
      --> config.toml:20:9
       |
    20 | every = "epochs"
       |         ^^^^^^^^
       = help: did you mean `"epoch"`?
       = help: known values: `"epoch"` or a table with `steps` or `minutes`
    "#);
    insta::assert_snapshot!(every("{ step = 50 }"), @r#"
    error: unknown key `step` in `checkpoint.every`
      --> config.toml:20:11
       |
    20 | every = { step = 50 }
       |           ^^^^
       = help: did you mean `steps`?
    "#);
    insta::assert_snapshot!(every("{ steps = 0 }"), @r#"
    error: `checkpoint.every.steps` must be an integer of at least 1, but it is 0
      --> config.toml:20:19
       |
    20 | every = { steps = 0 }
       |                   ^
    "#);
    insta::assert_snapshot!(every("{ minutes = 0 }"), @r#"
    error: `checkpoint.every.minutes` must be a number greater than 0, but it is 0
      --> config.toml:20:21
       |
    20 | every = { minutes = 0 }
       |                     ^
    "#);
    insta::assert_snapshot!(every("{ steps = 5, minutes = 1 }"), @r#"
    error: unknown key `minutes` in `checkpoint.every`
      --> config.toml:20:22
       |
    20 | every = { steps = 5, minutes = 1 }
       |                      ^^^^^^^
       = help: `minutes` stands in `checkpoint.every`
    "#);
    insta::assert_snapshot!(every("10"), @r#"
    error: `checkpoint.every` must be `"epoch"` or a table with `steps` or `minutes`, but it is 10
      --> config.toml:20:9
       |
    20 | every = 10
       |         ^^
    "#);
}
