//! Convolutions by cuDNN over channels-last maps, whose algorithms are looked up once a shape.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::cudnn::sys::{
    self, cudnnActivationDescriptor_t, cudnnActivationMode_t, cudnnConvolutionBwdDataAlgo_t,
    cudnnConvolutionBwdDataAlgoPerf_t, cudnnConvolutionBwdFilterAlgo_t,
    cudnnConvolutionBwdFilterAlgoPerf_t, cudnnConvolutionDescriptor_t, cudnnConvolutionFwdAlgo_t,
    cudnnConvolutionFwdAlgoPerf_t, cudnnConvolutionMode_t, cudnnDataType_t, cudnnDeterminism_t,
    cudnnFilterDescriptor_t, cudnnHandle_t, cudnnMathType_t, cudnnNanPropagation_t, cudnnStatus_t,
    cudnnTensorDescriptor_t, cudnnTensorFormat_t,
};

use super::super::{Address, Backend, Block, Convolution, Epilogue, GpuError, Real, Result};
use super::driver::Driver;
use crate::precision::Precision;

/// Memory that convolutions may take on the way.
const WORKSPACE: usize = 1 << 30;

/// Algorithms that are looked at.
const TRIED: usize = 10;

fn check(what: &str, status: cudnnStatus_t) -> Result<()> {
    match status {
        cudnnStatus_t::CUDNN_STATUS_SUCCESS => Ok(()),
        status => Err(GpuError(format!("cuDNN failed to {what}: {status:?}"))),
    }
}

/// What a convolution is to cuDNN.
#[derive(Debug, Clone, Copy)]
struct Shape {
    x: cudnnTensorDescriptor_t,
    y: cudnnTensorDescriptor_t,
    bias: cudnnTensorDescriptor_t,
    kernel: cudnnFilterDescriptor_t,
    convolution: cudnnConvolutionDescriptor_t,
    forward: Option<cudnnConvolutionFwdAlgo_t>,
    input_grad: Option<cudnnConvolutionBwdDataAlgo_t>,
    kernel_grad: Option<cudnnConvolutionBwdFilterAlgo_t>,
    /// Whether bias, residual and activation may go along: of the four kinds of epilogue, unless it
    /// has not been tried.
    fused: [Option<bool>; 4],
}

/// All convolutions of a device.
#[derive(Debug)]
pub(super) struct Convolutions {
    handle: cudnnHandle_t,
    /// Identity and ReLU.
    activations: [cudnnActivationDescriptor_t; 2],
    precision: Precision,
    deterministic: bool,
    shapes: Mutex<HashMap<Convolution, Shape>>,
    workspace: Mutex<Option<Block>>,
}

// SAFETY: the handle and the descriptions are used under the lock of `shapes`.
unsafe impl Send for Convolutions {}
// SAFETY: as above.
unsafe impl Sync for Convolutions {}

impl Convolutions {
    pub(super) fn new(driver: &Driver, precision: Precision, deterministic: bool) -> Result<Self> {
        driver.enter()?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: the handle is there to be written; the stream is never destroyed.
        unsafe {
            check("start", sys::cudnnCreate(&raw mut handle))?;
            check(
                "take the stream",
                sys::cudnnSetStream(handle, driver.stream.cast()),
            )?;
        }
        let activation = |mode| {
            let mut activation = std::ptr::null_mut();
            let nan = cudnnNanPropagation_t::CUDNN_PROPAGATE_NAN;
            // SAFETY: the description is there to be written.
            unsafe {
                let created = sys::cudnnCreateActivationDescriptor(&raw mut activation);
                check("describe an activation", created)?;
                let set = sys::cudnnSetActivationDescriptor(activation, mode, nan, 0.0);
                check("describe an activation", set)?;
            }
            Ok(activation)
        };
        Ok(Self {
            handle,
            activations: [
                activation(cudnnActivationMode_t::CUDNN_ACTIVATION_IDENTITY)?,
                activation(cudnnActivationMode_t::CUDNN_ACTIVATION_RELU)?,
            ],
            precision,
            deterministic,
            shapes: Mutex::default(),
            workspace: Mutex::default(),
        })
    }

