//! The configuration that `xp new` writes: what follows from the pictures, and the text.

mod text;

use std::path::{Component, Path, PathBuf};

use serde_json::json;

use super::{Exit, Failure, cache};
use crate::cli::NewArgs;
use crate::config::{DataConfig, Flavour};
use crate::data::survey::{Layout, survey};
use crate::data::{DataError, Dataset, ScanOptions};
use crate::graph::summary::thousands;
use crate::graph::{Graph, Op};
use crate::weights;
use crate::zoo::registry::{self, Family};

/// The seed that the configuration names, and that pictures are split with to count them.
const SEED: u64 = 42;
/// From so many training pictures on a stronger backbone than the smallest has enough to learn from.
const MANY: usize = 2_000;
/// A class with so many times the pictures of another calls for weights.
const IMBALANCE: usize = 3;
/// With fewer validation pictures than this, one of them is a percent and more.
const FEW: usize = 100;

/// Pictures, and what `[data]` has to say to read them.
pub struct Pictures {
    layout: Layout,
    shares: [f64; 3],
    skip: bool,
    dataset: Dataset,
}

impl Pictures {
    /// Looks at a folder and reads every picture in it, as a run would.
    pub fn look(path: &Path) -> Result<Self, Failure> {
        let layout = survey(path).map_err(explain)?;
        let mut shares = match layout {
            Layout::ClassFolders { test: Some(_), .. } => [0.9, 0.1, 0.0],
            _ => [0.8, 0.1, 0.1],
        };
        let options = ScanOptions {
            notes: cache::of_environment().map(|root| root.join("pictures")),
            ..ScanOptions::default()
        };
        let mut skip = false;
        loop {
            let config = data_config(&layout, shares, skip)?;
            match Dataset::open_with(&config, SEED, &options) {
                Ok(dataset) => {
                    return Ok(Self {
                        layout,
                        shares,
                        skip,
                        dataset,
                    });
                }
                Err(DataError::Broken { .. } | DataError::Conflicting { .. }) if !skip => {
                    skip = true;
                }
                Err(DataError::TooFew { have: 2, .. }) if shares[2] > 0.0 => {
                    shares = [0.8, 0.2, 0.0];
                }
                Err(error) => return Err(explain(error)),
            }
        }
    }

    /// Pictures in train, val and test.
    pub fn total(&self) -> [usize; 3] {
        let counts = self.dataset.counts();
        std::array::from_fn(|split| counts.iter().map(|counts| counts[split]).sum())
    }

    /// Pictures of every class, with its name.
    fn classes(&self) -> Vec<(&str, usize)> {
        let counts = self.dataset.counts();
        let classes = self.dataset.classes.iter().map(String::as_str);
        classes
            .zip(counts.iter().map(|counts| counts.iter().sum()))
            .collect()
    }

    /// The smallest and the largest class.
    fn extremes(&self) -> [(&str, usize); 2] {
        let classes = self.classes();
        let by_count = |class: &&(&str, usize)| class.1;
        let (least, most) = (
            classes.iter().min_by_key(by_count),
            classes.iter().max_by_key(by_count),
        );
        [least, most].map(|class| class.copied().unwrap_or_default())
    }

    /// How many times the smallest class goes into the largest, if that is worth weighing.
    fn imbalance(&self) -> Option<f64> {
        let [least, most] = self.extremes().map(|(_, count)| count.max(1));
        (most >= IMBALANCE * least).then_some(most as f64 / least as f64)
    }

    /// Median width and height in pixels.
    fn median(&self) -> [u32; 2] {
        let median = |mut sides: Vec<u32>| {
            sides.sort_unstable();
            sides.get(sides.len().saturating_sub(1) / 2).copied()
        };
        let items = &self.dataset.items;
        [
            median(items.iter().map(|item| item.width).collect()),
            median(items.iter().map(|item| item.height).collect()),
        ]
        .map(Option::unwrap_or_default)
    }

    /// `5 classes in class folders, 1,000 pictures (200 each), median 320 x 240 px`
    pub fn found(&self) -> String {
        let [(_, least), (_, most)] = self.extremes();
        let [width, height] = self.median();
        let each = match least == most {
            true => format!("{} each", thousands(least)),
            false => format!("{} to {} each", thousands(least), thousands(most)),
        };
        format!(
            "{} classes in {}, {} pictures ({each}), median {width} x {height} px",
            thousands(self.dataset.classes.len()),
            self.layout_name(),
            thousands(self.dataset.items.len()),
        )
    }

