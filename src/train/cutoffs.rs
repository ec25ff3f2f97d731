//! Every architecture trains from any cutoff: a step above each layer passes its self-check.

use std::sync::Arc;

use candle_core::Tensor;

use super::selfcheck::SelfCheck;
use crate::config::{BatchNormMode, PhaseConfig};
use crate::engine::params::Params;
use crate::engine::parity::fixture::{self, Case, Fixture};
use crate::engine::parity::say;
use crate::engine::suffix::Suffix;
use crate::engine::test_support::node_by_node;
use crate::graph::Graph;
use crate::graph::cutoff::{Frontier, Trainable};

/// So many cutoffs of each architecture in the everyday test.
const SAMPLED: usize = 3;

#[test]
fn architectures_train_from_a_few_cutoffs() {
    walk(
        fixture::of_every_block(),
        |cutoffs| {
            let step = cutoffs.len().div_ceil(SAMPLED).max(1);
            cutoffs.into_iter().step_by(step).collect()
        },
        &[BatchNormMode::Eval],
    );
}

#[test]
#[ignore = "slow without optimisation"]
fn architectures_train_from_every_cutoff() {
    walk(
        fixture::all(),
        |cutoffs| cutoffs,
        &[BatchNormMode::Eval, BatchNormMode::Train],
    );
}

/// What trains above each layer, by its name; of layers that leave the same to train, the first.
fn cutoffs(graph: &Graph) -> Vec<(String, Trainable)> {
    let mut found: Vec<(String, Trainable)> = Vec::new();
    let with_params = |id: &usize| !graph.params(*id).is_empty();
    let (mut frozen, mut last) = (false, 0);
    for layer in graph.backbone_layers() {
        let name = &graph.nodes()[layer.start].name;
        let text = format!(
            "name = \"p\"\nepochs = 1\noptimizer = {{ kind = \"sgd\", lr = 0.1 }}\n\
             freeze_before = \"{name}\""
        );
        let phase: PhaseConfig = toml::from_str(&text).unwrap();
        match Trainable::resolve(graph, &phase, 0) {
            Ok(trainable) => {
                let nodes = 0..graph.nodes().len();
                let trained = nodes.filter(with_params).filter(|&id| trainable.node(id));
                let trained = trained.count();
                if trained > 0 && trained != last {
                    found.push((name.clone(), trainable));
                }
                last = trained;
            }
            Err(error) => assert!(!frozen, "`{name}`: {error}"),
        }
        frozen |= layer.clone().any(|id| with_params(&id));
    }
    found
}

type Cutoffs = Vec<(String, Trainable)>;

fn walk(
    fixtures: Vec<(String, Fixture)>,
    choose: impl Fn(Cutoffs) -> Cutoffs,
    modes: &[BatchNormMode],
) {
    let mut failures = Vec::new();
    for (name, fixture) in fixtures {
        for &mode in modes {
            let (case, graph) = match (mode, &fixture.train) {
                (BatchNormMode::Train, None) => continue,
                (BatchNormMode::Train, Some(case)) => (case, fixture.graph(case)),
                _ => (&fixture.eval, fixture.graph(&fixture.eval)),
            };
            let params = fixture.params(&graph);
            let outputs = node_by_node(&graph, &params, &case.pictures());
            let chosen = choose(cutoffs(&graph));
            let count = chosen.len();
            for (layer, trainable) in chosen {
                if let Err(error) = step(case, &graph, &params, &outputs, &trainable, mode) {
                    failures.push(format!("{name}, {mode:?}, before `{layer}`: {error}"));
                }
            }
            say(&format!("{name}, {mode:?}: {count} cutoffs"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A step of plain gradient descent under the eyes of the self-check.
fn step(
    case: &Case,
    graph: &Arc<Graph>,
    params: &Params,
    outputs: &[Tensor],
    trainable: &Trainable,
    mode: BatchNormMode,
) -> Result<(), Box<dyn std::error::Error>> {
    const RATE: f64 = 1e-3;
    let frontier = Frontier::find(graph, trainable);
    let suffix = Suffix::new(graph.clone(), trainable, &frontier, mode);
    let inputs: Vec<Tensor> = frontier
        .stored
        .iter()
        .map(|&id| outputs[id].clone())
        .collect();
    let mut params = params.clone();
    let check = SelfCheck::before(&params, suffix.trained(), &suffix.updated_statistics())?;
    let stepped = suffix.step(&params, &inputs, 0, &case.loss())?;
    for (name, gradient) in &stepped.gradients {
        let moved = (params.value(name) - (gradient * RATE)?)?;
        params.set(name, moved)?;
    }
    for (name, value) in stepped.statistics {
        params.set(&name, value)?;
    }
    check.after("walk", &params, suffix.trained(), &stepped.gradients)?;
    Ok(())
}
