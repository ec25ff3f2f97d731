//! The state of training from the first rank to the others, which need not see its run directory.

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::{Exit, Failure, state};
use crate::engine::params::Params;
use crate::graph::Graph;
use crate::ranks::Ranks;
use crate::run::Tensors;
use crate::train::optimizer::OptimizerState;
use crate::train::position::{Position, Start};

/// All of a start that is no value of a tensor.
#[derive(Serialize, Deserialize)]
struct Head {
    position: Position,
    optimizer_step: u64,
    averaged_steps: Option<u64>,
    has_best: bool,
    /// Names and dimensions: weights, averages, moments, best weights, in the order of their values.
    tensors: [Vec<(String, Vec<usize>)>; 4],
}

/// The start that the first rank has, on all ranks.
pub fn start(own: Option<Start>, graph: &Graph, ranks: &Ranks) -> Result<Start, Failure> {
    if ranks.is_alone()
        && let Some(start) = own
    {
        return Ok(start);
    }
    let (mut head, mut values) = (Vec::new(), Vec::new());
    if let Some(start) = &own {
        (head, values) = packed(start)?;
    }
    let head = ranks.from_first(|| head)?;
    let values = ranks.gather_values(values)?;
    match own {
        Some(start) => Ok(start),
        None => unpacked(&head, &values, graph),
    }
}

fn packed(start: &Start) -> Result<(Vec<u8>, Vec<f32>), Failure> {
    let averaged = start.averaged.as_ref();
    let of = |params: Option<&Params>| params.map(state::tensors).unwrap_or_default();
    let maps: [Tensors; 4] = [
        state::tensors(&start.params),
        of(averaged.map(|(params, _)| params)),
        start.optimizer.tensors.clone(),
        of(start.best.as_ref()),
    ];
    let mut values = Vec::new();
    for tensor in maps.iter().flat_map(Tensors::values) {
        values.extend(tensor.flatten_all()?.to_vec1::<f32>()?);
    }
    let head = Head {
        position: start.position.clone(),
        optimizer_step: start.optimizer.step,
        averaged_steps: averaged.map(|(_, steps)| *steps),
        has_best: start.best.is_some(),
        tensors: maps.map(|map| {
            let dims = map.iter();
            let dims = dims.map(|(name, tensor)| (name.clone(), tensor.dims().to_vec()));
            dims.collect()
        }),
    };
    let head = serde_json::to_vec(&head).map_err(|error| Failure::new(Exit::Other, error))?;
    Ok((head, values))
}

fn unpacked(head: &[u8], mut values: &[f32], graph: &Graph) -> Result<Start, Failure> {
    let wrong = "the first rank's state is not what this version of xp understands";
    let head: Head =
        serde_json::from_slice(head).map_err(|error| Failure::new(Exit::Other, error))?;
    let mut maps: [Tensors; 4] = Default::default();
    for (map, names) in maps.iter_mut().zip(head.tensors) {
        for (name, dims) in names {
            let Some((own, rest)) = values.split_at_checked(dims.iter().product()) else {
                return Err(Failure::new(Exit::Other, wrong));
            };
            map.insert(name, Tensor::from_slice(own, dims, &Device::Cpu)?);
            values = rest;
        }
    }
    let [weights, averaged, moments, best] = maps;
    let averaged = match head.averaged_steps {
        Some(steps) => Some((state::params(graph, &averaged)?, steps)),
        None => None,
    };
    Ok(Start {
        position: head.position,
        params: state::params(graph, &weights)?,
        averaged,
        optimizer: OptimizerState {
            step: head.optimizer_step,
            tensors: moments,
        },
        best: match head.has_best {
            true => Some(state::params(graph, &best)?),
            false => None,
        },
    })
}
