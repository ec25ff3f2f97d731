//! A device emulated on the CPU, for tests: the kernels themselves, compiled by a C++ compiler, and
//! plain loops for products and convolutions.

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::args::Args;
use super::{
    Address, Backend, Convolution, Epilogue, Gpu, GpuError, Launch, Matrix, PRELUDE, Product, Real,
    Result, SOURCES, THREADS,
};
use crate::precision::Precision;

/// A kernel as a function over all its blocks.
type Function = unsafe extern "C" fn(*const [u32; 3], u32, *const c_void);

/// An emulated device. One kernel runs at a time, as the emulation has one set of threads.
#[derive(Debug)]
pub(crate) struct Host {
    precision: Precision,
    functions: Mutex<HashMap<(Real, String), usize>>,
    allocated: Mutex<HashMap<Address, std::alloc::Layout>>,
}

/// What runs kernels on this machine; `None` where there is no C++ compiler.
pub(crate) fn gpu(precision: Precision) -> Option<Gpu> {
    let has_compiler = Command::new("g++").arg("--version").output().is_ok();
    has_compiler.then(|| Gpu::new(Arc::new(Host::new(precision))))
}

/// Only one kernel of the process runs at a time.
static RUNNING: Mutex<()> = Mutex::new(());

impl Host {
    fn new(precision: Precision) -> Self {
        Self {
            precision,
            functions: Mutex::default(),
            allocated: Mutex::default(),
        }
    }

    fn function(&self, launch: &Launch) -> Result<Function> {
        let suffix = if launch.vector { "v" } else { "1" };
        let name = format!("{}_{suffix}", launch.kernel.name);
        let mut functions = self
            .functions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known = functions.get(&(launch.real, name.clone())).copied();
        let address = match known {
            Some(address) => address,
            None => {
                let library = library(launch.kernel.file, launch.real)?;
                let symbol = CString::new(name.clone()).map_err(failed)?;
                // SAFETY: the library stays open for good.
                let address = unsafe { libc::dlsym(library as *mut c_void, symbol.as_ptr()) };
                if address.is_null() {
                    return Err(GpuError(format!("no kernel `{name}`")));
                }
                functions.insert((launch.real, name), address as usize);
                address as usize
            }
        };
        // SAFETY: all functions of the libraries have this type.
        Ok(unsafe { std::mem::transmute::<usize, Function>(address) })
    }
}

/// The opened library of a file of kernels, compiled where that has not been done yet.
fn library(file: &str, real: Real) -> Result<usize> {
    static OPEN: OnceLock<Mutex<HashMap<(String, Real), usize>>> = OnceLock::new();
    let open = OPEN.get_or_init(Mutex::default);
    let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(library) = open.get(&(file.to_owned(), real)) {
        return Ok(*library);
    }
    let path = compiled(file, real)?;
    let path = CString::new(path.to_string_lossy().into_owned()).map_err(failed)?;
    // SAFETY: what was compiled here has no initialisers.
    let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
    if library.is_null() {
        return Err(GpuError(format!("cannot open {path:?}")));
    }
    open.insert((file.to_owned(), real), library as usize);
    Ok(library as usize)
}

fn compiled(file: &str, real: Real) -> Result<PathBuf> {
    let source = SOURCES.iter().find(|(name, _)| *name == file);
    let (_, source) = source.ok_or_else(|| GpuError(format!("no file `{file}`")))?;
    let shim = include_str!("kernels/host.h");
    let text = format!(
        "{shim}\nstruct bf16;\n#define REAL {}\n{PRELUDE}\n{source}",
        real.name()
    );
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/gpu_host");
    std::fs::create_dir_all(&folder).map_err(failed)?;
    let name = format!("{file}_{}", &blake3::hash(text.as_bytes()).to_hex()[..16]);
    let library = folder.join(format!("{name}.so"));
    if library.exists() {
        return Ok(library);
    }
    let own = format!("{name}_{}", std::process::id());
    let (cpp, part) = (
        folder.join(format!("{own}.cpp")),
        folder.join(format!("{own}.part")),
    );
    std::fs::write(&cpp, text).map_err(failed)?;
    let output = Command::new("g++")
        .args(["-std=c++17", "-O2", "-w", "-fPIC", "-shared"])
        .args([cpp.as_os_str(), "-o".as_ref(), part.as_os_str()])
        .output()
        .map_err(failed)?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(GpuError(format!("{file}.cu does not compile:\n{errors}")));
    }
    std::fs::remove_file(&cpp).map_err(failed)?;
    std::fs::rename(&part, &library).map_err(failed)?;
    Ok(library)
}

fn failed(error: impl std::fmt::Display) -> GpuError {
    GpuError(error.to_string())
}

fn round(value: f32) -> u16 {
    half::bf16::from_f32(value).to_bits()
}

