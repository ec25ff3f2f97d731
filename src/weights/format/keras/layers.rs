//! Layers of a Keras file to parameters of our graph.
//!
//! Names that an author gave agree with ours. Names that Keras gave (`conv2d_7`) count layers of a
//! class within a session, so a file may begin with `conv2d_95`: they are counted from the lowest.
//! Files without names are matched by order, and only where that leaves no doubt.

use std::collections::HashMap;

use super::Wanted;

/// A layer of a file with its variables in order; `D` stands for the data.
#[derive(Debug)]
pub(super) struct Layer<D> {
    pub(super) name: Option<String>,
    /// Class in snake case and number within the class, where the file tells.
    pub(super) class: Option<(String, usize)>,
    pub(super) variables: Vec<Variable<D>>,
}

/// A variable, by name (`block1_conv1/kernel:0`) or only by its place.
#[derive(Debug)]
pub(super) struct Variable<D> {
    pub(super) name: Option<String>,
    pub(super) data: D,
}

/// Classes whose layers Keras names by number where the author does not.
const NUMBERED: [&str; 6] = [
    "batch_normalization",
    "conv2d",
    "dense",
    "depthwise_conv2d",
    "layer_normalization",
    "separable_conv2d",
];

/// `conv2d_7` is number 7 of class `conv2d`, `conv2d` is number 0.
pub(super) fn numbered_class(name: &str) -> (String, usize) {
    let numbered = name.rsplit_once('_').and_then(|(class, number)| {
        let digits = number.bytes().all(|byte| byte.is_ascii_digit());
        Some((class, number.parse().ok().filter(|_| digits)?))
    });
    let (class, number) = numbered.unwrap_or((name, 0));
    (class.into(), number)
}

