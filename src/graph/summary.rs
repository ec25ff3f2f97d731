//! Text and JSON tables of a graph: its layers, what trains in each phase, and the totals.

use std::ops::Range;

use serde::Serialize;

use super::build::Graph;
use super::cutoff::{Frontier, Trainable};
use super::node::{NodeId, ParamSpec, Shape};
use super::rates::Rates;

/// What `xp summary` says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// All layers, in order; a layer's position is its index.
    pub layers: Vec<Layer>,
    /// Number of layers that belong to the backbone; they come first.
    pub backbone_layers: usize,
    /// Number of parameters, statistics of batch norms included.
    pub parameters: usize,
    /// Number of statistics, which no optimizer moves.
    pub statistics: usize,
    /// Multiply-adds of one picture.
    pub multiply_adds: u64,
    /// Stages of the backbone, from the picture on.
    pub stages: Vec<Stage>,
    /// What each phase trains.
    pub phases: Vec<Phase>,
}

/// A line of the table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Layer {
    /// What `freeze_before` may cite.
    pub index: usize,
    /// What `freeze_before`, `freeze` and `cut` may cite.
    pub name: String,
    /// Keras' class name.
    pub kind: &'static str,
    /// Output of one picture: height, width, channels, or features.
    pub shape: Vec<usize>,
    /// Number of parameters.
    pub parameters: usize,
    /// For each phase, whether any of them trains.
    pub trains: Vec<bool>,
    /// For each phase, what its learning rate is multiplied with here.
    pub lr_multipliers: Vec<f64>,
}

/// A stage of the backbone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// Name of its first layer.
    pub first: String,
    /// Name of its last layer.
    pub last: String,
}

/// Totals of a phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Phase {
    /// The phase's name.
    pub name: String,
    /// Number of values that train.
    pub trainable_parameters: usize,
    /// Number of tensors that train.
    pub trainable_tensors: usize,
    /// Number of values that do not, statistics included.
    pub non_trainable_parameters: usize,
    /// Layers whose outputs can be computed once and kept.
    pub stored: Vec<String>,
    /// Number of values kept per picture.
    pub stored_values: usize,
}

impl Summary {
    /// Sums up a graph and its phases, given by name and what trains in them.
    pub fn new(graph: &Graph, phases: &[(String, Trainable)]) -> Self {
        let layers: Vec<Layer> = graph
            .layers()
            .into_iter()
            .enumerate()
            .map(|(index, nodes)| layer(graph, index, nodes, phases))
            .collect();
        let parameters = layers.iter().map(|layer| layer.parameters).sum();
        Self {
            backbone_layers: graph.backbone_layers().len(),
            parameters,
            statistics: (0..graph.nodes().len())
                .flat_map(|id| graph.params(id))
                .filter(|spec| !spec.kind.trains())
                .map(|spec| spec.elements())
                .sum(),
            multiply_adds: graph.multiply_adds(),
            stages: stages(graph),
            phases: phases
                .iter()
                .map(|(name, trainable)| phase(graph, name, trainable, parameters))
                .collect(),
            layers,
        }
    }

    /// Adds the multipliers of the learning rate of each phase.
    pub fn with_rates(mut self, graph: &Graph, rates: &[Rates]) -> Self {
        for (layer, nodes) in self.layers.iter_mut().zip(graph.layers()) {
            layer.lr_multipliers = rates.iter().map(|rates| rates.node(nodes.start)).collect();
        }
        self
    }

    /// Names of the table's columns: the last ones are the phases.
    pub fn header(&self) -> Vec<String> {
        let mut header: Vec<String> = ["", "layer", "kind", "output", "parameters"]
            .map(String::from)
            .to_vec();
        header.extend(self.phases.iter().map(|phase| phase.name.clone()));
        header
    }

    /// The table's rows, one a layer, with thousands separators.
    pub fn rows(&self) -> Vec<Vec<String>> {
        self.layers.iter().map(row).collect()
    }

