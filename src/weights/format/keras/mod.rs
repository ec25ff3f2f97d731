//! Keras' HDF5 files: the layout of Keras 2 and of keras.applications (a group a layer, its
//! variables listed in an attribute) and that of Keras 3 (`.weights.h5`, variables numbered).
//! Tensors come out under the names of our graph's parameters, which are Keras' own.

mod layers;

use std::collections::HashSet;

use candle_core::{DType, Tensor};
use hdf5_reader::group::Group;
use hdf5_reader::{Dataset, Datatype, Hdf5File, OpenOptions};

use super::{Bytes, Entry, Fault, Format, Layout, Wanted, decode};
use crate::config::Flavour;
use layers::{Layer, Variable};

/// Most groups that are looked at, and how deep; real files have some hundreds, four deep.
const MOST_GROUPS: usize = 50_000;
const MOST_DEPTH: usize = 12;

/// Largest compressed block; published files have none.
const MOST_CHUNK: usize = 1 << 29;

/// Largest tensor; the largest of keras.applications is VGG's first dense layer with 411 MB.
const MOST_TENSOR: usize = 1 << 32;

/// A checked file.
pub(super) struct File {
    entries: Vec<Entry>,
    datasets: Vec<Dataset>,
}

impl File {
    /// Finds layers and variables and names them as our graph does; `wanted` tells the order of
    /// layers for files without their names.
    pub(super) fn open(bytes: &Bytes, wanted: &Wanted) -> Result<Self, Fault> {
        let options = OpenOptions::default()
            .with_max_chunk_bytes(MOST_CHUNK)
            .with_max_read_bytes(MOST_TENSOR);
        let file = Hdf5File::from_owner(bytes.clone(), options).map_err(Fault::damaged)?;
        let root = file.root_group().map_err(Fault::damaged)?;
        // `model.save` puts the weights beside the optimizer.
        let whole = root.group("model_weights").ok();
        let prefix = if whole.is_some() {
            "model_weights/"
        } else {
            ""
        };
        let top = whole.as_ref().unwrap_or(&root);
        let found = match strings(top, "layer_names")? {
            Some(names) => listed(&file, top, prefix, &names)?,
            None => numbered(&root)?,
        };
        let mut entries = Vec::new();
        let mut datasets = Vec::new();
        for (name, dataset) in layers::named(found, wanted) {
            entries.push(Entry {
                name,
                dtype: float(dataset.dtype()),
                dims: dims(&dataset)?,
                layout: Layout::Keras,
            });
            datasets.push(dataset);
        }
        Ok(Self { entries, datasets })
    }
}

impl Format for File {
    fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn read(&self, index: usize) -> Result<Tensor, Fault> {
        let entry = &self.entries[index];
        let dtype = entry.dtype.clone().map_err(Fault::damaged)?;
        let values = self.datasets[index].read_native_bytes();
        decode(&values.map_err(Fault::damaged)?, dtype, &entry.dims)
    }

    fn flavour(&self) -> Option<Flavour> {
        Some(Flavour::Tf)
    }
}

fn float(datatype: &Datatype) -> Result<DType, String> {
    match datatype {
        Datatype::FloatingPoint { size: 2, .. } => Ok(DType::F16),
        Datatype::FloatingPoint { size: 4, .. } => Ok(DType::F32),
        Datatype::FloatingPoint { size: 8, .. } => Ok(DType::F64),
        Datatype::FixedPoint { .. } => Err("whole numbers".into()),
        Datatype::String { .. } => Err("text".into()),
        _ => Err("values of another kind".into()),
    }
}

fn dims(dataset: &Dataset) -> Result<Vec<usize>, Fault> {
    let dims = dataset.shape().iter().map(|&dim| usize::try_from(dim));
    dims.collect::<Result<_, _>>().map_err(Fault::damaged)
}

