//! Parameters of a suffix in a device's memory, what layers read of them, and where gradients go.

use candle_core::{Device, Result, Tensor};
use indexmap::IndexMap;

use super::super::Gradients;
use super::super::kernels::KernelSpec;
use super::super::lower::Program;
use super::super::plan::Plan;
use super::super::program::NormSpec;
use crate::engine::layout::Layout;
use crate::engine::memory::{self, Slice};
use crate::engine::params::Params;
use crate::gpu::args;
use crate::gpu::{self, Address, BLOCK, Block, Channelwise, Gpu, Real};
use crate::graph::{Graph, NodeId, ParamKind, ParamSpec};

/// A parameter or statistic in one of the blocks.
#[derive(Debug, Clone)]
struct Entry {
    address: Address,
    /// Values before it in its block.
    first: usize,
    dims: Vec<usize>,
    layout: Layout,
}

impl Entry {
    fn count(&self) -> usize {
        self.dims.iter().product()
    }

    fn tensor(&self, block: &[f32]) -> Result<Tensor> {
        let values = block[self.first..][..self.count()].to_vec();
        Tensor::from_vec(self.layout.back(values), self.dims.as_slice(), &Device::Cpu)
    }
}

/// Parameters that lie one behind the other.
#[derive(Debug)]
struct Group {
    entries: IndexMap<String, Entry>,
    block: Block,
    count: usize,
}

impl Group {
    /// Room for these, each in blocks of its own, holding 0.
    fn new(gpu: &Gpu, specs: Vec<(ParamSpec, Layout)>) -> Result<Self> {
        let sizes = specs.iter().map(|(spec, _)| spec.elements());
        let count: usize = sizes.map(|size| size.next_multiple_of(BLOCK)).sum();
        let block = Block::zeros(gpu.backend(), count * size_of::<f32>())?;
        let mut first = 0;
        let mut entries = IndexMap::new();
        for (spec, layout) in specs {
            let elements = spec.elements();
            let entry = Entry {
                address: block.address() + (first * size_of::<f32>()) as Address,
                first,
                dims: spec.dims,
                layout,
            };
            entries.insert(spec.name, entry);
            first += elements.next_multiple_of(BLOCK);
        }
        Ok(Self {
            entries,
            block,
            count,
        })
    }

    fn load(&self, gpu: &Gpu, params: &Params) -> Result<()> {
        for (name, entry) in &self.entries {
            let host = memory::to_host(params.value(name))?;
            let values = entry.layout.there(&Slice::of(&host)?);
            gpu.backend()
                .upload(bytemuck::cast_slice(&values), entry.address)?;
        }
        Ok(())
    }

    fn tensors(&self, gpu: &Gpu, from: Address) -> Result<Vec<(String, Tensor)>> {
        let values = gpu.floats(from, self.count)?;
        let named = self.entries.iter();
        named
            .map(|(name, entry)| Ok((name.clone(), entry.tensor(&values)?)))
            .collect()
    }
}

/// All parameters of a suffix.
#[derive(Debug)]
pub(super) struct Parameters {
    trained: Group,
    /// Running statistics that training moves.
    moving: Group,
    frozen: Group,
    /// As large as the trained ones.
    gradients: Block,
    remembered: Block,
    /// What kernels are stored by, those that move first, and how many parts and blocks they and
    /// all are.
    parts: Option<Parts>,
    /// Kernels as layers read them.
    stored: Option<Block>,
}

#[derive(Debug)]
struct Parts {
    block: Block,
    /// Number of parts and of their blocks.
    moving: [usize; 2],
    frozen: [usize; 2],
}

/// A layer with a kernel.
#[derive(Debug, Default)]
pub(super) struct KernelRoom {
    /// As its forward pass reads it.
    pub(super) stored: Address,
    /// Its own kernel in f32, unscaled.
    pub(super) kernel: Address,
    pub(super) moves: bool,
    pub(super) has_bias: bool,
    fold: Option<args::Fold>,
    /// Sum of the gradient to its output.
    pub(super) sums: Address,
    /// Gradients, or 0.
    pub(super) to_kernel: Address,
    pub(super) to_bias: Address,
    pub(super) to_gamma: Address,
    pub(super) to_beta: Address,
    /// Where the gradient to the scaled kernel goes, if not where that to the kernel does.
    pub(super) scaled: Address,
    memory: Vec<Block>,
}

impl KernelRoom {
    /// Scale of each filter, or 0.
    pub(super) fn folded(&self) -> args::Fold {
        self.fold.unwrap_or_default()
    }