    /// What to know before believing the numbers of a run.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(times) = self.imbalance() {
            let [(least, few), (most, many)] = self.extremes();
            warnings.push(format!(
                "`{most}` has {times:.0} times the pictures of `{least}` ({} and {}): the \
                 configuration weighs classes",
                thousands(many),
                thousands(few)
            ));
        }
        let [_, val, _] = self.total();
        if val < FEW {
            warnings.push(format!(
                "{val} validation pictures are few: one of them is {:.1} % of accuracy",
                100.0 / val.max(1) as f64
            ));
        }
        if let Some(first) = self.dataset.issues.first() {
            let dropped = match self.skip {
                true => "; the configuration goes on without broken ones",
                false => "",
            };
            let count = match self.dataset.issues.len() {
                1 => "1 issue".to_owned(),
                count => format!("{} issues", thousands(count)),
            };
            warnings.push(format!(
                "{count} in the data{dropped}; the first: `{}` {}",
                first.path, first.reason
            ));
        }
        warnings
    }

    fn layout_name(&self) -> &'static str {
        match self.layout {
            Layout::ClassFolders { .. } => "class folders",
            Layout::SplitFolders { .. } => "folders of splits",
            Layout::Manifest { .. } => "a manifest",
        }
    }
}

/// `[data]` of a layout; anything else at its default.
fn data_config(layout: &Layout, shares: [f64; 3], skip: bool) -> Result<DataConfig, Failure> {
    let mut data = toml::Table::new();
    let (key, path) = source(layout);
    data.insert(key.into(), path.to_string_lossy().into_owned().into());
    let split: toml::Table = match split_by(layout) {
        Some(by) => [("by".to_owned(), by.into())].into_iter().collect(),
        None => ["train", "val", "test"]
            .into_iter()
            .zip(shares)
            .map(|(split, share)| (split.to_owned(), share.into()))
            .collect(),
    };
    data.insert("split".into(), split.into());
    if skip {
        data.insert("on_corrupt".into(), "skip".into());
    }
    data.try_into()
        .map_err(|error| Failure::new(Exit::Other, error))
}

/// The key that names a layout's pictures, and its value.
fn source(layout: &Layout) -> (&'static str, &Path) {
    match layout {
        Layout::ClassFolders { root, .. } | Layout::SplitFolders { root } => ("root", root),
        Layout::Manifest { path, .. } => ("manifest", path),
    }
}

/// `split.by` of a layout that brings its split.
fn split_by(layout: &Layout) -> Option<&'static str> {
    match layout {
        Layout::SplitFolders { .. } => Some("folders"),
        Layout::Manifest { splits: true, .. } => Some("column"),
        _ => None,
    }
}

/// What to do about a folder that is no data set, said without keys of a configuration.
fn explain(error: DataError) -> Failure {
    let help = match &error {
        DataError::Missing { .. } | DataError::WrongKind { .. } => {
            Some("name a folder that holds one folder of pictures a class, or a CSV file")
        }
        DataError::OneClass { .. } => Some("give at least two classes, one folder each"),
        DataError::SplitsAsClasses { .. } => Some("name the folder to train on `train`"),
        DataError::TooFew { .. } => Some("add pictures, or remove the class"),
        _ => None,
    };
    let failure = Failure::from(error);
    match help {
        Some(help) => failure.help(help),
        None => failure,
    }
}

/// What the command line says of the network.
pub struct Choice<'a> {
    /// The backbone, if it is named.
    family: Option<&'static Family>,
    args: &'a NewArgs,
}

impl<'a> Choice<'a> {
    /// Fails on a backbone, width or weights that there are not.
    pub fn of(args: &'a NewArgs) -> Result<Self, Failure> {
        let family = args.backbone.as_deref().map(registry::find).transpose()?;
        if let Some(family) = family {
            family.check_width(args.width)?;
            match &args.weights {
                Some(source) => drop(flavour(source)?),
                None => drop(family.default_weights(args.width)?),
            }
        }
        Ok(Self { family, args })
    }
}

fn flavour(source: &str) -> Result<Flavour, Failure> {
    match source {
        "none" => Ok(Flavour::Torch),
        source => Ok(weights::flavour_of(source)?),
    }
}

/// The backbone for so many training pictures: the smallest trains in minutes and has the least to
/// overfit with; with more pictures a stronger one pays.
fn suited(training: usize) -> &'static str {
    match training < MANY {
        true => "mobilenet_v2",
        false => "efficientnet_b0",
    }
}

/// Side of what a network sees that was trained at `default`: that, or less for small pictures.
/// Transformers keep it, as their positions were learned for it.
fn side(default: &Graph, trained_at: u32, median: [u32; 2]) -> u32 {
    const SIDES: [u32; 4] = [96, 128, 160, 192];
    let mut nodes = default.nodes().iter();
    if nodes.any(|node| matches!(node.op, Op::Attention { .. })) {
        return trained_at;
    }
    let fits = |side: &u32| *side >= median[0].min(median[1]) && *side < trained_at;
    SIDES.into_iter().find(fits).unwrap_or(trained_at)
}

/// The upper part of a backbone, which fine-tuning trains.
struct Upper {
    /// How many stages; all of them if that is the whole backbone.
    stages: usize,
    whole: bool,
    /// Its first layer.
    first: String,
    batch_norm: bool,
}