    /// cuDNN's version, such as 91900.
    pub(super) fn version() -> usize {
        // SAFETY: takes nothing.
        unsafe { sys::cudnnGetVersion() }
    }

    /// Runs with the shape of a convolution, and keeps what was found out about it.
    fn with<T>(
        &self,
        convolution: &Convolution,
        run: impl FnOnce(&mut Shape) -> Result<T>,
    ) -> Result<T> {
        let mut shapes = self.shapes.lock().unwrap_or_else(PoisonError::into_inner);
        let shape = match shapes.get_mut(convolution) {
            Some(shape) => shape,
            None => {
                let mut shape = self.describe(convolution)?;
                // A last batch of fewer pictures goes the way of the whole ones.
                let alike = |known: &&Convolution| {
                    known.pictures > convolution.pictures
                        && **known
                            == Convolution {
                                pictures: known.pictures,
                                ..*convolution
                            }
                };
                if let Some(known) = shapes.keys().find(alike).and_then(|key| shapes.get(key)) {
                    shape.forward = known.forward;
                    shape.input_grad = known.input_grad;
                    shape.kernel_grad = known.kernel_grad;
                    shape.fused = known.fused;
                }
                shapes.entry(*convolution).or_insert(shape)
            }
        };
        run(shape)
    }

    fn describe(&self, convolution: &Convolution) -> Result<Shape> {
        let c = convolution;
        let [height, width, channels] = c.input;
        let [out_height, out_width] = c.output();
        let kind = match c.real {
            Real::Single => cudnnDataType_t::CUDNN_DATA_FLOAT,
            Real::Brain => cudnnDataType_t::CUDNN_DATA_BFLOAT16,
        };
        let format = cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;
        let tensor = |dims: [usize; 4]| {
            let mut tensor = std::ptr::null_mut();
            let [n, c, h, w] = dims.map(|dim| dim as i32);
            // SAFETY: the description is there to be written.
            unsafe {
                let created = sys::cudnnCreateTensorDescriptor(&raw mut tensor);
                check("describe maps", created)?;
                let set = sys::cudnnSetTensor4dDescriptor(tensor, format, kind, n, c, h, w);
                check("describe maps", set)?;
            }
            Ok(tensor)
        };
        let mut kernel = std::ptr::null_mut();
        let mut description = std::ptr::null_mut();
        let math = match self.precision {
            Precision::F32 => cudnnMathType_t::CUDNN_FMA_MATH,
            Precision::Tf32 | Precision::Bf16 => cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
        };
        let two = |pair: [usize; 2]| pair.map(|value| value as i32);
        let ([top, left], [down, across]) = (two(c.padding), two(c.stride));
        let ([dilated_down, dilated_across], [tall, wide]) = (two(c.dilation), two(c.kernel));
        let (filters, depth) = (c.filters as i32, (channels / c.groups) as i32);
        // SAFETY: the descriptions are there to be written.
        unsafe {
            let what = "describe a kernel";
            check(what, sys::cudnnCreateFilterDescriptor(&raw mut kernel))?;
            let set =
                sys::cudnnSetFilter4dDescriptor(kernel, kind, format, filters, depth, tall, wide);
            check(what, set)?;
            let what = "describe a convolution";
            let created = sys::cudnnCreateConvolutionDescriptor(&raw mut description);
            check(what, created)?;
            let set = sys::cudnnSetConvolution2dDescriptor(
                description,
                top,
                left,
                down,
                across,
                dilated_down,
                dilated_across,
                cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION,
                cudnnDataType_t::CUDNN_DATA_FLOAT,
            );
            check(what, set)?;
            let groups = sys::cudnnSetConvolutionGroupCount(description, c.groups as i32);
            check(what, groups)?;
            check(what, sys::cudnnSetConvolutionMathType(description, math))?;
        }
        Ok(Shape {
            x: tensor([c.pictures, channels, height, width])?,
            y: tensor([c.pictures, c.filters, out_height, out_width])?,
            bias: tensor([1, c.filters, 1, 1])?,
            kernel,
            convolution: description,
            forward: None,
            input_grad: None,
            kernel_grad: None,
            fused: [None; 4],
        })
    }