/// Values in memory.
fn read(address: Address, count: usize, real: Real) -> Vec<f32> {
    (0..count).map(|index| get(address, index, real)).collect()
}

fn write(values: &[f32], address: Address, real: Real) {
    for (index, value) in values.iter().enumerate() {
        put(*value, address, index, real);
    }
}

fn put(value: f32, address: Address, index: usize, real: Real) {
    // SAFETY: callers name memory that they have allocated.
    unsafe {
        match real {
            Real::Single => *(address as *mut f32).add(index) = value,
            Real::Brain => *(address as *mut u16).add(index) = round(value),
        }
    }
}

fn get(address: Address, index: usize, real: Real) -> f32 {
    // SAFETY: callers name memory that they have allocated.
    unsafe {
        match real {
            Real::Single => *(address as *const f32).add(index),
            Real::Brain => half::bf16::from_bits(*(address as *const u16).add(index)).to_f32(),
        }
    }
}

/// The rows of one matrix, its transpose taken.
fn rows(matrix: Matrix, index: usize, [rows, columns]: [usize; 2], real: Real) -> Vec<f32> {
    let at = |row: usize, column: usize| {
        let (row, column) = if matrix.transposed {
            (column, row)
        } else {
            (row, column)
        };
        index * matrix.stride + row * matrix.row + column
    };
    let all = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
    all.map(|(row, column)| get(matrix.address, at(row, column), real))
        .collect()
}

/// What an output becomes before it is stored.
fn finished(value: f32, epilogue: Epilogue, at: usize, column: usize, real: Real) -> f32 {
    let bias = epilogue
        .bias
        .map_or(0.0, |bias| get(bias.single, column, Real::Single));
    let residual = epilogue
        .residual
        .map_or(0.0, |residual| get(residual, at, real));
    let value = value + bias + residual;
    if epilogue.relu && value < 0.0 {
        0.0
    } else {
        value
    }
}

/// Calls `f` with output pixel, tap and input pixel of a picture wherever the window meets the map.
fn taps(c: &Convolution, mut f: impl FnMut(usize, usize, usize)) {
    let [height, width, _] = c.input;
    let [out_height, out_width] = c.output();
    for out in 0..out_height * out_width {
        for tap in 0..c.kernel[0] * c.kernel[1] {
            let along = |axis: usize, out: usize, tap: usize, size: usize| {
                (out * c.stride[axis] + tap * c.dilation[axis])
                    .checked_sub(c.padding[axis])
                    .filter(|at| *at < size)
            };
            let row = along(0, out / out_width, tap / c.kernel[1], height);
            let column = along(1, out % out_width, tap % c.kernel[1], width);
            if let (Some(row), Some(column)) = (row, column) {
                f(out, tap, row * width + column);
            }
        }
    }
}

