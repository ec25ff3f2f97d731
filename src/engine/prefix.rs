//! Compiled inference of a part of the graph: batch norm folded, activations and residual
//! additions fused, run depth-first a few pictures at a time. No gradients.
//!
//! A picture's output has the same bits whatever else is in its batch and however many threads
//! there are.

mod device;
mod fuse;
mod run;
mod schedule;

use candle_core::{Device, Result, Tensor, bail};

use super::forward;
use super::params::Params;
use crate::graph::{Graph, NodeId, Shape};
use device::OnDevice;
use run::Compiled;

/// A compiled part of the graph.
#[derive(Debug)]
pub struct Prefix {
    inputs: Vec<Shape>,
    program: Program,
}

#[derive(Debug)]
enum Program {
    /// Own kernels on the CPU.
    Compiled(Compiled),
    /// The same steps on a GPU.
    OnDevice(OnDevice),
    /// Tensor operations, node by node, on any other device.
    Portable(Portable),
}

impl Prefix {
    /// Compiles what lies between `inputs` (exclusive; usually the picture) and `outputs`.
    /// Dropout is the identity, batch norm uses its stored statistics. Fails if the outputs need
    /// a layer that the inputs do not lead to.
    pub fn compile(
        graph: &Graph,
        params: &Params,
        inputs: &[NodeId],
        outputs: &[NodeId],
    ) -> Result<Self> {
        let program = match (params.gpu(), params.device()) {
            (Some(gpu), _) => {
                Program::OnDevice(OnDevice::new(gpu, graph, params, inputs, outputs)?)
            }
            (None, Device::Cpu) => {
                Program::Compiled(Compiled::new(graph, params, inputs, outputs)?)
            }
            (None, _) => Program::Portable(Portable::new(graph, params, inputs, outputs)?),
        };
        let shape = |&id: &NodeId| graph.nodes()[id].shape;
        Ok(Self {
            inputs: inputs.iter().map(shape).collect(),
            program,
        })
    }

    /// Runs a batch: one tensor an input, `[batch, height, width, channels]` or
    /// `[batch, features]`; returns one an output.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let batch = self.batch(inputs)?;
        match &self.program {
            Program::Compiled(compiled) => compiled.run(inputs, batch),
            Program::OnDevice(program) => program.run(inputs, batch),
            Program::Portable(portable) => portable.run(inputs),
        }
    }

    /// Runs the batch that [`Self::run`] has just brought to a GPU so many times again and waits:
    /// what the device alone takes. Elsewhere it does nothing.
    pub fn repeat(&self, times: usize) -> Result<()> {
        match &self.program {
            Program::OnDevice(program) => program.repeat(times),
            Program::Compiled(_) | Program::Portable(_) => Ok(()),
        }
    }

    /// Bytes that it holds and that a batch takes on so many threads, its inputs apart.
    pub fn memory(&self, batch: usize, threads: usize) -> usize {
        match &self.program {
            Program::Compiled(compiled) => compiled.memory(batch, threads),
            // Maps lie on the device.
            Program::OnDevice(_) | Program::Portable(_) => 0,
        }
    }

    /// Number of pictures; an error if the inputs are not what was compiled for.
    fn batch(&self, inputs: &[Tensor]) -> Result<usize> {
        let batch = match inputs.first() {
            Some(input) => input.dim(0)?,
            None => bail!("no inputs"),
        };
        if inputs.len() != self.inputs.len() {
            bail!(
                "expected {} inputs, not {}",
                self.inputs.len(),
                inputs.len()
            );
        }
        for (input, shape) in inputs.iter().zip(&self.inputs) {
            if input.dims() != shape.batched(batch) {
                bail!(
                    "expected an input of dimensions {:?}, not {:?}",
                    shape.batched(batch),
                    input.dims()
                );
            }
        }
        Ok(batch)
    }
}

/// The nodes to run one after the other.
#[derive(Debug)]
struct Portable {
    graph: Graph,
    params: Params,
    inputs: Vec<NodeId>,
    outputs: Vec<NodeId>,
    order: Vec<NodeId>,
}

impl Portable {
    fn new(graph: &Graph, params: &Params, inputs: &[NodeId], outputs: &[NodeId]) -> Result<Self> {
        Ok(Self {
            graph: graph.clone(),
            params: params.clone(),
            inputs: inputs.to_vec(),
            outputs: outputs.to_vec(),
            order: forward::between(graph, inputs, outputs)?,
        })
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let nodes = self.graph.nodes();
        let mut reads = vec![0; nodes.len()];
        for &id in &self.order {
            nodes[id].inputs.iter().for_each(|&input| reads[input] += 1);
        }
        self.outputs.iter().for_each(|&id| reads[id] += 1);
        let mut values: Vec<Option<Tensor>> = vec![None; nodes.len()];
        for (&id, input) in self.inputs.iter().zip(inputs) {
            values[id] = Some(input.clone());
        }
        for &id in &self.order {
            let read: Vec<&Tensor> = nodes[id]
                .inputs
                .iter()
                .filter_map(|&input| values[input].as_ref())
                .collect();
            let output = forward::infer(&self.graph, &self.params, id, &read)?;
            values[id] = Some(output);
            for &input in &nodes[id].inputs {
                reads[input] -= 1;
                if reads[input] == 0 {
                    values[input] = None;
                }
            }
        }
        let outputs = self.outputs.iter();
        Ok(outputs.filter_map(|&id| values[id].clone()).collect())
    }
}

#[cfg(test)]
mod device_tests;
#[cfg(test)]
mod tests;