    /// Memory on the way: all of it while algorithms are chosen.
    fn workspace(&self, backend: &Arc<dyn Backend>) -> Result<(*mut c_void, usize)> {
        let mut workspace = self
            .workspace
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if workspace.is_none() {
            let bytes = WORKSPACE.min(backend.free_bytes()? / 4);
            *workspace = Some(Block::new(backend, bytes)?);
        }
        let block = workspace.as_ref();
        Ok(block.map_or((std::ptr::null_mut(), 0), |block| {
            (block.address() as *mut c_void, block.bytes())
        }))
    }

    /// The first of these algorithms that will do: they come in the order of their speed.
    fn choose<T: Copy>(
        &self,
        what: &str,
        found: impl Iterator<Item = (T, cudnnStatus_t, usize, cudnnDeterminism_t)>,
        room: usize,
    ) -> Result<T> {
        let fits = |(_, status, memory, determinism): &(T, cudnnStatus_t, usize, _)| {
            *status == cudnnStatus_t::CUDNN_STATUS_SUCCESS
                && *memory <= room
                && (!self.deterministic || *determinism == cudnnDeterminism_t::CUDNN_DETERMINISTIC)
        };
        let mut found = found.filter(fits);
        match found.next() {
            Some((algorithm, ..)) => Ok(algorithm),
            None => Err(GpuError(format!("cuDNN knows no algorithm for {what}"))),
        }
    }

    /// The convolution, and as much of the epilogue as could go along: `false` leaves bias, residual
    /// and activation to the caller.
    pub(super) fn run(
        &self,
        backend: &Arc<dyn Backend>,
        convolution: &Convolution,
        [x, kernel, y]: [Address; 3],
        epilogue: Epilogue,
    ) -> Result<bool> {
        let (room, bytes) = self.workspace(backend)?;
        let pointer = |address: Address| address as *const c_void;
        self.with(convolution, |shape| {
            let algorithm = match shape.forward {
                Some(algorithm) => algorithm,
                None => self.forward_algorithm(shape, [x, kernel, y], (room, bytes))?,
            };
            shape.forward = Some(algorithm);
            let (one, zero) = (1f32, 0f32);
            let kind = usize::from(epilogue.relu) + 2 * usize::from(epilogue.residual.is_some());
            if let (Some(bias), true) = (epilogue.bias, shape.fused[kind] != Some(false)) {
                let scale = if epilogue.residual.is_some() {
                    one
                } else {
                    zero
                };
                let algorithm = match epilogue.relu {
                    true => algorithm,
                    // The only one that takes the identity.
                    false => {
                        cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM
                    }
                };
                // SAFETY: the descriptions are those of the memory that the caller names.
                let status = unsafe {
                    sys::cudnnConvolutionBiasActivationForward(
                        self.handle,
                        (&raw const one).cast(),
                        shape.x,
                        pointer(x),
                        shape.kernel,
                        pointer(kernel),
                        shape.convolution,
                        algorithm,
                        room,
                        bytes,
                        (&raw const scale).cast(),
                        shape.y,
                        pointer(epilogue.residual.unwrap_or(y)),
                        shape.bias,
                        pointer(bias.real),
                        self.activations[usize::from(epilogue.relu)],
                        shape.y,
                        pointer(y).cast_mut(),
                    )
                };
                let done = status == cudnnStatus_t::CUDNN_STATUS_SUCCESS;
                shape.fused[kind] = Some(done);
                if done {
                    return Ok(true);
                }
            }
            // SAFETY: as above.
            let status = unsafe {
                sys::cudnnConvolutionForward(
                    self.handle,
                    (&raw const one).cast(),
                    shape.x,
                    pointer(x),
                    shape.kernel,
                    pointer(kernel),
                    shape.convolution,
                    algorithm,
                    room,
                    bytes,
                    (&raw const zero).cast(),
                    shape.y,
                    pointer(y).cast_mut(),
                )
            };
            check(&format!("compute {convolution:?}"), status)?;
            Ok(false)
        })
    }

