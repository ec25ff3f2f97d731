//! `xp models`: the backbones, what they cost and where their weights come from.

use serde::Serialize;

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
        printer.data(table(&models).trim_end());
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
    const RIGHT: [bool; 7] = [false, true, true, true, true, false, false];
    let header = [
        "backbone",
        "width",
        "parameters",
        "GMACs",
        "size",
        "licence",
        "default weights",
    ]
    .map(String::from);
    let rows = models.iter().map(|model| {
        [
            model.backbone.to_owned(),
            model
                .width
                .map_or_else(String::new, |width| width.to_string()),
            format!("{:.1} M", model.parameters as f64 / 1e6),
            format!("{:.2}", model.multiply_adds as f64 / 1e9),
            model.size.to_string(),
            model.licence.unwrap_or_default().to_owned(),
            model.weights.unwrap_or("none").to_owned(),
        ]
    });
    let rows: Vec<[String; 7]> = std::iter::once(header).chain(rows).collect();
    let widths: [usize; 7] = std::array::from_fn(|column| {
        let lengths = rows.iter().map(|row| row[column].chars().count());
        lengths.max().unwrap_or(0)
    });
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(widths).zip(RIGHT);
            let cells: Vec<String> = cells
                .map(|((cell, width), right)| match right {
                    true => format!("{cell:>width$}"),
                    false => format!("{cell:<width$}"),
                })
                .collect();
            format!("{}\n", cells.join("  ").trim_end())
        })
        .collect()
}