    /// The table as text, and the totals.
    pub fn text(&self) -> String {
        let mut text = table(&self.header(), &self.rows(), self.backbone_layers);
        let total = |what: &str, figure: usize, more: &str| {
            format!("{what:<24}{:>14}{more}\n", thousands(figure))
        };
        text += &total("parameters", self.parameters, "");
        if self.phases.is_empty() {
            text += &total("  that can train", self.parameters - self.statistics, "");
            text += &total("  statistics", self.statistics, "");
        }
        let multiply_adds = usize::try_from(self.multiply_adds).unwrap_or(usize::MAX);
        text += &total("multiply-adds", multiply_adds, " a picture");
        text += "\nstages\n";
        for (index, stage) in self.stages.iter().enumerate() {
            text += &format!("  {index:>2}  {} to {}\n", stage.first, stage.last);
        }
        for phase in &self.phases {
            text += &format!("\nphase {}\n", phase.name);
            let tensors = format!(" in {} tensors", thousands(phase.trainable_tensors));
            let stored = format!(" values a picture after {}", phase.stored.join(", "));
            text += &total("  trainable", phase.trainable_parameters, &tensors);
            text += &total("  non-trainable", phase.non_trainable_parameters, "");
            text += &total("  input of training", phase.stored_values, &stored);
        }
        text
    }
}

fn layer(
    graph: &Graph,
    index: usize,
    nodes: Range<NodeId>,
    phases: &[(String, Trainable)],
) -> Layer {
    let specs: Vec<ParamSpec> = nodes.clone().flat_map(|id| graph.params(id)).collect();
    let can_train = specs.iter().any(|spec| spec.kind.trains());
    Layer {
        index,
        name: graph.nodes()[nodes.start].name.clone(),
        kind: graph.layer_kind(&nodes),
        shape: match graph.nodes()[nodes.end - 1].shape {
            Shape::Map {
                channels,
                height,
                width,
            } => vec![height, width, channels],
            Shape::Vector(features) => vec![features],
        },
        parameters: specs.iter().map(|spec| spec.elements()).sum(),
        trains: phases
            .iter()
            .map(|(_, trainable)| can_train && trainable.node(nodes.start))
            .collect(),
        lr_multipliers: vec![1.0; phases.len()],
    }
}

fn stages(graph: &Graph) -> Vec<Stage> {
    let layers = graph.backbone_layers();
    let first_of = |id: NodeId| graph.nodes()[id].name.clone();
    graph
        .stages()
        .into_iter()
        .map(|stage| Stage {
            first: first_of(stage.nodes.start),
            last: layers
                .iter()
                .rev()
                .find(|layer| layer.start < stage.nodes.end)
                .map_or_else(String::new, |layer| first_of(layer.start)),
        })
        .collect()
}

fn phase(graph: &Graph, name: &str, trainable: &Trainable, parameters: usize) -> Phase {
    let trained: Vec<usize> = (0..graph.nodes().len())
        .filter(|&id| trainable.node(id))
        .flat_map(|id| graph.params(id))
        .filter(|spec| spec.kind.trains())
        .map(|spec| spec.elements())
        .collect();
    let trainable_parameters = trained.iter().sum();
    let stored = Frontier::find(graph, trainable).stored;
    let nodes = graph.nodes();
    Phase {
        name: name.into(),
        trainable_parameters,
        trainable_tensors: trained.len(),
        non_trainable_parameters: parameters - trainable_parameters,
        stored: stored.iter().map(|&id| nodes[id].name.clone()).collect(),
        stored_values: stored.iter().map(|&id| nodes[id].shape.elements()).sum(),
    }
}

fn row(layer: &Layer) -> Vec<String> {
    let shape: Vec<String> = layer.shape.iter().map(usize::to_string).collect();
    let mut row = vec![
        layer.index.to_string(),
        layer.name.clone(),
        layer.kind.to_string(),
        shape.join(" x "),
        match layer.parameters {
            0 => String::new(),
            parameters => thousands(parameters),
        },
    ];
    let multipliers = layer.lr_multipliers.iter().copied();
    row.extend(layer.trains.iter().zip(multipliers).map(|(&trains, by)| {
        match (layer.parameters, trains) {
            (0, _) => String::new(),
            (_, true) if by != 1.0 => format!("trains x {}", short(by)),
            (_, true) => "trains".into(),
            (_, false) => "frozen".into(),
        }
    }));
    row
}

/// Up to four digits that count: `0.25`, `0.002824`.
fn short(figure: f64) -> String {
    let exact: f64 = format!("{figure:.3e}").parse().unwrap_or(figure);
    exact.to_string()
}

/// Columns as wide as their widest cell, figures to the right, rules around the backbone.
fn table(header: &[String], rows: &[Vec<String>], backbone: usize) -> String {
    const RIGHT: [usize; 2] = [0, 4];
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            std::iter::once(header)
                .chain(rows.iter().map(Vec::as_slice))
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let line = |row: &[String]| {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, &width))| match RIGHT.contains(&column) {
                true => format!("{cell:>width$}"),
                false => format!("{cell:<width$}"),
            })
            .collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    let rule = "-".repeat(widths.iter().sum::<usize>() + 2 * (widths.len() - 1)) + "\n";
    let mut text = line(header) + &rule;
    for (index, row) in rows.iter().enumerate() {
        if index == backbone {
            text += &rule;
        }
        text += &line(row);
    }
    text + &rule
}