impl Upper {
    /// The fewest stages that hold a third of the weights.
    fn of(graph: &Graph) -> Self {
        let size = |id| -> usize { graph.params(id).iter().map(|spec| spec.elements()).sum() };
        let all: usize = (0..graph.nodes().len()).map(size).sum();
        let stages = graph.stages();
        let above = |count: usize| stages[stages.len() - count].nodes.start;
        let enough = |count: &usize| {
            let held: usize = (above(*count)..graph.nodes().len()).map(size).sum();
            3 * held >= all
        };
        let count = (1..=stages.len()).find(enough).unwrap_or(stages.len());
        let start = above(count);
        let nodes = &graph.nodes()[start..];
        Self {
            stages: count,
            whole: count == stages.len(),
            first: nodes[0].name.clone(),
            batch_norm: nodes
                .iter()
                .any(|node| matches!(node.op, Op::BatchNorm { .. })),
        }
    }
}

/// Everything that the written configuration says.
pub struct Starter {
    name: String,
    /// What was found.
    pub pictures: Pictures,
    /// The backbone.
    pub family: &'static Family,
    width: f64,
    weights: Option<String>,
    /// Side of the pictures that it sees.
    pub size: u32,
    upper: Upper,
    /// What paths are relative to.
    folder: PathBuf,
}

impl Starter {
    /// Decides what the command line leaves open. `folder` is where the configuration will lie.
    pub fn new(
        name: String,
        pictures: Pictures,
        choice: &Choice<'_>,
        folder: &Path,
    ) -> Result<Self, Failure> {
        let args = choice.args;
        let [train, ..] = pictures.total();
        let family = match choice.family {
            Some(family) => family,
            None => registry::find(suited(train))?,
        };
        let source = match &args.weights {
            Some(source) => source.as_str(),
            None => family.default_weights(args.width)?,
        };
        let flavour = flavour(source)?;
        let graph = |size: u32| {
            Graph::build_backbone(family.name, args.width, [size; 2], flavour)
                .map_err(|error| Failure::from(error.0))
        };
        let size = match args.size {
            Some(size) => size,
            None => side(
                &graph(family.default_size)?,
                family.default_size,
                pictures.median(),
            ),
        };
        let weights = args.weights.as_ref().map(|source| {
            match Path::new(source).exists() {
                // Weights in a file are named from where the configuration lies.
                true => relative(Path::new(source), folder),
                false => source.clone(),
            }
        });
        Ok(Self {
            name,
            family,
            width: args.width,
            weights,
            size,
            upper: Upper::of(&graph(size)?),
            pictures,
            folder: folder.to_owned(),
        })
    }

    /// The answer of `xp new --json`, but for the name of the file.
    pub fn json(&self) -> serde_json::Value {
        let pictures = &self.pictures;
        let classes = pictures
            .classes()
            .into_iter()
            .map(|(class, count)| json!({ "class": class, "pictures": count }));
        let (key, path) = source(&pictures.layout);
        let [train, val, test] = pictures.total();
        json!({
            key: path.to_string_lossy(),
            "layout": pictures.layout_name(),
            "pictures": pictures.dataset.items.len(),
            "classes": classes.collect::<Vec<_>>(),
            "train": train,
            "val": val,
            "test": test,
            "median_size": pictures.median(),
            "issues": pictures.dataset.issues.len(),
            "warnings": pictures.warnings(),
            "backbone": self.family.name,
            "image_size": self.size,
        })
    }
}

/// The path from a folder: what lies near is told from there, anything else from the root.
fn relative(path: &Path, folder: &Path) -> String {
    const NEAR: usize = 2;
    let [path, folder] = [path, folder].map(absolute);
    let common = path
        .components()
        .zip(folder.components())
        .take_while(|(one, other)| one == other)
        .count();
    let up = folder.components().count() - common;
    let rooted = |part: &Component<'_>| matches!(part, Component::RootDir | Component::Prefix(_));
    // Nothing but the root in common is no neighbourhood.
    let shared = path.components().take(common).any(|part| !rooted(&part));
    if up > NEAR || !shared {
        return slashed(&path);
    }
    let steps = std::iter::repeat_n(Component::ParentDir, up);
    let near: PathBuf = steps.chain(path.components().skip(common)).collect();
    match near.as_os_str().is_empty() {
        true => ".".into(),
        false => slashed(&near),
    }
}

/// Absolute and without `..`; links stay what they are where there are none to resolve.
fn absolute(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let steps_back = absolute
        .components()
        .any(|part| part == Component::ParentDir);
    match steps_back {
        true => absolute.canonicalize().unwrap_or(absolute),
        false => absolute,
    }
}

fn slashed(path: &Path) -> String {
    let text = path.to_string_lossy();
    match cfg!(windows) {
        true => text.replace('\\', "/"),
        false => text.into_owned(),
    }
}