    fn forward_algorithm(
        &self,
        shape: &Shape,
        [x, kernel, y]: [Address; 3],
        (room, bytes): (*mut c_void, usize),
    ) -> Result<cudnnConvolutionFwdAlgo_t> {
        // SAFETY: numbers for which 0 is a value.
        let mut found: [cudnnConvolutionFwdAlgoPerf_t; TRIED] = unsafe { std::mem::zeroed() };
        let (mut count, asked) = (0, TRIED as i32);
        // SAFETY: there is room for as many results as are asked for.
        let status = unsafe {
            match self.deterministic {
                true => sys::cudnnGetConvolutionForwardAlgorithm_v7(
                    self.handle,
                    shape.x,
                    shape.kernel,
                    shape.convolution,
                    shape.y,
                    asked,
                    &raw mut count,
                    found.as_mut_ptr(),
                ),
                false => sys::cudnnFindConvolutionForwardAlgorithmEx(
                    self.handle,
                    shape.x,
                    x as *const c_void,
                    shape.kernel,
                    kernel as *const c_void,
                    shape.convolution,
                    shape.y,
                    y as *mut c_void,
                    asked,
                    &raw mut count,
                    found.as_mut_ptr(),
                    room,
                    bytes,
                ),
            }
        };
        check("find an algorithm", status)?;
        let found = found.iter().take(count.max(0) as usize);
        let found = found.map(|it| (it.algo, it.status, it.memory, it.determinism));
        self.choose("a convolution", found, bytes)
    }

    pub(super) fn input_grad(
        &self,
        backend: &Arc<dyn Backend>,
        convolution: &Convolution,
        [dy, kernel, dx]: [Address; 3],
        add: bool,
    ) -> Result<()> {
        let (room, bytes) = self.workspace(backend)?;
        let pointer = |address: Address| address as *const c_void;
        self.with(convolution, |shape| {
            let algorithm = match shape.input_grad {
                Some(algorithm) => algorithm,
                None => {
                    // Trying algorithms overwrites what is to be added to.
                    let [height, width, channels] = convolution.input;
                    let values = convolution.pictures * height * width * channels;
                    let spare = match add && !self.deterministic {
                        true => Some(Block::new(backend, values * convolution.real.bytes())?),
                        false => None,
                    };
                    let to = spare.as_ref().map_or(dx, Block::address);
                    self.input_algorithm(shape, [dy, kernel, to], (room, bytes))?
                }
            };
            shape.input_grad = Some(algorithm);
            let (one, beta) = (1f32, if add { 1f32 } else { 0f32 });
            // SAFETY: the descriptions are those of the memory that the caller names.
            let status = unsafe {
                sys::cudnnConvolutionBackwardData(
                    self.handle,
                    (&raw const one).cast(),
                    shape.kernel,
                    pointer(kernel),
                    shape.y,
                    pointer(dy),
                    shape.convolution,
                    algorithm,
                    room,
                    bytes,
                    (&raw const beta).cast(),
                    shape.x,
                    pointer(dx).cast_mut(),
                )
            };
            check(
                &format!("take the gradient through {convolution:?}"),
                status,
            )
        })
    }