    pub(super) fn is_folded(&self) -> bool {
        self.fold
            .is_some_and(|fold| fold.gamma != 0 || fold.variance != 0)
    }

    /// The bias in both precisions.
    pub(super) fn bias(&self) -> Option<gpu::Bias> {
        let fold = self.fold.filter(|_| self.has_bias)?;
        Some(gpu::Bias {
            single: fold.offset,
            real: fold.offset_real,
        })
    }

    pub(super) fn fold(&self, gpu: &Gpu) -> Result<()> {
        match self.fold {
            Some(fold) => Ok(gpu.fold(fold.channels as usize, fold)?),
            None => Ok(()),
        }
    }
}

/// A norm that no convolution takes in.
#[derive(Debug)]
pub(super) struct NormRoom {
    pub(super) by_batch: bool,
    /// What its passes read.
    pub(super) norm: Channelwise,
    pub(super) inverse: Address,
    pub(super) coefficients: Address,
    pub(super) sums: Address,
    pub(super) to_gamma: Address,
    pub(super) to_beta: Address,
    /// What is the same in every step.
    pub(super) moments: args::FinishMoments,
    stored: args::StoredNorm,
    channels: usize,
    _memory: Block,
}

impl NormRoom {
    /// Statistics as they are stored, for all passes.
    pub(super) fn stored(&self, gpu: &Gpu) -> Result<()> {
        gpu.stored_norm(self.channels, self.stored)?;
        // Coefficients of a norm whose parameters are frozen: nothing else sets them.
        let args = args::FinishNorm {
            sums: 0,
            gamma: 0,
            beta: 0,
            ..self.finish(1)
        };
        Ok(gpu.finish_norm(self.channels, args)?)
    }

    /// From the sums of so many rows.
    pub(super) fn finish(&self, rows: usize) -> args::FinishNorm {
        args::FinishNorm {
            sums: self.sums,
            inverse: self.inverse,
            scale: self.norm.scale.unwrap_or(0),
            coefficients: self.coefficients,
            gamma: self.to_gamma,
            beta: self.to_beta,
            rows: rows as f64,
            channels: self.channels as i32,
            by_batch: i32::from(self.by_batch),
        }
    }
}

/// A layer of tokens.
#[derive(Debug)]
pub(super) struct TokenRoom {
    /// Gamma and beta, token and position, or the position alone.
    pub(super) first: Address,
    pub(super) second: Address,
    /// Gradients to them, or 0.
    pub(super) to_first: Address,
    pub(super) to_second: Address,
    /// Sums that gradients are made of.
    pub(super) sums: Block,
}

impl Parameters {
    pub(super) fn new(gpu: &Gpu, graph: &Graph, plan: &Plan, params: &Params) -> Result<Self> {
        let moving: Vec<&String> = plan.statistics.values().flatten().collect();
        let mut groups: [Vec<(ParamSpec, Layout)>; 3] = Default::default();
        for &id in &plan.order {
            for spec in graph.params(id) {
                if params.get(&spec.name).is_none() {
                    continue;
                }
                let group = match () {
                    () if plan.trains[id] && spec.kind.trains() => 0,
                    () if moving.contains(&&spec.name) => 1,
                    () => 2,
                };
                let layout = Layout::of(graph, id, &spec);
                groups[group].push((spec, layout));
            }
        }
        let [trained, moving, frozen] = groups;
        let trained = Group::new(gpu, trained)?;
        let moving = Group::new(gpu, moving)?;
        Ok(Self {
            gradients: Block::zeros(gpu.backend(), trained.block.bytes())?,
            remembered: Block::zeros(gpu.backend(), moving.block.bytes())?,
            trained,
            moving,
            frozen: Group::new(gpu, frozen)?,
            parts: None,
            stored: None,
        })
    }

    pub(super) fn load(&self, gpu: &Gpu, params: &Params) -> Result<()> {
        self.trained.load(gpu, params)?;
        self.moving.load(gpu, params)?;
        self.frozen.load(gpu, params)
    }

    /// All values that train, and their gradients: addresses and how many, whole blocks.
    pub(super) fn all(&self) -> (Address, Address, usize) {
        let (values, count) = (self.trained.block.address(), self.trained.count);
        (values, self.gradients.address(), count)
    }

    /// Running statistics: where they lie and how many.
    pub(super) fn all_moving(&self) -> (Address, usize) {
        (self.moving.block.address(), self.moving.count)
    }

