//! `xp explain RUN|BACKBONE PICTURE...`: where in pictures the network found what speaks for a class.

use std::path::Path;

use rayon::prelude::*;
use serde_json::Value;

use super::classifier::Classifier;
use super::explained::{Explained, Shown, percent};
use super::pictures::{self, BATCH};
use super::pretrained::unknown_layer;
use super::{Exit, Failure, Printer};
use crate::cli::ExplainArgs;
use crate::data::preprocess::{Preprocess, unscale};
use crate::engine::explain::{Explainer, Heat};
use crate::fsx;
use crate::graph::nearest::did_you_mean;
use crate::graph::{Graph, NodeId, Op, Shape};
use crate::ops::loss;
use crate::report::{self, ShownHeat};

/// Classes that a help names, at most.
const NAMED: usize = 10;

/// Letters of a picture's name that its explanation keeps, at most.
const STEM: usize = 48;

/// Runs the command.
pub fn run(args: &ExplainArgs, printer: &Printer) -> Result<(), Failure> {
    let classifier = Classifier::open(&args.model, &args.backbone, printer)?;
    let wanted = args.class.as_deref();
    let wanted = wanted.map(|name| class(&classifier, name)).transpose()?;
    let layer = layer(&classifier, args.layer.as_deref())?;
    let paths = pictures::named(&args.images)?;
    std::fs::create_dir_all(&args.out).map_err(|error| {
        let message = format!("cannot make the folder `{}`: {error}", args.out.display());
        Failure::new(Exit::Other, message).help("name another with `--out`")
    })?;
    let explainer = Explainer::new(&classifier.graph, &classifier.params, layer)?;
    let task = Task {
        args,
        wanted,
        layer: &classifier.graph.nodes()[layer].name,
        classes: &classifier.classes,
        preprocess: &classifier.preprocess,
        explainer: &explainer,
    };
    let seen = (&classifier.preprocess, classifier.framing);
    // Answers in text come with the pictures, and are progress enough.
    let silent = Printer {
        quiet: printer.quiet || !printer.json,
        ..*printer
    };
    let batch = explainer.batch(BATCH);
    let mut answers = Vec::new();
    let failed = pictures::in_batches(&paths, batch, seen, &silent, |paths, pictures| {
        for explained in task.explain(paths, &pictures)? {
            match printer.json {
                true => answers.push(explained.json(task.layer)),
                false => printer.data(explained.line(task.layer)),
            }
        }
        Ok(())
    })?;
    if printer.json {
        printer.data(Value::Array(answers).to_string());
    }
    pictures::check_failed(failed, paths.len())
}

/// The label of a class by name.
fn class(classifier: &Classifier, name: &str) -> Result<usize, Failure> {
    let classes = &classifier.classes;
    if let Some(label) = classes.iter().position(|class| class == name) {
        return Ok(label);
    }
    let message = format!("`{}` knows no class `{name}`", classifier.name);
    let help = did_you_mean(name, classes.iter().map(String::as_str)).unwrap_or_else(|| {
        let known: Vec<&str> = classes.iter().take(NAMED).map(String::as_str).collect();
        let more = match classes.len() - known.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("it knows {}{more}", known.join(", "))
    });
    Err(Failure::new(Exit::Config, message).help(help))
}

/// The node to look at: the end of the named layer, or the last one that can be looked at.
fn layer(classifier: &Classifier, name: Option<&str>) -> Result<NodeId, Failure> {
    let Classifier {
        graph, name: model, ..
    } = classifier;
    let Some(name) = name else {
        return graph.last_with_places().ok_or_else(|| {
            let message = format!("no layer of `{model}` has more than one place in the picture");
            Failure::new(Exit::Config, message).help("train it on larger pictures")
        });
    };
    let node = graph.layer_end(name).ok_or_else(|| {
        let names = graph.layers().into_iter();
        let names = names.filter(|nodes| can_be_shown(graph, nodes.end - 1));
        let names = names.map(|nodes| graph.nodes()[nodes.start].name.as_str());
        unknown_layer(model, name, names)
    })?;
    if can_be_shown(graph, node) {
        return Ok(node);
    }
    let message = match (node, graph.places(node)) {
        (0, _) => format!("`{name}` is the picture itself"),
        (_, Some(_)) => format!("`{model}` does not answer by way of `{name}`"),
        (_, None) => format!(
            "the output of `{name}` is {}, without places in the picture",
            match graph.nodes()[node].shape {
                Shape::Vector(values) => format!("a vector of {values} values"),
                shape @ Shape::Map { .. } => format!("a map of {shape}"),
            }
        ),
    };
    let failure = Failure::new(Exit::Config, message);
    let below = graph.layers().into_iter().rev();
    let nearest = below.filter(|nodes| nodes.start <= node).find(|nodes| {
        let padded = matches!(graph.nodes()[nodes.end - 1].op, Op::Pad(_));
        !padded && can_be_shown(graph, nodes.end - 1)
    });
    Err(match nearest {
        Some(nodes) => failure.help(format!(
            "the nearest layer below that can be shown is `{}`",
            graph.nodes()[nodes.start].name
        )),
        None => failure.help("`xp summary` lists the layers and the shapes of their outputs"),
    })
}

fn can_be_shown(graph: &Graph, node: NodeId) -> bool {
    node > 0 && graph.places(node).is_some() && graph.leads_to_logits(node)
}

