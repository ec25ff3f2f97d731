//! The text of the configuration that `xp new` writes.

use super::{Layout, SEED, Starter, Upper, relative, source, split_by};
use crate::graph::summary::thousands;

/// Classes named in a comment.
const NAMED: usize = 5;

impl Starter {
    /// The configuration, for a file of that name.
    pub fn text(&self, file: &str) -> String {
        let mut text = Text::default();
        self.head(&mut text, file);
        self.data(&mut text);
        self.model(&mut text);
        self.train(&mut text);
        self.phases(&mut text);
        text.0
    }

    fn head(&self, text: &mut Text, file: &str) {
        let name = &self.name;
        text.remark(&format!("{name}: {}.", plain(&self.pictures.found())));
        text.remark("Written by `xp new`; every line may be changed, and most may be left out.");
        text.remark("");
        for (command, does) in [
            ("check", "every problem, before any picture is read"),
            ("data", "counts, and a sheet of augmented pictures"),
            ("run", "trains; leaves a directory under runs/"),
        ] {
            let command = format!("xp {command} {}", plain(file));
            text.remark(&format!("    {command:<28} # {does}"));
        }
        text.remark("");
        text.remark("`xp schema` describes every key, `xp models` lists the backbones.");
        text.blank();
        text.line(
            &format!("name = {}", quoted(name)),
            "part of the run directory's name",
        );
        text.line(
            &format!("seed = {SEED}"),
            "of split, shuffling, initialisation, dropout",
        );
    }

    fn data(&self, text: &mut Text) {
        let pictures = &self.pictures;
        text.section("[data]");
        let (key, path) = source(&pictures.layout);
        let path = quoted(&relative(path, &self.folder));
        text.line(&format!("{key} = {path}"), &self.about_source());
        let (split, about) = self.split();
        text.line(&split, &about);
        let [width, height] = pictures.median();
        let size = match self.size > width.min(height) {
            true => "pixels a side: pictures are enlarged",
            false => "pixels a side; fewer are faster, more show more",
        };
        text.line(&format!("image_size = {}", self.size), size);
        if pictures.skip {
            text.line(
                "on_corrupt = \"skip\"",
                "some pictures are broken; \"error\" lists them and stops",
            );
        }
        text.section("[data.augment]");
        text.line(
            "flip_horizontal = true",
            "not where left and right matter, as in text",
        );
        text.line("# rotate = 15", "degrees either way");
        text.line(
            "# random_resized_crop = { scale = [0.5, 1.0] }",
            "or trivial_augment = true: stronger",
        );
    }

    fn about_source(&self) -> String {
        let classes = self.pictures.classes();
        let named: Vec<String> = classes
            .iter()
            .take(NAMED)
            .map(|(class, count)| format!("{} ({count})", plain(class)))
            .collect();
        let more = match classes.len() - named.len() {
            0 => String::new(),
            more => format!(" and {} more", thousands(more)),
        };
        let classes = format!("{}{more}", named.join(", "));
        match &self.pictures.layout {
            Layout::ClassFolders {
                leaves: Some(leaves),
                ..
            } => format!("{classes}; class_from = \"leaf\" makes {leaves} of the inner folders"),
            _ => classes,
        }
    }

    fn split(&self) -> (String, String) {
        let pictures = &self.pictures;
        let [train, val, test] = pictures.total().map(thousands);
        let counts = format!("{train} / {val} / {test} pictures");
        if let Some(by) = split_by(&pictures.layout) {
            let about = format!("{counts}; or shares: {{ train = 0.8, val = 0.1, test = 0.1 }}");
            return (format!("split = {{ by = \"{by}\" }}"), about);
        }
        let [train, val, test] = pictures.shares;
        let split = format!("split = {{ train = {train}, val = {val}, test = {test} }}");
        let about = match &pictures.layout {
            Layout::ClassFolders {
                test: Some(test), ..
            } => {
                let test = plain(&relative(test, &self.folder));
                format!("{counts}; afterwards: xp evaluate RUN --data {test}")
            }
            _ => format!("{counts}, stratified; or by = \"hash\": stays when pictures are added"),
        };
        (split, about)
    }