    fn input_algorithm(
        &self,
        shape: &Shape,
        [dy, kernel, dx]: [Address; 3],
        (room, bytes): (*mut c_void, usize),
    ) -> Result<cudnnConvolutionBwdDataAlgo_t> {
        // SAFETY: numbers for which 0 is a value.
        let mut found: [cudnnConvolutionBwdDataAlgoPerf_t; TRIED] = unsafe { std::mem::zeroed() };
        let (mut count, asked) = (0, TRIED as i32);
        // SAFETY: there is room for as many results as are asked for.
        let status = unsafe {
            match self.deterministic {
                true => sys::cudnnGetConvolutionBackwardDataAlgorithm_v7(
                    self.handle,
                    shape.kernel,
                    shape.y,
                    shape.convolution,
                    shape.x,
                    asked,
                    &raw mut count,
                    found.as_mut_ptr(),
                ),
                false => sys::cudnnFindConvolutionBackwardDataAlgorithmEx(
                    self.handle,
                    shape.kernel,
                    kernel as *const c_void,
                    shape.y,
                    dy as *const c_void,
                    shape.convolution,
                    shape.x,
                    dx as *mut c_void,
                    asked,
                    &raw mut count,
                    found.as_mut_ptr(),
                    room,
                    bytes,
                ),
            }
        };
        check("find an algorithm", status)?;
        let found = found.iter().take(count.max(0) as usize);
        let found = found.map(|it| (it.algo, it.status, it.memory, it.determinism));
        self.choose("the gradient to a convolution's input", found, bytes)
    }

    pub(super) fn kernel_grad(
        &self,
        backend: &Arc<dyn Backend>,
        convolution: &Convolution,
        [x, dy, to]: [Address; 3],
    ) -> Result<()> {
        let (room, bytes) = self.workspace(backend)?;
        let pointer = |address: Address| address as *const c_void;
        self.with(convolution, |shape| {
            let algorithm = match shape.kernel_grad {
                Some(algorithm) => algorithm,
                None => self.kernel_algorithm(shape, [x, dy, to], (room, bytes))?,
            };
            shape.kernel_grad = Some(algorithm);
            let (one, zero) = (1f32, 0f32);
            // SAFETY: the descriptions are those of the memory that the caller names.
            let status = unsafe {
                sys::cudnnConvolutionBackwardFilter(
                    self.handle,
                    (&raw const one).cast(),
                    shape.x,
                    pointer(x),
                    shape.y,
                    pointer(dy),
                    shape.convolution,
                    algorithm,
                    room,
                    bytes,
                    (&raw const zero).cast(),
                    shape.kernel,
                    pointer(to).cast_mut(),
                )
            };
            check(
                &format!("take the gradient to the kernel of {convolution:?}"),
                status,
            )
        })
    }

    fn kernel_algorithm(
        &self,
        shape: &Shape,
        [x, dy, to]: [Address; 3],
        (room, bytes): (*mut c_void, usize),
    ) -> Result<cudnnConvolutionBwdFilterAlgo_t> {
        // SAFETY: numbers for which 0 is a value.
        let mut found: [cudnnConvolutionBwdFilterAlgoPerf_t; TRIED] = unsafe { std::mem::zeroed() };
        let (mut count, asked) = (0, TRIED as i32);
        // SAFETY: there is room for as many results as are asked for.
        let status = unsafe {
            match self.deterministic {
                true => sys::cudnnGetConvolutionBackwardFilterAlgorithm_v7(
                    self.handle,
                    shape.x,
                    shape.y,
                    shape.convolution,
                    shape.kernel,
                    asked,
                    &raw mut count,
                    found.as_mut_ptr(),
                ),
                false => sys::cudnnFindConvolutionBackwardFilterAlgorithmEx(
                    self.handle,
                    shape.x,
                    x as *const c_void,
                    shape.y,
                    dy as *const c_void,
                    shape.convolution,
                    shape.kernel,
                    to as *mut c_void,
                    asked,
                    &raw mut count,
                    found.as_mut_ptr(),
                    room,
                    bytes,
                ),
            }
        };
        check("find an algorithm", status)?;
        let found = found.iter().take(count.max(0) as usize);
        let found = found.map(|it| (it.algo, it.status, it.memory, it.determinism));
        self.choose("the gradient to a convolution's kernel", found, bytes)
    }
}