/// What is to be shown of every picture.
struct Task<'a> {
    args: &'a ExplainArgs,
    /// The class of `--class`.
    wanted: Option<usize>,
    layer: &'a str,
    classes: &'a [String],
    preprocess: &'a Preprocess,
    explainer: &'a Explainer,
}

impl Task<'_> {
    /// Explains a batch and writes a file for each of its pictures.
    fn explain(
        &self,
        paths: &[&Path],
        pictures: &candle_core::Tensor,
    ) -> Result<Vec<Explained>, Failure> {
        let seen = self.explainer.see(pictures)?;
        let probabilities = loss::probabilities(&seen.logits)?;
        let ranked: Vec<Vec<usize>> = probabilities
            .iter()
            .map(|row| by_probability(row))
            .collect();
        let top = self.args.top.min(self.classes.len());
        let mut heats: Vec<Vec<(usize, Heat)>> = vec![Vec::new(); paths.len()];
        for rank in 0..top {
            let chosen = |ranked: &Vec<usize>| self.wanted.unwrap_or(ranked[rank]);
            let labels: Vec<usize> = ranked.iter().map(chosen).collect();
            let found = self.explainer.heat(&seen, &labels)?;
            for (heats, one) in heats.iter_mut().zip(labels.into_iter().zip(found)) {
                heats.push(one);
            }
        }
        let pixels: Vec<f32> = pictures.flatten_all()?.to_vec1()?;
        let pixels: Vec<&[f32]> = pixels.chunks(self.preprocess.values().max(1)).collect();
        let one = |index: usize| {
            let (path, row) = (paths[index], &probabilities[index]);
            let answer = ranked[index][0];
            let shown = heats[index].iter().map(|(label, heat)| Shown {
                class: self.classes[*label].clone(),
                probability: row[*label],
                evidence: heat.evidence,
            });
            let explained = Explained {
                path: path.to_owned(),
                class: self.classes[answer].clone(),
                probability: row[answer],
                truth: self.truth(path),
                chosen: self.wanted.is_some(),
                shown: shown.collect(),
                out: self.args.out.join(self.file_name(path)),
            };
            let drawn = self.draw(&explained, pixels[index], &heats[index])?;
            fsx::write_atomic(&explained.out, &drawn)?;
            Ok(explained)
        };
        (0..paths.len()).into_par_iter().map(one).collect()
    }

    fn draw(
        &self,
        explained: &Explained,
        pixels: &[f32],
        heats: &[(usize, Heat)],
    ) -> Result<Vec<u8>, Failure> {
        let [height, width] = self.preprocess.image_size;
        let shown = heats.iter().zip(&explained.shown);
        let heats: Vec<ShownHeat> = shown
            .map(|((_, heat), shown)| ShownHeat {
                values: heat.resized(height as usize, width as usize),
                caption: format!("for {} ({})", shown.class, percent(shown.probability)),
                note: match shown.problem(self.layer) {
                    Some(problem) => problem,
                    None => format!("at {}, {} x {}", self.layer, heat.width, heat.height),
                },
            })
            .collect();
        let truth = match &explained.truth {
            Some(truth) if *truth == explained.class => ", rightly".to_owned(),
            Some(truth) => format!(", is {truth}"),
            None => String::new(),
        };
        Ok(report::explanation(&report::Explanation {
            title: &format!(
                "{} {}{truth}",
                explained.class,
                percent(explained.probability)
            ),
            subtitle: &explained.path.display().to_string(),
            picture: &unscale(self.preprocess, pixels),
            size: [height, width],
            heats: &heats,
        })
        .png()?)
    }

    /// The class that a folder around the picture names, the nearest first.
    fn truth(&self, path: &Path) -> Option<String> {
        let whole = std::path::absolute(path).ok()?;
        let named = [
            path.parent(),
            whole
                .parent()
                .filter(|_| path.parent() == Some(Path::new(""))),
        ];
        let mut folders = named.into_iter().flatten().flat_map(Path::ancestors);
        folders.find_map(|folder| {
            let name = folder.file_name()?.to_str()?;
            self.classes.iter().find(|class| *class == name).cloned()
        })
    }

    /// A name that pictures of the same name elsewhere, other networks, classes and layers do not have.
    fn file_name(&self, path: &Path) -> String {
        let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let mut hash = blake3::Hasher::new();
        let model = std::path::absolute(&self.args.model).unwrap_or_default();
        let backbone = &self.args.backbone;
        for part in [
            whole.as_os_str().as_encoded_bytes(),
            model.as_os_str().as_encoded_bytes(),
            self.layer.as_bytes(),
            self.args.class.as_deref().unwrap_or_default().as_bytes(),
            &self.args.top.to_le_bytes(),
            backbone.weights.as_deref().unwrap_or_default().as_bytes(),
            &backbone.width.to_le_bytes(),
            &backbone.size.unwrap_or(0).to_le_bytes(),
        ] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let stem: String = stem.chars().take(STEM).collect();
        format!("{stem}-{}.png", &hash.finalize().to_hex()[..12])
    }
}

/// Labels, the most probable first; equals in label order.
fn by_probability(row: &[f32]) -> Vec<usize> {
    let mut labels: Vec<usize> = (0..row.len()).collect();
    labels.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
    labels
}