/// `2259265` as `2,259,265`.
pub fn thousands(figure: usize) -> String {
    let digits = figure.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;
    use crate::config::{Flavour, PhaseConfig};
    use crate::zoo::registry;

    #[derive(Deserialize)]
    struct Keras {
        layers: Vec<(String, String, Vec<usize>, usize)>,
        #[serde(rename = "cutoff, trainable parameters, tensors")]
        cutoffs: Vec<(i64, usize, usize)>,
    }

    fn keras() -> Keras {
        serde_json::from_str(include_str!("../../tests/fixtures/mobilenet_v2_keras.json")).unwrap()
    }

    fn tutorial() -> Graph {
        let model = "backbone = \"mobilenet_v2\"\nhead = [{ dropout = 0.2 }, { dense = 1 }]";
        Graph::build(&toml::from_str(model).unwrap(), [160, 160], Flavour::Tf).unwrap()
    }

    fn phase(freezing: &str) -> PhaseConfig {
        let text = format!(
            "name = \"p\"\nepochs = 1\noptimizer = {{ kind = \"sgd\", lr = 0.1 }}\n{freezing}"
        );
        toml::from_str(&text).unwrap()
    }

    fn totals(graph: &Graph, freezing: &str) -> Phase {
        let trainable = Trainable::resolve(graph, &phase(freezing), 0).unwrap();
        let phases = [("p".to_string(), trainable)];
        Summary::new(graph, &phases).phases.remove(0)
    }

    #[test]
    fn layers_are_those_of_keras() {
        let graph = Graph::build_backbone("mobilenet_v2", 1.0, [224, 224], Flavour::Tf).unwrap();
        let ours: Vec<(String, String, Vec<usize>, usize)> = Summary::new(&graph, &[])
            .layers
            .into_iter()
            .filter(|layer| layer.name != "Conv1_pad")
            .map(|it| (it.name, it.kind.to_string(), it.shape, it.parameters))
            .collect();
        let theirs = keras().layers;
        assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(&theirs).skip(1) {
            assert_eq!(ours, theirs);
        }
        assert_eq!(ours[0].2, theirs[0].2);
    }

    #[test]
    fn layers_of_other_families_are_those_of_keras() {
        type Table = Vec<(String, String, Vec<usize>, usize)>;
        let text = include_str!("../../tests/fixtures/keras_layers.json");
        let families: BTreeMap<String, Table> = serde_json::from_str(text).unwrap();
        assert_eq!(families.len(), 11);
        for (family, theirs) in families {
            let side = registry::find(&family).unwrap().default_size;
            let graph = Graph::build_backbone(&family, 1.0, [side, side], Flavour::Tf).unwrap();
            let ours = Summary::new(&graph, &[]).layers;
            assert_eq!(ours.len(), theirs.len(), "{family}");
            assert_eq!(ours[0].shape, theirs[0].2);
            for (ours, (name, kind, shape, parameters)) in ours.into_iter().zip(theirs).skip(1) {
                // Keras has hard sigmoid as a ReLU, and some ReLUs as an `Activation`.
                let bare = |kind| if kind == "Activation" { "ReLU" } else { kind };
                // Keras' ConvNeXt has grouped convolutions, blocks in blocks and additions that are
                // no layers.
                let kind = match family.starts_with("convnext") {
                    true => bare(ours.kind),
                    false => bare(kind.as_str()),
                };
                // Means and deviations of the colours, which pictures come with.
                let parameters = if kind == "Normalization" {
                    0
                } else {
                    parameters
                };
                let ours = (ours.name, bare(ours.kind), ours.shape, ours.parameters);
                assert_eq!(ours, (name, kind, shape, parameters), "{family}");
            }
        }
    }

    #[test]
    fn flavours_differ_in_what_their_weights_hold() {
        for (family, parameters) in [
            // torchvision's counts without classifier and auxiliary head.
            ("densenet121", 6_953_856),
            ("googlenet", 5_599_904),
            ("inception_v3", 21_785_568),
            ("resnet18", 11_176_512),
            ("resnet34", 21_284_672),
            ("resnet50", 23_508_032),
            ("resnet101", 42_500_160),
            ("squeezenet1_1", 722_496),
            ("vgg16", 14_714_688),
            ("vgg16_bn", 14_723_136),
            ("vgg19_bn", 20_035_392),
        ] {
            let side = registry::find(family).unwrap().default_size;
            let graph = Graph::build_backbone(family, 1.0, [side, side], Flavour::Torch).unwrap();
            let summary = Summary::new(&graph, &[]);
            let trainable = summary.parameters - summary.statistics;
            assert_eq!(trainable, parameters, "{family}");
        }
    }

    #[test]
    fn classifiers_have_the_size_of_torchvisions() {
        for (family, parameters) in [
            ("efficientnet_b0", 5_288_548),
            ("efficientnet_b1", 7_794_184),
            ("efficientnet_b2", 9_109_994),
            ("efficientnet_b3", 12_233_232),
            ("mobilenet_v3_large", 5_483_032),
            ("mobilenet_v3_small", 2_542_856),
        ] {
            let graph =
                Graph::build_classifier(family, 1.0, [64, 64], Flavour::Torch, 1000).unwrap();
            let summary = Summary::new(&graph, &[]);
            let trainable = summary.parameters - summary.statistics;
            assert_eq!(trainable, parameters, "{family}");
        }
    }

    #[test]
    fn every_cutoff_trains_what_keras_trains() {
        let graph = tutorial();
        for (cutoff, parameters, tensors) in keras().cutoffs {
            // Keras 3 lacks `Conv1_pad`.
            let freezing = match cutoff + 1 {
                1 | 2 => "freeze = \"none\"".into(),
                155 => "freeze = \"all\"".into(),
                index => format!("freeze_before = {index}"),
            };
            let ours = totals(&graph, &freezing);
            assert_eq!(
                (ours.trainable_parameters, ours.trainable_tensors),
                (parameters, tensors),
                "{freezing}"
            );
            assert_eq!(ours.non_trainable_parameters, 2_259_265 - parameters);
        }
    }

    #[test]
    fn text_holds_the_totals_of_the_tutorial() {
        let graph = tutorial();
        let phases: Vec<(String, Trainable)> = [
            ("feature_extraction", "freeze = \"all\""),
            ("fine_tune", "freeze_before = 100"),
        ]
        .into_iter()
        .map(|(name, freezing)| {
            let trainable = Trainable::resolve(&graph, &phase(freezing), 0).unwrap();
            (name.to_string(), trainable)
        })
        .collect();
        let text = squeezed(&Summary::new(&graph, &phases).text());
        for line in [
            "layer kind output parameters feature_extraction fine_tune",
            "99 block_11_expand Conv2D 10 x 10 x 576 55,296 frozen frozen",
            "100 block_11_expand_BN BatchNormalization 10 x 10 x 576 2,304 frozen trains",
            "157 dense Dense 1 1,281 trains trains",
            "parameters 2,259,265",
            "trainable 1,281 in 2 tensors",
            "trainable 1,863,873 in 58 tensors",
            "input of training 1,280 values a picture after global_average_pooling2d",
            "input of training 9,600 values a picture after block_10_project_BN",
        ] {
            assert!(
                text.lines().any(|it| it == line),
                "no line\n{line}\nin\n{text}"
            );
        }
    }

    /// Columns one space apart, so that tests read what the table says and not how wide it is.
    fn squeezed(text: &str) -> String {
        let lines: Vec<String> = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        lines.join("\n")
    }

    #[test]
    fn multipliers_stand_where_they_are_not_1() {
        let graph = tutorial();
        let phase =
            phase("freeze_before = \"Conv_1\"\nlr_decay = { factor = 0.3, per = \"layer\" }");
        let trainable = Trainable::resolve(&graph, &phase, 0).unwrap();
        let rates = Rates::resolve(&graph, &phase, 0, &trainable).unwrap();
        let summary = Summary::new(&graph, &[("fine".to_string(), trainable)]);
        let text = squeezed(&summary.with_rates(&graph, &[rates]).text());
        for line in [
            "151 block_16_project_BN BatchNormalization 5 x 5 x 320 1,280 frozen",
            "152 Conv_1 Conv2D 5 x 5 x 1280 409,600 trains x 0.3",
            "157 dense Dense 1 1,281 trains",
            "4 block_13_expand to out_relu",
        ] {
            assert!(
                text.lines().any(|it| it == line),
                "no line\n{line}\nin\n{text}"
            );
        }
        assert_eq!(short(0.9f64.powi(13)), "0.2542");
        assert_eq!(short(0.5), "0.5");
        assert_eq!(short(10.0), "10");
    }

    #[test]
    fn thousands_are_separated() {
        for (figure, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (2_259_265, "2,259,265"),
        ] {
            assert_eq!(thousands(figure), text);
        }
    }
}