    fn model(&self, text: &mut Text) {
        let family = self.family;
        text.section("[model]");
        let others: Vec<String> = [
            ("efficientnet_b0", "stronger"),
            ("dinov2_small_14", "for few pictures"),
            ("resnet50", "slower"),
        ]
        .into_iter()
        .filter(|(name, _)| *name != family.name)
        .map(|(name, about)| format!("\"{name}\" ({about})"))
        .collect();
        text.line(
            &format!("backbone = \"{}\"", family.name),
            &format!("or {}", others.join(", ")),
        );
        if self.width != 1.0 {
            text.line(&format!("width = {}", self.width), "width multiplier");
        }
        match &self.weights {
            Some(source) => text.line(
                &format!("weights = {}", quoted(source)),
                "left out: the backbone's ImageNet weights, from the hub",
            ),
            None => text.line(
                "# weights = \"file.safetensors\"",
                "default: the backbone's ImageNet weights, from the hub",
            ),
        }
        let classes = self.pictures.dataset.classes.len();
        let (outputs, about) = match classes {
            2 => (1, "one output for two classes".to_owned()),
            _ => (classes, "one output a class".to_owned()),
        };
        text.line(
            &format!("head = [{{ dropout = 0.2 }}, {{ dense = {outputs} }}]"),
            &format!("{about}; more dropout against overfitting"),
        );
    }

    fn train(&self, text: &mut Text) {
        text.section("[train]");
        text.line("batch_size = 32", "pictures a step");
        if let Some(times) = self.pictures.imbalance() {
            let [(least, _), (most, _)] = self.pictures.extremes();
            text.line(
                "class_weights = \"balanced\"",
                &format!(
                    "{} has {times:.0} times the pictures of {}; or sampling = \"balanced\"",
                    plain(most),
                    plain(least)
                ),
            );
        }
        text.line(
            "# label_smoothing = 0.1",
            "against overconfidence, with many classes",
        );
        text.line(
            "early_stopping = { patience = 5 }",
            "5 epochs without a better val_accuracy end a phase",
        );
    }

    fn phases(&self, text: &mut Text) {
        text.blank();
        text.remark("First the head alone, on features that are computed once.");
        text.line("[[phase]]", "");
        text.line("name = \"head\"", "");
        text.line("freeze = \"all\"", "the whole backbone");
        text.line(
            "augment = false",
            "pictures as they are, so that features are kept",
        );
        text.line("epochs = 20", "at most");
        text.line(
            "optimizer = { kind = \"adam\", lr = 1e-3 }",
            "or \"sgd\", \"rmsprop\", \"adamw\"",
        );
        text.blank();
        text.remark("Then the upper part of the backbone, too, a hundred times lower.");
        text.line("[[phase]]", "");
        text.line("name = \"fine_tune\"", "");
        let Upper {
            stages,
            whole,
            first,
            batch_norm,
        } = &self.upper;
        match whole {
            true => text.line("freeze = \"none\"", "all layers train"),
            false => text.line(
                &format!("freeze_stages = -{stages}"),
                &format!("from {first} on; or freeze_before = \"LAYER\""),
            ),
        }
        text.line("epochs = 20", "at most");
        text.line(
            "optimizer = { kind = \"adam\", lr = 1e-5 }",
            "too high, and it forgets ImageNet",
        );
        text.line(
            "schedule = { kind = \"cosine\" }",
            "down to 0; or \"constant\", \"linear\", \"step\"",
        );
        if *batch_norm {
            text.line(
                "bn = \"eval\"",
                "keeps ImageNet's statistics; \"train\" takes the batch's",
            );
        }
    }
}

/// Lines of TOML, comments in a column.
#[derive(Default)]
struct Text(String);

impl Text {
    /// Where comments begin.
    const COLUMN: usize = 42;
    /// Longest line.
    const WIDTH: usize = 100;

    fn line(&mut self, code: &str, comment: &str) {
        let line = format!("{code:<width$} # {comment}", width = Self::COLUMN);
        self.0 += &match comment {
            "" => format!("{code}\n"),
            // A long comment stands above.
            _ if line.chars().count() > Self::WIDTH => format!("# {comment}\n{code}\n"),
            _ => format!("{line}\n"),
        };
    }

    fn remark(&mut self, text: &str) {
        self.0 += format!("# {text}").trim_end();
        self.0.push('\n');
    }

    fn section(&mut self, head: &str) {
        self.blank();
        self.0 += &format!("{head}\n");
    }

    fn blank(&mut self) {
        self.0.push('\n');
    }
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// Fit for a comment: on one line.
fn plain(text: &str) -> String {
    text.replace(char::is_control, "?")
}
