//! `xp features BACKBONE|RUN PICTURE... --out FILE`: a layer's output for any pictures.

use std::path::PathBuf;

use super::feature_file::{Contents, Format, Spool};
use super::pictures::{self, BATCH};
use super::pretrained::{self, Pretrained, Target, unknown_layer};
use super::restored::Restored;
use super::{Failure, Printer};
use crate::cli::FeaturesArgs;
use crate::data::Framing;
use crate::data::preprocess::Preprocess;
use crate::engine::prefix::Prefix;
use crate::graph::{Graph, NodeId, Op};

/// Most bytes of features in a batch: the first layers of large nets give hundreds of megabytes for
/// a few pictures.
const MOST_BYTES: usize = 64 << 20;

/// Runs the command.
pub fn run(args: &FeaturesArgs, printer: &Printer) -> Result<(), Failure> {
    let format = Format::of(&args.out)?;
    let source = Source::open(args, printer)?;
    let paths = pictures::named(&args.images)?;
    let mut spool = Spool::new(&args.out)?;
    let mut done: Vec<PathBuf> = Vec::new();
    let elements: usize = source.dims.iter().product();
    let batch = (MOST_BYTES / (4 * elements.max(1))).clamp(1, BATCH);
    let seen = (&source.preprocess, source.framing);
    let failed = pictures::in_batches(&paths, batch, seen, printer, |paths, pictures| {
        let features = source.network.run(&[pictures])?.swap_remove(0);
        spool.append(&features.flatten_all()?.to_vec1()?)?;
        done.extend(paths.iter().map(|path| path.to_path_buf()));
        Ok(())
    })?;
    if done.is_empty() {
        return pictures::check_failed(failed, paths.len());
    }
    let contents = Contents {
        layer: &source.layer,
        model: &source.model,
        weights: &source.weights,
        dims: &source.dims,
        paths: &done,
    };
    spool.write(&args.out, format, &contents)?;
    say(args, &contents, failed, printer);
    pictures::check_failed(failed, paths.len())
}

fn say(args: &FeaturesArgs, contents: &Contents<'_>, failed: usize, printer: &Printer) {
    let out = args.out.display().to_string();
    if printer.json {
        let mut shape = vec![contents.paths.len()];
        shape.extend(contents.dims);
        let paths = contents.paths.iter().map(|path| path.to_string_lossy());
        let answer = serde_json::json!({
            "out": out,
            "model": contents.model,
            "weights": contents.weights,
            "layer": contents.layer,
            "shape": shape,
            "paths": paths.collect::<Vec<_>>(),
            "failed": failed,
        });
        printer.data(answer.to_string());
        return;
    }
    let dims: Vec<String> = contents.dims.iter().map(usize::to_string).collect();
    let pictures = match contents.paths.len() {
        1 => "1 picture".to_owned(),
        count => format!("{count} pictures"),
    };
    printer.data(format!(
        "{out}: {pictures}, {} values of `{}` each",
        dims.join(" x "),
        contents.layer
    ));
}

/// A network up to a layer.
struct Source {
    model: String,
    weights: String,
    layer: String,
    /// Output of one picture: height, width, channels, or features.
    dims: Vec<usize>,
    preprocess: Preprocess,
    framing: Framing,
    network: Prefix,
}

impl Source {
    fn open(args: &FeaturesArgs, printer: &Printer) -> Result<Self, Failure> {
        let layer = args.layer.as_deref();
        match Target::of(&args.model)? {
            Target::Backbone(family) => {
                let net = Pretrained::features(family, &args.backbone, layer, printer)?;
                Ok(Self {
                    model: family.name.to_owned(),
                    weights: net.source,
                    layer: layer_of(&net.graph, net.output),
                    dims: dims(&net.graph, net.output),
                    preprocess: net.preprocess,
                    framing: net.framing,
                    network: Prefix::compile(&net.graph, &net.params, &[0], &[net.output])?,
                })
            }
            Target::Model(path) => {
                pretrained::check_no_flags(&args.backbone)?;
                let model = Restored::open(path)?;
                let graph = &model.graph;
                let output = match layer {
                    None => below_head(graph),
                    Some(name) => graph.layer_end(name).ok_or_else(|| {
                        let names = graph.layers().into_iter();
                        let names = names.map(|nodes| graph.nodes()[nodes.start].name.as_str());
                        unknown_layer(&model.path.display().to_string(), name, names)
                    })?,
                };
                Ok(Self {
                    model: model.experiment.model.backbone.clone(),
                    weights: model.path.display().to_string(),
                    layer: layer_of(graph, output),
                    dims: dims(graph, output),
                    preprocess: model.preprocess,
                    framing: Framing::Resized,
                    network: Prefix::compile(graph, &model.params, &[0], &[output])?,
                })
            }
        }
    }
}

/// The backbone's output, pooled where the model pools it.
fn below_head(graph: &Graph) -> NodeId {
    let last = graph.backbone_len() - 1;
    let above = graph.nodes()[last + 1..].iter();
    let pools = above.take_while(|node| {
        matches!(
            node.op,
            Op::GlobalAvgPool | Op::GlobalMaxPool | Op::TakeClassToken | Op::DropClassToken
        )
    });
    last + pools.count()
}

/// Name of the layer that a node ends.
fn layer_of(graph: &Graph, output: NodeId) -> String {
    let layers = graph.layers();
    let layer = layers.iter().find(|nodes| nodes.contains(&output));
    graph.nodes()[layer.map_or(output, |nodes| nodes.start)]
        .name
        .clone()
}

fn dims(graph: &Graph, output: NodeId) -> Vec<usize> {
    graph.nodes()[output].shape.batched(1).split_off(1)
}
