//! A phase's training on a GPU: the compiled program over whole batches, parameters, gradients and
//! moments in the device's memory from step to step.

mod parameters;
mod passes;
mod update;

use candle_core::{Device, Result, Tensor, bail};

use super::lower::Program;
use super::plan::Plan;
use super::program::{Pass, Place};
use super::{Gradients, LossGradient};
use crate::engine::memory::{self, Slice};
use crate::engine::params::Params;
use crate::gpu::{self, Address, Block, Gpu, Life};
use crate::graph::{Graph, Op};
use crate::ops::dropout;
use crate::rng;
use parameters::{KernelRoom, NormRoom, Parameters, TokenRoom};
pub use update::{OptimizerNumbers, Rule, RuleKind};

/// Training of a suffix on a GPU. Nothing of it is in main memory until it is asked for.
#[derive(Debug)]
pub struct Session {
    gpu: Gpu,
    graph: std::sync::Arc<Graph>,
    program: Program,
    parameters: Parameters,
    kernels: Vec<KernelRoom>,
    norms: Vec<NormRoom>,
    tokens: Vec<TokenRoom>,
    batch: Option<Batch>,
    /// Gradients averaged over several batches.
    mean: Option<Block>,
    moments: Vec<Block>,
    rules: Option<update::Rules>,
    average: Option<Block>,
}

/// Where the buffers of a batch lie.
#[derive(Debug)]
struct Batch {
    pictures: usize,
    arena: Block,
    /// Bytes from the start, of each buffer.
    offsets: Vec<usize>,
    /// Of each dropout, in f32.
    masks: Vec<Block>,
}

impl Batch {
    /// For so many pictures, in the memory of an earlier one where that is large enough.
    fn new(
        gpu: &Gpu,
        graph: &Graph,
        program: &Program,
        pictures: usize,
        earlier: Option<Self>,
    ) -> Result<Self> {
        let mut lives: Vec<Option<Life>> = vec![None; program.rooms.len()];
        for (buffer, room) in program.rooms.iter().enumerate() {
            let used = |pass: &Pass| pass.buffers().any(|it| it == buffer);
            let Some(first) = program.passes.iter().position(used) else {
                continue;
            };
            let last = program.passes.iter().rposition(used).unwrap_or(first);
            // Inputs are there before the first pass.
            let first = match program.places[buffer] {
                Place::Input(_) => 0,
                Place::Slot { .. } => first,
            };
            lives[buffer] = Some(Life {
                passes: first..last + 1,
                bytes: room.elements * pictures * gpu.real().bytes(),
            });
        }
        let (offsets, bytes) = gpu::plan(&lives);
        let masks = program.masks.iter().map(|&id| {
            let values = graph.nodes()[id].shape.elements() * pictures;
            gpu.block(values * size_of::<f32>())
        });
        let kept = earlier.map(|batch| batch.arena);
        let arena = match kept.filter(|arena| arena.bytes() >= bytes) {
            Some(arena) => arena,
            None => gpu.block(bytes)?,
        };
        Ok(Self {
            pictures,
            arena,
            offsets,
            masks: masks.collect::<gpu::Result<_>>()?,
        })
    }

    fn at(&self, buffer: usize) -> Address {
        self.arena.address() + self.offsets[buffer] as Address
    }
}

impl Session {
    /// Of the suffix of these parameters, whose values it takes.
    pub(super) fn new(
        gpu: &Gpu,
        graph: &std::sync::Arc<Graph>,
        plan: &Plan,
        params: &Params,
    ) -> Result<Self> {
        let Some(program) = Program::new(graph, plan, 1) else {
            bail!("nothing lies above the stored tensors");
        };
        let mut parameters = Parameters::new(gpu, graph, plan, params)?;
        let mut session = Self {
            kernels: parameters.kernels(gpu, graph, &program)?,
            norms: parameters.norms(gpu, graph, &program)?,
            tokens: parameters.tokens(gpu, graph, &program)?,
            gpu: gpu.clone(),
            graph: graph.clone(),
            program,
            parameters,
            batch: None,
            mean: None,
            moments: Vec::new(),
            rules: None,
            average: None,
        };
        session.load(params)?;
        Ok(session)
    }

    /// Takes the values of all parameters and statistics.
    ///
    /// # Errors
    /// If the device failed; so for all functions here.
    pub fn load(&mut self, params: &Params) -> Result<()> {
        self.parameters.load(&self.gpu, params)?;
        self.prepare(true)
    }

    /// Forward and reverse pass of a batch, whose gradients stay on the device; the logits
    /// `[batch, classes]`. Running statistics follow at once.
    pub fn run(
        &mut self,
        inputs: &[Tensor],
        dropout: u64,
        loss: &LossGradient<'_>,
    ) -> Result<Tensor> {
        self.put(inputs, dropout)?;
        self.again(loss)
    }