    /// Names of the trained parameters with how many blocks each takes.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (&str, usize)> {
        let entries = self.trained.entries.iter();
        entries.map(|(name, entry)| (name.as_str(), entry.count().div_ceil(BLOCK)))
    }

    pub(super) fn values(&self, gpu: &Gpu) -> Result<Vec<(String, Tensor)>> {
        self.trained.tensors(gpu, self.trained.block.address())
    }

    /// Tensors named and shaped as the trained parameters, from a block that lies as they do.
    pub(super) fn shaped(&self, gpu: &Gpu, from: &Block) -> Result<Vec<(String, Tensor)>> {
        self.trained.tensors(gpu, from.address())
    }

    /// Fills a block that lies as the trained parameters do.
    pub(super) fn fill(&self, gpu: &Gpu, to: &Block, name: &str, value: &Tensor) -> Result<()> {
        if let Some(entry) = self.trained.entries.get(name) {
            let host = memory::to_host(value)?;
            let values = entry.layout.there(&Slice::of(&host)?);
            let at = to.address() + (entry.first * size_of::<f32>()) as Address;
            gpu.backend().upload(bytemuck::cast_slice(&values), at)?;
        }
        Ok(())
    }

    pub(super) fn gradients(&self, gpu: &Gpu) -> Result<Gradients> {
        let gradients = self.trained.tensors(gpu, self.gradients.address())?;
        Ok(gradients.into_iter().collect())
    }

    pub(super) fn statistics(&self, gpu: &Gpu) -> Result<Vec<(String, Tensor)>> {
        self.moving.tensors(gpu, self.moving.block.address())
    }

    /// The same of averages that lie as the statistics do.
    pub(super) fn shaped_statistics(
        &self,
        gpu: &Gpu,
        from: Address,
    ) -> Result<Vec<(String, Tensor)>> {
        self.moving.tensors(gpu, from)
    }

    pub(super) fn fill_statistic(
        &self,
        gpu: &Gpu,
        to: Address,
        name: &str,
        value: &Tensor,
    ) -> Result<()> {
        if let Some(entry) = self.moving.entries.get(name) {
            let host = memory::to_host(value)?;
            let at = to + (entry.first * size_of::<f32>()) as Address;
            let values = Slice::of(&host)?;
            gpu.backend().upload(bytemuck::cast_slice(&values), at)?;
        }
        Ok(())
    }

    pub(super) fn remember(&self, gpu: &Gpu) -> Result<()> {
        let (from, to) = (self.moving.block.address(), self.remembered.address());
        Ok(gpu.backend().copy(from, to, self.moving.block.bytes())?)
    }

    pub(super) fn forget(&self, gpu: &Gpu) -> Result<()> {
        let (from, to) = (self.remembered.address(), self.moving.block.address());
        Ok(gpu.backend().copy(from, to, self.moving.block.bytes())?)
    }

    pub(super) fn bytes(&self) -> usize {
        let groups = [&self.trained, &self.moving, &self.frozen];
        let groups = groups.iter().map(|group| group.block.bytes());
        let stored = self.stored.as_ref().map_or(0, Block::bytes);
        groups.sum::<usize>() + self.gradients.bytes() + stored
    }

    /// Address of a node's parameter, or 0.
    fn of(&self, graph: &Graph, id: NodeId, kind: ParamKind) -> Address {
        let spec = graph.params(id).into_iter().find(|spec| spec.kind == kind);
        let Some(name) = spec.map(|spec| spec.name) else {
            return 0;
        };
        let groups = [&self.trained, &self.moving, &self.frozen];
        let found = groups.iter().find_map(|group| group.entries.get(&name));
        found.map_or(0, |entry| entry.address)
    }

    /// Address of the gradient to a node's parameter, or 0 if it does not train.
    fn gradient_of(&self, graph: &Graph, id: NodeId, kind: ParamKind) -> Address {
        let spec = graph.params(id).into_iter().find(|spec| spec.kind == kind);
        let entry = spec.and_then(|spec| self.trained.entries.get(&spec.name));
        let first = |entry: &Entry| (entry.first * size_of::<f32>()) as Address;
        entry.map_or(0, |entry| self.gradients.address() + first(entry))
    }

    /// Makes room for what layers with kernels read, and says how it is computed.
    pub(super) fn kernels(
        &mut self,
        gpu: &Gpu,
        graph: &Graph,
        program: &Program,
    ) -> Result<Vec<KernelRoom>> {
        let real = gpu.real();
        let mut rooms = Vec::with_capacity(program.kernels.len());
        for spec in &program.kernels {
            rooms.push(self.kernel(gpu, graph, spec)?);
        }
        // The gradient to a scaled kernel waits for nothing but its being taken apart.
        let largest = program
            .kernels
            .iter()
            .map(KernelSpec::kernel_elements)
            .max();
        let scaled = gpu.block(largest.unwrap_or(0) * size_of::<f32>())?;
        for (room, spec) in rooms.iter_mut().zip(&program.kernels) {
            let single = spec.depthwise || Gpu::kernel_grad_is_single(&spec.window, spec.groups);
            let plain = !room.is_folded() && (single || real == Real::Single);
            if !plain {
                room.scaled = scaled.address();
            }
        }
        if let Some(room) = rooms.first_mut() {
            room.memory.push(scaled);
        }
        self.store_kernels(gpu, program, &mut rooms)?;
        Ok(rooms)
    }

    fn kernel(&self, gpu: &Gpu, graph: &Graph, spec: &KernelSpec) -> Result<KernelRoom> {
        let of = |id, kind| self.of(graph, id, kind);
        let to = |id, kind| self.gradient_of(graph, id, kind);
        let filters = spec.filters;
        let bias = of(spec.node, ParamKind::Bias);
        let sums = gpu.block(filters * size_of::<f32>())?;
        let mut room = KernelRoom {
            kernel: of(spec.node, ParamKind::Kernel),
            moves: spec.trains.contains(&true),
            has_bias: bias != 0 || spec.norm.is_some(),
            sums: sums.address(),
            memory: vec![sums],
            ..KernelRoom::default()
        };
        if spec.trains[0] {
            room.to_kernel = to(spec.node, ParamKind::Kernel);
            room.to_bias = to(spec.node, ParamKind::Bias);
        }
        if room.has_bias {
            let bytes = gpu::aligned(filters * size_of::<f32>());
            let block = gpu.block(5 * bytes)?;
            let part = |index: usize| block.address() + (index * bytes) as Address;
            let mut fold = args::Fold {
                bias,
                scale: part(0),
                inverse: part(1),
                shift: part(2),
                offset: part(3),
                offset_real: part(4),
                channels: filters as i32,
                ..args::Fold::default()
            };
            if let Some((norm, epsilon)) = spec.norm {
                fold.gamma = of(norm, ParamKind::Gamma);
                fold.beta = of(norm, ParamKind::Beta);
                fold.mean = of(norm, ParamKind::MovingMean);
                fold.variance = of(norm, ParamKind::MovingVariance);
                fold.epsilon = epsilon;
                if spec.trains[1] {
                    room.to_gamma = to(norm, ParamKind::Gamma);
                    room.to_beta = to(norm, ParamKind::Beta);
                }
            }
            room.fold = Some(fold);
            room.memory.push(block);
        }
        Ok(room)
    }

    /// Room for kernels that are not read as they are trained, and the list by which they are stored.
    fn store_kernels(
        &mut self,
        gpu: &Gpu,
        program: &Program,
        rooms: &mut [KernelRoom],
    ) -> Result<()> {
        let real = gpu.real();
        let mut wanted = Vec::new();
        let mut bytes = 0;
        for (index, (room, spec)) in rooms.iter_mut().zip(&program.kernels).enumerate() {
            let single = spec.depthwise || real == Real::Single;
            if single && !room.is_folded() {
                room.stored = room.kernel;
                continue;
            }
            wanted.push((index, bytes));
            let each = if spec.depthwise { 4 } else { real.bytes() };
            bytes += gpu::aligned(spec.kernel_elements() * each);
        }
        let stored = gpu.block(bytes)?;
        let mut parts = [Vec::new(), Vec::new()];
        let mut blocks = [0; 2];
        for (index, offset) in wanted {
            let (room, spec) = (&mut rooms[index], &program.kernels[index]);
            room.stored = stored.address() + offset as Address;
            let which = usize::from(!room.moves);
            let count = spec.kernel_elements();
            parts[which].push(args::Part {
                from: room.kernel,
                scale: if room.is_folded() {
                    room.folded().scale
                } else {
                    0
                },
                to: room.stored,
                count: count as i64,
                row: if spec.depthwise {
                    0
                } else {
                    (spec.channels() * spec.area()) as i32
                },
                filters: spec.filters as i32,
                single: i32::from(spec.depthwise),
                first_block: blocks[which] as i32,
            });
            blocks[which] += count.div_ceil(BLOCK);
        }
        let counts = parts.each_ref().map(Vec::len);
        if counts != [0, 0] {
            self.parts = Some(Parts {
                block: Block::of(gpu.backend(), &parts.concat())?,
                moving: [counts[0], blocks[0]],
                frozen: [counts[1], blocks[1]],
            });
        }
        self.stored = Some(stored);
        Ok(())
    }

    /// Scales and stores kernels that move, and frozen ones if asked for.
    pub(super) fn scale(&self, gpu: &Gpu, frozen: bool) -> Result<()> {
        let Some(parts) = &self.parts else {
            return Ok(());
        };
        let ([moving, blocks], at) = (parts.moving, parts.block.address());
        gpu.scale_parts(at, moving, blocks)?;
        if frozen {
            let [count, blocks] = parts.frozen;
            let at = at + (moving * size_of::<args::Part>()) as Address;
            gpu.scale_parts(at, count, blocks)?;
        }
        Ok(())
    }

    pub(super) fn norms(
        &self,
        gpu: &Gpu,
        graph: &Graph,
        program: &Program,
    ) -> Result<Vec<NormRoom>> {
        let norms = program.norms.iter();
        norms.map(|spec| self.norm(gpu, graph, spec)).collect()
    }

    fn norm(&self, gpu: &Gpu, graph: &Graph, spec: &NormSpec) -> Result<NormRoom> {
        let channels = spec.channels;
        let bytes = gpu::aligned(channels * size_of::<f32>());
        let triple = gpu::aligned(3 * channels * size_of::<f32>());
        let constants = gpu::aligned(channels * size_of::<f32>());
        // Mean, inverse, scale; sums and coefficients; ones and zeros where there is no parameter.
        let block = Block::zeros(gpu.backend(), 3 * bytes + 2 * triple + 2 * constants)?;
        let at = |offset: usize| block.address() + offset as Address;
        let (mean, inverse, scale) = (at(0), at(bytes), at(2 * bytes));
        let sums = at(3 * bytes);
        let coefficients = at(3 * bytes + triple);
        let ones = at(3 * bytes + 2 * triple);
        let zeros = at(3 * bytes + 2 * triple + constants);
        let one = vec![1f32; channels];
        gpu.backend().upload(bytemuck::cast_slice(&one), ones)?;
        let of = |kind| self.of(graph, spec.node, kind);
        let or = |address, otherwise| if address == 0 { otherwise } else { address };
        let gamma = or(of(ParamKind::Gamma), ones);
        let beta = or(of(ParamKind::Beta), zeros);
        let to = |kind| match spec.trains {
            true => self.gradient_of(graph, spec.node, kind),
            false => 0,
        };
        Ok(NormRoom {
            by_batch: spec.by_batch,
            norm: Channelwise {
                mean: Some(mean),
                scale: Some(scale),
                offset: Some(beta),
            },
            inverse,
            coefficients,
            sums,
            to_gamma: to(ParamKind::Gamma),
            to_beta: to(ParamKind::Beta),
            moments: args::FinishMoments {
                gamma,
                beta,
                mean,
                inverse,
                scale,
                running_mean: of(ParamKind::MovingMean),
                running_variance: of(ParamKind::MovingVariance),
                epsilon: spec.epsilon,
                momentum: spec.momentum,
                ..args::FinishMoments::default()
            },
            stored: args::StoredNorm {
                gamma,
                mean: of(ParamKind::MovingMean),
                variance: of(ParamKind::MovingVariance),
                inverse,
                scale,
                to_mean: mean,
                epsilon: spec.epsilon,
                channels: channels as i32,
            },
            channels,
            _memory: block,
        })
    }

    pub(super) fn tokens(
        &self,
        gpu: &Gpu,
        graph: &Graph,
        program: &Program,
    ) -> Result<Vec<TokenRoom>> {
        let tokens = program.tokens.iter().map(|spec| {
            let kinds = match () {
                () if self.of(graph, spec.node, ParamKind::Gamma) != 0 => {
                    [ParamKind::Gamma, ParamKind::Beta]
                }
                () if self.of(graph, spec.node, ParamKind::Token) != 0 => {
                    [ParamKind::Token, ParamKind::Position]
                }
                () => [ParamKind::Position, ParamKind::Token],
            };
            let [first, second] = kinds.map(|kind| self.of(graph, spec.node, kind));
            let [to_first, to_second] = kinds.map(|kind| match spec.trains {
                true => self.gradient_of(graph, spec.node, kind),
                false => 0,
            });
            Ok(TokenRoom {
                first,
                second,
                to_first,
                to_second,
                sums: gpu.block(spec.layer.sums() * size_of::<f32>())?,
            })
        });
        tokens.collect()
    }
}