/// The variables under the names of our parameters.
pub(super) fn named<D>(mut layers: Vec<Layer<D>>, wanted: &Wanted) -> Vec<(String, D)> {
    layers.retain(|layer| !layer.variables.is_empty());
    count_from_lowest(&mut layers);
    let ours = Ours::of(wanted);
    let is_known = |layer: &Layer<D>| {
        let name = layer.name.as_deref();
        name.is_some_and(|name| ours.iter().any(|ours| ours.name == plain(name)))
    };
    let known = layers.iter().filter(|layer| is_known(layer)).count();
    if known < ours.len() {
        name_by_order(&mut layers, &ours);
    }
    layers
        .into_iter()
        .flat_map(|layer| {
            let Layer {
                name,
                class,
                variables,
            } = layer;
            let layer = match (name, &class) {
                (Some(name), _) => plain(&name),
                (None, Some((class, number))) => format!("{class}_{number}"),
                (None, None) => String::new(),
            };
            let names = variable_names(class.map(|(class, _)| class), &variables);
            names
                .into_iter()
                .zip(variables)
                .map(move |(name, variable)| (format!("{layer}{name}"), variable.data))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Keras 3 has no slashes in names of layers, and neither have we.
fn plain(name: &str) -> String {
    name.replace('/', "_")
}

fn count_from_lowest<D>(layers: &mut [Layer<D>]) {
    for class in NUMBERED {
        let number = |layer: &Layer<D>| {
            let (found, number) = numbered_class(layer.name.as_deref()?);
            (found == class).then_some(number)
        };
        let lowest = layers.iter().filter_map(number).min();
        for layer in layers.iter_mut() {
            if let (Some(number), Some(lowest)) = (number(layer), lowest) {
                layer.name = Some(match number - lowest {
                    0 => class.into(),
                    number => format!("{class}_{number}"),
                });
            }
        }
    }
}

/// Names of a layer's variables after ours: `/kernel`, or `_pointwise/kernel` for the second half
/// of a separable convolution, which is a layer of its own in our graph.
fn variable_names<D>(class: Option<String>, variables: &[Variable<D>]) -> Vec<String> {
    let count = variables.len();
    let by_class = |at: usize| {
        let names: &[&str] = match (class.as_deref(), count) {
            (Some("batch_normalization"), 4) => {
                &["gamma", "beta", "moving_mean", "moving_variance"]
            }
            // Keras' Inception has no scale.
            (Some("batch_normalization"), 3) => &["beta", "moving_mean", "moving_variance"],
            (Some("batch_normalization"), 2) => &["moving_mean", "moving_variance"],
            (Some("layer_normalization"), 2) => &["gamma", "beta"],
            (Some("layer_scale"), 1) => &["gamma"],
            (Some("normalization"), 3) => &["mean", "variance", "count"],
            (Some("separable_conv2d"), _) => &["depthwise_kernel", "pointwise_kernel", "bias"],
            (Some("conv2d" | "depthwise_conv2d" | "dense"), _) => &["kernel", "bias"],
            _ => &[],
        };
        names
            .get(at)
            .map_or_else(|| at.to_string(), |&name| name.to_string())
    };
    let names: Vec<String> = variables
        .iter()
        .enumerate()
        .map(|(at, variable)| match &variable.name {
            Some(name) => variable_name(name).to_string(),
            None => by_class(at),
        })
        .collect();
    let separable = names.iter().any(|name| name == "pointwise_kernel");
    names
        .into_iter()
        .map(|name| match name.as_str() {
            "depthwise_kernel" => "/kernel".into(),
            "pointwise_kernel" => "_pointwise/kernel".into(),
            "bias" if separable => "_pointwise/bias".into(),
            _ => format!("/{name}"),
        })
        .collect()
}

/// `conv1/kernel:0` and the first Keras' `conv1_W_1:0` are `kernel`.
fn variable_name(name: &str) -> &str {
    let name = name.rsplit_once('/').map_or(name, |(_, name)| name);
    let name = name.split_once(':').map_or(name, |(name, _)| name);
    let old = name.strip_suffix("_1").unwrap_or(name);
    match old.rsplit_once('_').map(|(_, kind)| kind) {
        Some("W") => "kernel",
        Some("b") => "bias",
        _ if old.ends_with("_running_mean") => "moving_mean",
        // Keras 1 said deviation and kept the variance.
        _ if old.ends_with("_running_std") => "moving_variance",
        Some("gamma") => "gamma",
        Some("beta") => "beta",
        _ => name,
    }
}

/// Variables of a layer with their dimensions.
type Parts<'a> = Vec<(&'a str, &'a [usize])>;

/// A layer of our graph that has parameters.
struct Ours {
    name: String,
    class: &'static str,
    variables: usize,
}

impl Ours {
    fn of(wanted: &Wanted) -> Vec<Self> {
        let mut layers: Vec<(String, Parts<'_>)> = Vec::new();
        for (name, dims) in wanted {
            let (layer, variable) = name.rsplit_once('/').unwrap_or((name, ""));
            let whole = layer.strip_suffix("_pointwise");
            match layers.last_mut() {
                Some((last, parts)) if last == layer || Some(last.as_str()) == whole => {
                    parts.push((variable, dims));
                }
                _ => layers.push((layer.into(), vec![(variable, dims)])),
            }
        }
        let class = |parts: &[(&str, &[usize])]| {
            let has = |variable: &str| parts.iter().any(|(name, _)| *name == variable);
            let kernels = parts.iter().filter(|(name, _)| *name == "kernel").count();
            match parts.first() {
                _ if has("moving_mean") => "batch_normalization",
                _ if kernels == 2 => "separable_conv2d",
                Some(("kernel", [_, 1, _, _])) => "depthwise_conv2d",
                Some(("kernel", [_, _])) => "dense",
                Some(("kernel", _)) => "conv2d",
                _ if has("gamma") && has("beta") => "layer_normalization",
                _ => "",
            }
        };
        layers
            .into_iter()
            .map(|(name, parts)| Self {
                name,
                class: class(&parts),
                variables: parts.len(),
            })
            .collect()
    }
}

/// Gives a file's layers our names by their order: within each class where the file tells
/// classes, over all layers where it lists them in order. A graph that was cut between branches
/// has other layers than the first ones of a file, so as many norms as in the file must be there;
/// classifiers, which come last, have none.
fn name_by_order<D>(layers: &mut [Layer<D>], ours: &[Ours]) {
    let classed = layers.iter().all(|layer| layer.class.is_some());
    if classed && layers.iter().any(|layer| layer.name.is_some()) {
        return;
    }
    let mut by_class: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, layer) in layers.iter().enumerate() {
        let class = match &layer.class {
            Some((class, _)) => NUMBERED.into_iter().find(|known| known == class),
            None => Some(""),
        };
        by_class.entry(class.unwrap_or("?")).or_default().push(at);
    }
    let norms = |count: usize| {
        ours.iter()
            .filter(|it| it.class == "batch_normalization")
            .count()
            == count
    };
    let listed_norms = || {
        let is_norm = |layer: &&Layer<D>| {
            let mut names = layer.variables.iter().filter_map(|it| it.name.as_deref());
            names.any(|name| variable_name(name) == "moving_mean")
        };
        layers.iter().filter(is_norm).count()
    };
    let in_file = match classed {
        true => by_class.get("batch_normalization").map_or(0, Vec::len),
        false => listed_norms(),
    };
    if !norms(in_file) {
        return;
    }
    let mut taken: HashMap<&str, usize> = HashMap::new();
    let mut pairs = Vec::new();
    for ours in ours {
        let class = if classed { ours.class } else { "" };
        let next = taken.entry(class).or_default();
        let Some(&at) = by_class.get(class).and_then(|layers| layers.get(*next)) else {
            return;
        };
        if layers[at].variables.len() != ours.variables {
            return;
        }
        *next += 1;
        pairs.push((at, &ours.name));
    }
    layers.iter_mut().for_each(|layer| layer.name = None);
    for (at, name) in pairs {
        layers[at].name = Some(name.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flavour;
    use crate::graph::Graph;

    type Plain = Layer<()>;
    /// Name, class, shape and parameters.
    type Row = (String, String, Vec<usize>, usize);

    fn layer(name: Option<&str>, class: Option<&str>, variables: &[&str]) -> Plain {
        Layer {
            name: name.map(Into::into),
            class: class.map(numbered_class),
            variables: variables
                .iter()
                .map(|name| Variable {
                    name: (!name.is_empty()).then(|| (*name).into()),
                    data: (),
                })
                .collect(),
        }
    }

    fn names(layers: Vec<Plain>, wanted: &[&str]) -> Vec<String> {
        let dims = |name: &str| match name {
            _ if !name.ends_with("kernel") => vec![8],
            _ if name.starts_with("dense") => vec![8, 8],
            _ => vec![8, 4, 3, 3],
        };
        let wanted: Vec<_> = wanted.iter().map(|it| (it.to_string(), dims(it))).collect();
        named(layers, &wanted).into_iter().map(|it| it.0).collect()
    }

    #[test]
    fn numbers_of_a_session_count_from_the_lowest() {
        let conv = |name| layer(Some(name), None, &["x/kernel:0"]);
        let file = vec![
            conv("conv2d_95"),
            conv("block_1"),
            conv("conv2d_97"),
            conv("conv2d_96"),
        ];
        let expected = [
            "conv2d/kernel",
            "block_1/kernel",
            "conv2d_2/kernel",
            "conv2d_1/kernel",
        ];
        assert_eq!(names(file, &["conv2d_2/kernel"]), expected);
    }

    #[test]
    fn variables_have_one_name_in_every_keras() {
        for (theirs, ours) in [
            ("block1_conv1/kernel:0", "kernel"),
            ("block1_conv1_W_1:0", "kernel"),
            ("block1_conv1_b_1:0", "bias"),
            ("bn_conv1_running_std_1:0", "moving_variance"),
            ("bn_conv1_gamma_1:0", "gamma"),
            ("conv/BatchNorm/moving_mean", "moving_mean"),
        ] {
            assert_eq!(variable_name(theirs), ours, "{theirs}");
        }
        let variables = ["s/depthwise_kernel:0", "s/pointwise_kernel:0", "s/bias:0"];
        let expected = ["s/kernel", "s_pointwise/kernel", "s_pointwise/bias"];
        assert_eq!(
            names(vec![layer(Some("s"), None, &variables)], &[]),
            expected
        );
        let depthwise = layer(Some("d"), None, &["d/depthwise_kernel:0"]);
        assert_eq!(names(vec![depthwise], &[]), ["d/kernel"]);
    }

    #[test]
    fn layers_without_names_go_by_class_and_order() {
        let conv = |class| layer(None, Some(class), &[""]);
        let norm = |class| layer(None, Some(class), &["", "", ""]);
        let file = || {
            vec![
                norm("batch_normalization"),
                norm("batch_normalization_1"),
                conv("conv2d"),
                conv("conv2d_1"),
                layer(None, Some("dense"), &["", ""]),
            ]
        };
        let norms = |name: &str| {
            ["beta", "moving_mean", "moving_variance"].map(|it| format!("{name}/{it}"))
        };
        let mut wanted = vec!["stem/kernel".to_string()];
        wanted.extend(norms("stem_bn"));
        wanted.push("top/kernel".into());
        wanted.extend(norms("top_bn"));
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        let found = names(file(), &wanted);
        assert!(
            wanted.iter().all(|name| found.iter().any(|it| it == name)),
            "{found:?}"
        );
        assert!(found.contains(&"dense_0/kernel".into()));
        // Cut below the second norm: the file's first layers need not be ours.
        let found = names(file(), &wanted[..4]);
        assert!(found.contains(&"conv2d_0/kernel".into()), "{found:?}");
    }

    /// Whole networks, by Keras' list of layers: with the names of a long session, and without.
    #[test]
    fn layers_of_whole_networks_find_their_places() {
        let text = include_str!("../../../../tests/fixtures/keras_layers.json");
        let networks: HashMap<String, Vec<Row>> = serde_json::from_str(text).unwrap();
        // Keras' ConvNeXt nests its layers, and its depthwise convolutions are grouped ones.
        let networks = networks
            .into_iter()
            .filter(|(family, _)| !family.starts_with("convnext"));
        for (family, listed) in networks {
            let graph = Graph::build_backbone(&family, 1.0, [96, 96], Flavour::Tf).unwrap();
            let wanted: Vec<(String, Vec<usize>)> = (0..graph.nodes().len())
                .flat_map(|id| graph.params(id))
                .map(|spec| (spec.name, spec.dims))
                .collect();
            let ours = Ours::of(&wanted);
            let mut counts: HashMap<&str, usize> = HashMap::new();
            let (mut session, mut nameless) = (Vec::new(), Vec::new());
            for (name, kind, ..) in &listed {
                let Some(found) = ours.iter().find(|ours| ours.name == *name) else {
                    continue;
                };
                let class = match kind.as_str() {
                    "BatchNormalization" => "batch_normalization",
                    "DepthwiseConv2D" => "depthwise_conv2d",
                    "SeparableConv2D" => "separable_conv2d",
                    _ => "conv2d",
                };
                assert_eq!(found.class, class, "{family} {name}");
                let variables = || {
                    let unnamed = |_| Variable {
                        name: None,
                        data: name.clone(),
                    };
                    (0..found.variables).map(unnamed).collect()
                };
                let number = counts.entry(class).or_default();
                nameless.push(Layer {
                    name: None,
                    class: Some((class.to_string(), *number)),
                    variables: variables(),
                });
                *number += 1;
                let later = match numbered_class(name) {
                    (given, number) if given == class => format!("{class}_{}", number + 95),
                    _ => name.clone(),
                };
                session.push(Layer {
                    name: Some(later),
                    class: Some((class.to_string(), 0)),
                    variables: variables(),
                });
            }
            for layers in [session, nameless] {
                let found: HashMap<String, String> = named(layers, &wanted).into_iter().collect();
                assert_eq!(found.len(), wanted.len());
                for (name, _) in &wanted {
                    let layer = name.rsplit_once('/').unwrap().0;
                    assert_eq!(
                        found[name],
                        layer.trim_end_matches("_pointwise"),
                        "{family}"
                    );
                }
            }
        }
    }

    #[test]
    fn listed_layers_under_other_names_go_by_order() {
        let conv = |name| layer(Some(name), None, &["kernel:0", "bias:0"]);
        let file = vec![conv("convolution2d_1"), conv("convolution2d_2")];
        let found = names(file, &["block1_conv1/kernel", "block1_conv1/bias"]);
        assert!(found[0].starts_with("block1_conv1/"), "{found:?}");
        assert!(found[2].starts_with('/'), "{found:?}");
    }
}
