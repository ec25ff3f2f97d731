//! `xp models`: the backbones, what they cost and where their weights come from.

use serde::Serialize;

use super::table::Table;
use super::{Exit, Failure, Printer};
use crate::config::Flavour;
use crate::graph::{Graph, GraphError};
use crate::weights;
use crate::zoo::registry::{FAMILIES, Family, Pretrained};

/// A backbone of one width.
#[derive(Debug, Serialize)]
struct Model {
    backbone: &'static str,
    title: &'static str,
    /// Width multiplier; only for families that come in several.
    width: Option<f64>,
    /// Trainable values below the classifier.
    parameters: usize,
    /// Multiply-adds of one picture of the default size, below the classifier.
    multiply_adds: u64,
    /// Side of the pictures, in pixels.
    size: u32,
    /// Default weights.
    weights: Option<&'static str>,
    /// Their licence, by its SPDX name.
    licence: Option<&'static str>,
}

/// Prints the table, or JSON.
pub fn run(printer: &Printer) -> Result<(), Failure> {
    let models = models().map_err(|error| Failure::from(error.0))?;
    if printer.json {
        let json = serde_json::to_string_pretty(&models)
            .map_err(|error| Failure::new(Exit::Other, error))?;
        printer.data(json);
    } else {
        printer.data(table(&models));
    }
    Ok(())
}

fn models() -> Result<Vec<Model>, GraphError> {
    let mut models = Vec::new();
    for family in FAMILIES {
        for weights in family.default_weights {
            models.push(model(family, weights.width, Some(weights))?);
        }
        if family.default_weights.is_empty() {
            models.push(model(family, 1.0, None)?);
        }
    }
    Ok(models)
}

fn model(
    family: &'static Family,
    width: f64,
    weights: Option<&'static Pretrained>,
) -> Result<Model, GraphError> {
    let flavour = weights.map(|it| weights::flavour_of(it.id));
    let flavour = flavour.and_then(Result::ok).unwrap_or(Flavour::Torch);
    let size = family.default_size;
    let graph = Graph::build_backbone(family.name, width, [size; 2], flavour)?;
    let specs = (0..graph.nodes().len()).flat_map(|id| graph.params(id));
    Ok(Model {
        backbone: family.name,
        title: family.title,
        width: family.widths.map(|_| width),
        parameters: specs
            .filter(|spec| spec.kind.trains())
            .map(|spec| spec.elements())
            .sum(),
        multiply_adds: graph.multiply_adds(),
        size,
        weights: weights.map(|it| it.id),
        licence: weights.map(|it| it.licence),
    })
}

fn table(models: &[Model]) -> String {
    let header = [
        "backbone",
        ">width",
        ">parameters",
        ">GMACs",
        ">size",
        "licence",
        "default weights",
    ];
    let mut table = Table::new(&header);
    for model in models {
        let width = model.width.map(|width| width.to_string());
        table.row([
            model.backbone.to_owned(),
            width.unwrap_or_default(),
            format!("{:.1} M", model.parameters as f64 / 1e6),
            format!("{:.2}", model.multiply_adds as f64 / 1e9),
            model.size.to_string(),
            model.licence.unwrap_or_default().to_owned(),
            model.weights.unwrap_or("none").to_owned(),
        ]);
    }
    table.lines(None).join("\n")
}