/// Strings of an attribute, which Keras splits in `name0`, `name1` and so on where it is longer
/// than HDF5 allows.
fn strings(group: &Group, name: &str) -> Result<Option<Vec<String>>, Fault> {
    let attributes = group.attributes().map_err(Fault::damaged)?;
    let read = |name: &str| {
        let attribute = attributes.iter().find(|it| it.name == name)?;
        // An empty list has lost its type.
        Some(match attribute.num_elements() {
            Ok(0) => Ok(Vec::new()),
            _ => attribute.read_strings().map_err(Fault::damaged),
        })
    };
    if let Some(all) = read(name) {
        return all.map(Some);
    }
    let mut all = Vec::new();
    let mut parts = 0;
    while let Some(part) = read(&format!("{name}{parts}")) {
        all.extend(part?);
        parts += 1;
    }
    Ok((parts > 0).then_some(all))
}

/// Layers in the order of `names`, as Keras 2 writes them.
fn listed(
    file: &Hdf5File,
    top: &Group,
    prefix: &str,
    names: &[String],
) -> Result<Vec<Layer<Dataset>>, Fault> {
    if names.len() > MOST_GROUPS {
        return Err(Fault::damaged("it lists too many layers"));
    }
    let mut layers = Vec::new();
    for layer in names {
        let group = descend(top, layer)?;
        let variables = strings(&group, "weight_names")?.unwrap_or_default();
        let variables = variables.into_iter().map(|name| {
            let path = format!("{prefix}{layer}/{name}");
            let dataset = file.dataset(&path).map_err(Fault::damaged)?;
            Ok(Variable {
                name: Some(name),
                data: dataset,
            })
        });
        layers.push(Layer {
            name: Some(layer.clone()),
            class: None,
            variables: variables.collect::<Result<_, Fault>>()?,
        });
    }
    Ok(layers)
}

/// A group below another; Keras 2 let slashes into the names of layers.
fn descend(top: &Group, path: &str) -> Result<Group, Fault> {
    let mut group = top.clone();
    for name in path.split('/') {
        group = group.group(name).map_err(Fault::damaged)?;
    }
    Ok(group)
}

/// Layers as Keras 3 writes them: each has a group `vars` with its variables by number, often
/// with the layer's name; the group around it bears the layer's class and number.
fn numbered(root: &Group) -> Result<Vec<Layer<Dataset>>, Fault> {
    let mut layers = Vec::new();
    let mut seen = HashSet::new();
    let mut open = vec![(root.clone(), 0)];
    while let Some((group, depth)) = open.pop() {
        // A group may contain itself, or be there many times.
        if !seen.insert(group.address()) {
            continue;
        }
        if seen.len() > MOST_GROUPS || depth > MOST_DEPTH {
            return Err(Fault::damaged("its groups are too many or too deep"));
        }
        let children = group.groups().map_err(Fault::damaged)?;
        for child in children {
            if depth == 0 && child.name() == "optimizer" {
                continue;
            }
            if child.name() != "vars" {
                open.push((child, depth + 1));
                continue;
            }
            let (_, datasets) = child.members().map_err(Fault::damaged)?;
            let name = strings(&child, "name").ok().flatten();
            let name = name.and_then(|names| names.into_iter().next());
            layers.extend(of_numbers(name, group.name(), datasets));
        }
    }
    // As Keras numbers them within a class.
    layers.sort_by_key(|layer| layer.class.clone());
    Ok(layers)
}

fn of_numbers(name: Option<String>, group: &str, datasets: Vec<Dataset>) -> Option<Layer<Dataset>> {
    let mut variables = datasets
        .into_iter()
        .filter_map(|dataset| Some((dataset.name().parse::<usize>().ok()?, dataset)))
        .collect::<Vec<_>>();
    variables.sort_by_key(|(number, _)| *number);
    if variables.is_empty() {
        return None;
    }
    let variables = variables.into_iter().map(|(_, dataset)| Variable {
        name: None,
        data: dataset,
    });
    Some(Layer {
        name,
        class: Some(layers::numbered_class(group)),
        variables: variables.collect(),
    })
}