    /// Brings a batch to the device, with the masks of this seed.
    pub fn put(&mut self, inputs: &[Tensor], dropout: u64) -> Result<()> {
        let pictures = inputs[0].dim(0)?;
        let gpu = self.gpu.clone();
        let _turn = gpu.turn();
        if self
            .batch
            .as_ref()
            .is_none_or(|batch| batch.pictures != pictures)
        {
            let earlier = self.batch.take();
            let batch = Batch::new(&gpu, &self.graph, &self.program, pictures, earlier)?;
            self.batch = Some(batch);
        }
        self.upload(inputs, dropout)
    }

    /// [`Session::run`] of the batch that is there.
    pub fn again(&mut self, loss: &LossGradient<'_>) -> Result<Tensor> {
        let gpu = self.gpu.clone();
        let _turn = gpu.turn();
        let pictures = self.batch.as_ref().map_or(0, |batch| batch.pictures);
        self.prepare(false)?;
        let mut logits = None;
        let passes = std::mem::take(&mut self.program.passes);
        let ran = passes.iter().try_for_each(|pass| match *pass {
            Pass::Loss {
                logits: from,
                dlogits,
            } => {
                let classes = self.program.rooms[from].elements;
                let values = gpu.download_map(self.at(from), pictures * classes)?;
                let values = Tensor::from_vec(values, (pictures, classes), &Device::Cpu)?;
                let gradient = loss(&values, 0..pictures)?.contiguous()?;
                gpu.upload_map(&Slice::of(&gradient)?, self.at(dlogits))?;
                logits = Some(values);
                Ok(())
            }
            _ => self.pass(pass, pictures),
        });
        self.program.passes = passes;
        ran?;
        match logits {
            Some(logits) => Ok(logits),
            None => bail!("the program has no loss"),
        }
    }

    fn at(&self, buffer: usize) -> Address {
        self.batch.as_ref().map_or(0, |batch| batch.at(buffer))
    }

    fn upload(&self, inputs: &[Tensor], seed: u64) -> Result<()> {
        let Some(batch) = &self.batch else {
            return Ok(());
        };
        for (buffer, place) in self.program.places.iter().enumerate() {
            let &Place::Input(index) = place else {
                continue;
            };
            let host = memory::to_host(&inputs[index])?;
            self.gpu.upload_map(&Slice::of(&host)?, batch.at(buffer))?;
        }
        for (&id, room) in self.program.masks.iter().zip(&batch.masks) {
            let node = &self.graph.nodes()[id];
            let rate = match node.op {
                Op::Dropout { rate } => rate,
                _ => 0.0,
            };
            let mut stream = rng::stream(seed, "dropout", &[id as u64]);
            let count = batch.pictures * node.shape.elements();
            let values = dropout::mask_values(count, rate, &mut stream)?;
            let backend = self.gpu.backend();
            backend.upload(bytemuck::cast_slice(&values), room.address())?;
        }
        Ok(())
    }

    /// Folds and stores what has moved; all of it if `frozen`.
    fn prepare(&self, frozen: bool) -> Result<()> {
        for room in &self.kernels {
            if frozen || room.moves {
                room.fold(&self.gpu)?;
            }
        }
        self.parameters.scale(&self.gpu, frozen)?;
        for room in &self.norms {
            if !room.by_batch {
                room.stored(&self.gpu)?;
            }
        }
        Ok(())
    }

    /// Gradients of the last batch, or of what [`Session::finish`] made of several.
    pub fn gradients(&self) -> Result<Gradients> {
        self.parameters.gradients(&self.gpu)
    }

    /// Running statistics that training moves, by name.
    pub fn statistics(&self) -> Result<Vec<(String, Tensor)>> {
        self.parameters.statistics(&self.gpu)
    }

    /// Writes what has moved to parameters in main memory.
    pub fn store(&self, params: &mut Params) -> Result<()> {
        for (name, value) in self.parameters.values(&self.gpu)? {
            params.set(&name, value)?;
        }
        for (name, value) in self.statistics()? {
            params.set(&name, value)?;
        }
        Ok(())
    }

    /// Remembers the running statistics, so that [`Session::forget`] can go back to them.
    pub fn remember(&self) -> Result<()> {
        self.parameters.remember(&self.gpu)
    }

    /// Goes back to the statistics as they were remembered.
    pub fn forget(&self) -> Result<()> {
        self.parameters.forget(&self.gpu)
    }

    /// Sets running statistics.
    pub fn set_statistics(&self, values: &[(String, Tensor)]) -> Result<()> {
        let (at, _) = self.parameters.all_moving();
        for (name, value) in values {
            self.parameters.fill_statistic(&self.gpu, at, name, value)?;
        }
        Ok(())
    }

    /// Bytes of the device's memory that it takes with such a batch.
    pub fn bytes(&self) -> usize {
        let batch = self.batch.as_ref().map_or(0, |batch| {
            let masks = batch.masks.iter().map(Block::bytes);
            batch.arena.bytes() + masks.sum::<usize>()
        });
        batch + self.parameters.bytes()
    }
}