impl Backend for Host {
    fn describe(&self) -> String {
        "a GPU emulated on the CPU".into()
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn blocks(&self) -> usize {
        4
    }

    fn free_bytes(&self) -> Result<usize> {
        Ok(1 << 30)
    }

    fn allocate(&self, bytes: usize) -> Result<Address> {
        let layout = std::alloc::Layout::from_size_align(bytes, 256).map_err(failed)?;
        // SAFETY: callers ask for at least one byte.
        let memory = unsafe { std::alloc::alloc(layout) };
        // Not a number, so that what nobody has written shows.
        // SAFETY: that many bytes were allocated.
        unsafe { memory.write_bytes(0xff, bytes) };
        let mut allocated = self
            .allocated
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        allocated.insert(memory as Address, layout);
        Ok(memory as Address)
    }

    fn free(&self, address: Address, _: usize) {
        let mut allocated = self
            .allocated
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(layout) = allocated.remove(&address) {
            // SAFETY: it was allocated with this layout, and nobody has it any more.
            unsafe { std::alloc::dealloc(address as *mut u8, layout) };
        }
    }

    fn upload(&self, bytes: &[u8], to: Address) -> Result<()> {
        // SAFETY: callers name memory of that size.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to as *mut u8, bytes.len()) };
        Ok(())
    }

    fn download(&self, from: Address, to: &mut [u8]) -> Result<()> {
        // SAFETY: callers name memory of that size.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<()> {
        // SAFETY: callers name memory of that size.
        unsafe { std::ptr::copy(from as *const u8, to as *mut u8, bytes) };
        Ok(())
    }

    fn zero(&self, address: Address, bytes: usize) -> Result<()> {
        // SAFETY: callers name memory of that size.
        unsafe { (address as *mut u8).write_bytes(0, bytes) };
        Ok(())
    }

    fn launch(&self, launch: Launch, args: Args<'_>) -> Result<()> {
        let function = self.function(&launch)?;
        let _turn = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the struct is the one of the kernel, whose addresses the caller vouches for.
        unsafe { function(&raw const launch.grid, THREADS as u32, args.pointer()) };
        Ok(())
    }

    fn product(&self, product: &Product, epilogue: Epilogue) -> Result<()> {
        let [m, n, k] = product.size;
        for index in 0..product.count {
            let a = rows(product.a, index, [m, k], product.real);
            let b = rows(product.b, index, [k, n], product.real);
            let mut sums = vec![0f64; n];
            for row in 0..m {
                sums.fill(0.0);
                for (a, b) in a[row * k..][..k].iter().zip(b.chunks_exact(n)) {
                    for (sum, b) in sums.iter_mut().zip(b) {
                        *sum += f64::from(*a) * f64::from(*b);
                    }
                }
                for (column, sum) in sums.iter().enumerate() {
                    let at = index * product.c.stride + row * product.c.row + column;
                    let mut value = (*sum * f64::from(product.alpha)) as f32;
                    if product.add {
                        value += get(product.c.address, at, product.output);
                    }
                    let value = finished(value, epilogue, at, column, product.real);
                    put(value, product.c.address, at, product.output);
                }
            }
        }
        Ok(())
    }

    fn convolve(
        &self,
        c: &Convolution,
        x: Address,
        kernel: Address,
        epilogue: Epilogue,
        y: Address,
    ) -> Result<()> {
        let [height, width, channels] = c.input;
        let [out_height, out_width] = c.output();
        let (outs, per_group) = (out_height * out_width, channels / c.groups);
        let area = c.kernel[0] * c.kernel[1];
        let kernel = read(kernel, c.kernel_elements(), c.real);
        for picture in 0..c.pictures {
            let first = (picture * height * width * channels * c.real.bytes()) as Address;
            let x = read(x + first, height * width * channels, c.real);
            let mut sums = vec![0f64; outs * c.filters];
            taps(c, |out, tap, pixel| {
                for filter in 0..c.filters {
                    let group = filter / (c.filters / c.groups);
                    let x = &x[pixel * channels + group * per_group..][..per_group];
                    let w = &kernel[(filter * area + tap) * per_group..][..per_group];
                    let products = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w));
                    sums[out * c.filters + filter] += products.sum::<f64>();
                }
            });
            for (index, sum) in sums.into_iter().enumerate() {
                let at = picture * outs * c.filters + index;
                let value = finished(sum as f32, epilogue, at, index % c.filters, c.real);
                put(value, y, at, c.real);
            }
        }
        Ok(())
    }

    fn convolve_input_grad(
        &self,
        c: &Convolution,
        dy: Address,
        kernel: Address,
        add: bool,
        dx: Address,
    ) -> Result<()> {
        let [height, width, channels] = c.input;
        let [out_height, out_width] = c.output();
        let (outs, per_group) = (out_height * out_width, channels / c.groups);
        let area = c.kernel[0] * c.kernel[1];
        let kernel = read(kernel, c.kernel_elements(), c.real);
        let values = height * width * channels;
        for picture in 0..c.pictures {
            let first = (picture * outs * c.filters * c.real.bytes()) as Address;
            let dy = read(dy + first, outs * c.filters, c.real);
            let to = dx + (picture * values * c.real.bytes()) as Address;
            let mut sums = match add {
                true => read(to, values, c.real),
                false => vec![0.0; values],
            };
            taps(c, |out, tap, pixel| {
                for filter in 0..c.filters {
                    let group = filter / (c.filters / c.groups);
                    let dy = dy[out * c.filters + filter];
                    let w = &kernel[(filter * area + tap) * per_group..][..per_group];
                    let sums = &mut sums[pixel * channels + group * per_group..][..per_group];
                    sums.iter_mut().zip(w).for_each(|(sum, w)| *sum += dy * w);
                }
            });
            write(&sums, to, c.real);
        }
        Ok(())
    }

    fn convolve_kernel_grad(
        &self,
        c: &Convolution,
        x: Address,
        dy: Address,
        to: Address,
    ) -> Result<()> {
        let [height, width, channels] = c.input;
        let [out_height, out_width] = c.output();
        let (outs, per_group) = (out_height * out_width, channels / c.groups);
        let area = c.kernel[0] * c.kernel[1];
        let mut sums = vec![0f32; c.kernel_elements()];
        for picture in 0..c.pictures {
            let at = |values: usize| (picture * values * c.real.bytes()) as Address;
            let x = read(
                x + at(height * width * channels),
                height * width * channels,
                c.real,
            );
            let dy = read(dy + at(outs * c.filters), outs * c.filters, c.real);
            taps(c, |out, tap, pixel| {
                for filter in 0..c.filters {
                    let group = filter / (c.filters / c.groups);
                    let dy = dy[out * c.filters + filter];
                    let x = &x[pixel * channels + group * per_group..][..per_group];
                    let sums = &mut sums[(filter * area + tap) * per_group..][..per_group];
                    sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += dy * x);
                }
            });
        }
        write(&sums, to, c.real);
        Ok(())
    }
}
