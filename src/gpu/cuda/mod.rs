//! NVIDIA GPUs: the driver, NVRTC for kernels of our own, cuBLASLt for products, cuDNN for
//! convolutions. All are opened when the program runs.

mod compile;
mod convolutions;
mod driver;
mod libraries;
mod products;

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use cudarc::driver::sys::CUevent;
use rayon::prelude::*;

use super::args::{self, Args, kernels};
use super::{
    Address, Backend, Block, Convolution, Epilogue, Gpu, GpuError, Kernel, Launch, Product, Real,
    Result, SOURCES, THREADS,
};
use crate::precision::Precision;
use convolutions::Convolutions;
use driver::{Driver, Function, Module};
pub use libraries::FOLDERS;
use products::Products;

/// Bytes of a copy from main memory that go through a buffer of its own.
const STAGED: usize = 64 << 10;

/// Bytes of each of two such buffers.
const STAGE: usize = 64 << 20;

/// A device with all that computes on it.
#[derive(Debug)]
pub struct Cuda {
    driver: Driver,
    precision: Precision,
    modules: HashMap<(&'static str, Real), Module>,
    functions: Mutex<HashMap<(Kernel, bool, Real), Function>>,
    products: OnceLock<Products>,
    convolutions: Convolutions,
    stages: Mutex<Stages>,
    own: Weak<Self>,
}

/// Main memory that copies are fast from, used in turn.
#[derive(Debug)]
struct Stages {
    /// Where they lie, and what is over when they are free again.
    buffers: [(*mut u8, CUevent); 2],
    next: usize,
}

// SAFETY: the buffers are used under a lock, and never given back.
unsafe impl Send for Stages {}

/// Number of devices there are.
///
/// # Errors
/// If there is no driver, or a library is missing; the error says what to do.
pub fn devices() -> Result<usize> {
    libraries::open()?;
    driver::count()
}

/// Opens a device by its number, and compiles the kernels where that was not done before.
///
/// # Errors
/// If there is no such device, or something about it fails.
pub fn open(ordinal: usize, precision: Precision, deterministic: bool) -> Result<Gpu> {
    let count = devices()?;
    if ordinal >= count {
        return Err(GpuError(match count {
            0 => "the driver finds no NVIDIA GPU".into(),
            1 => format!("there is no GPU {ordinal}: the only one has the number 0"),
            _ => format!(
                "there is no GPU {ordinal}: they have the numbers 0 to {}",
                count - 1
            ),
        }));
    }
    let driver = Driver::open(ordinal)?;
    if driver.architecture < 80 {
        return Err(GpuError(format!(
            "`{}` is of compute capability {}.{}: 8.0 is the least",
            driver.name,
            driver.architecture / 10,
            driver.architecture % 10
        )));
    }
    let modules = modules(&driver)?;
    let convolutions = Convolutions::new(&driver, precision, deterministic)?;
    let stage = || Ok::<_, GpuError>((driver.pinned(STAGE)?, driver.event(false)?));
    let stages = Stages {
        buffers: [stage()?, stage()?],
        next: 0,
    };
    let cuda = Arc::new_cyclic(|own| Cuda {
        driver,
        precision,
        modules,
        functions: Mutex::default(),
        products: OnceLock::new(),
        convolutions,
        stages: Mutex::new(stages),
        own: own.clone(),
    });
    let backend: Arc<dyn Backend> = cuda.clone();
    let workspace = Block::new(&backend, products::WORKSPACE)?;
    let products = Products::new(workspace, precision, deterministic)?;
    // Set once, right here.
    cuda.products.set(products).ok();
    Ok(Gpu::new(backend))
}

/// All kernels, compiled side by side where they are not kept yet.
fn modules(driver: &Driver) -> Result<HashMap<(&'static str, Real), Module>> {
    let wanted: Vec<(&'static str, Real)> = SOURCES
        .iter()
        .flat_map(|(file, _)| [(*file, Real::Single), (*file, Real::Brain)])
        .collect();
    let load = |&(file, real): &(&'static str, Real)| {
        let code = compile::compiled(file, real, driver.architecture)?;
        Ok(((file, real), driver.load(&code)?))
    };
    wanted.par_iter().map(load).collect()
}

impl Cuda {
    fn function(&self, launch: &Launch) -> Result<Function> {
        let Launch {
            kernel,
            vector,
            real,
            ..
        } = *launch;
        let mut functions = self
            .functions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = functions.get(&(kernel, vector, real)) {
            return Ok(*function);
        }
        let Some(module) = self.modules.get(&(kernel.file, real)) else {
            return Err(GpuError(format!("there are no kernels `{}`", kernel.file)));
        };
        let suffix = if vector { "v" } else { "1" };
        let name = format!("{}_{suffix}", kernel.name);
        let function = self.driver.function(*module, &name)?;
        functions.insert((kernel, vector, real), function);
        Ok(function)
    }

    fn backend(&self) -> Result<Arc<dyn Backend>> {
        let own = self.own.upgrade();
        let own = own.ok_or_else(|| GpuError("the device is being closed".into()))?;
        Ok(own)
    }

    /// What of an epilogue a library left.
    fn finish(&self, convolution: &Convolution, epilogue: Epilogue, y: Address) -> Result<()> {
        if epilogue.bias.is_none() && epilogue.residual.is_none() && !epilogue.relu {
            return Ok(());
        }
        let [height, width] = convolution.output();
        let channels = convolution.filters;
        let count = convolution.pictures * height * width * channels;
        let args = args::Affine {
            x: y,
            residual: epilogue.residual.unwrap_or(0),
            offset: epilogue.bias.map_or(0, |bias| bias.single),
            y,
            count: count as i64,
            channels: channels as i32,
            activation: i32::from(epilogue.relu),
            ..args::Affine::default()
        };
        let real = convolution.real;
        let vector = channels.is_multiple_of(real.vector());
        let step = if vector { real.vector() } else { 1 };
        let launch = Launch {
            kernel: kernels::AFFINE,
            vector,
            real,
            grid: [(count / step).div_ceil(THREADS) as u32, 1, 1],
        };
        self.launch(launch, Args::of(&args))
    }
}

impl Backend for Cuda {
    fn describe(&self) -> String {
        let Driver { name, version, .. } = &self.driver;
        let cudnn = Convolutions::version();
        format!(
            "{name} (CUDA {}.{}, cuDNN {}.{}.{})",
            version / 1000,
            version % 1000 / 10,
            cudnn / 10_000,
            cudnn % 10_000 / 100,
            cudnn % 100
        )
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn blocks(&self) -> usize {
        2 * self.driver.processors
    }

    fn free_bytes(&self) -> Result<usize> {
        self.driver.free_bytes()
    }

    fn allocate(&self, bytes: usize) -> Result<Address> {
        self.driver.allocate(bytes)
    }

    fn free(&self, address: Address, _: usize) {
        self.driver.free(address);
    }

    fn upload(&self, bytes: &[u8], to: Address) -> Result<()> {
        self.driver.enter()?;
        if bytes.len() < STAGED {
            // SAFETY: the driver copies pageable memory of this size before it returns.
            return unsafe { self.driver.upload(bytes.as_ptr().cast(), bytes.len(), to) };
        }
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, part) in bytes.chunks(STAGE).enumerate() {
            let (buffer, event) = stages.buffers[stages.next];
            stages.next = 1 - stages.next;
            self.driver.wait_for(event)?;
            // SAFETY: the buffer has room for as much, and nothing reads it any more.
            let stage = unsafe { std::slice::from_raw_parts_mut(buffer, part.len()) };
            let chunks = stage.par_chunks_mut(1 << 20).zip(part.par_chunks(1 << 20));
            chunks.for_each(|(to, from)| to.copy_from_slice(from));
            let to = to + (index * STAGE) as Address;
            // SAFETY: the buffer is left alone until the event is over.
            unsafe {
                self.driver
                    .upload(buffer.cast::<c_void>(), part.len(), to)?
            };
            self.driver.record(event)?;
        }
        Ok(())
    }

    fn download(&self, from: Address, to: &mut [u8]) -> Result<()> {
        self.driver.download(from, to)
    }

    fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<()> {
        self.driver.copy(from, to, bytes)
    }

    fn zero(&self, address: Address, bytes: usize) -> Result<()> {
        self.driver.zero(address, bytes)
    }

    fn launch(&self, launch: Launch, args: Args<'_>) -> Result<()> {
        let function = self.function(&launch)?;
        let threads = THREADS as u32;
        let launched = self
            .driver
            .launch(function, launch.grid, threads, args.pointer());
        launched.map_err(|GpuError(error)| {
            GpuError(format!(
                "{error}: `{}` on {:?}",
                launch.kernel.name, launch.grid
            ))
        })
    }

    fn product(&self, product: &Product, epilogue: Epilogue) -> Result<()> {
        match self.products.get() {
            Some(products) => products.run(&self.driver, product, epilogue),
            None => Err(GpuError("the device is not open yet".into())),
        }
    }

    fn convolve(
        &self,
        convolution: &Convolution,
        x: Address,
        kernel: Address,
        epilogue: Epilogue,
        y: Address,
    ) -> Result<()> {
        self.driver.enter()?;
        let backend = self.backend()?;
        let places = [x, kernel, y];
        match self
            .convolutions
            .run(&backend, convolution, places, epilogue)?
        {
            true => Ok(()),
            false => self.finish(convolution, epilogue, y),
        }
    }

    fn convolve_input_grad(
        &self,
        convolution: &Convolution,
        dy: Address,
        kernel: Address,
        add: bool,
        dx: Address,
    ) -> Result<()> {
        self.driver.enter()?;
        let (backend, places) = (self.backend()?, [dy, kernel, dx]);
        self.convolutions
            .input_grad(&backend, convolution, places, add)
    }

    fn convolve_kernel_grad(
        &self,
        convolution: &Convolution,
        x: Address,
        dy: Address,
        to: Address,
    ) -> Result<()> {
        self.driver.enter()?;
        let (backend, places) = (self.backend()?, [x, dy, to]);
        self.convolutions.kernel_grad(&backend, convolution, places)
    }
}
