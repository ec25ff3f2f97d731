//! A device as CUDA's driver has it: its context, one stream, memory and modules.

use std::ffi::{CStr, CString, c_void};

use cudarc::driver::sys::{self, CUcontext, CUdevice, CUevent, CUfunction, CUresult, CUstream};

use super::super::{Address, GpuError, Result};

/// A result of the driver.
pub(super) fn check(what: &str, result: CUresult) -> Result<()> {
    if result == CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    let mut text = std::ptr::null();
    // SAFETY: the driver has a text for every result, or leaves the pointer as it is.
    let text = unsafe {
        sys::cuGetErrorString(result, &raw mut text);
        match text.is_null() {
            true => String::new(),
            false => CStr::from_ptr(text).to_string_lossy().into_owned(),
        }
    };
    Err(GpuError(format!(
        "CUDA failed to {what}: {result:?} ({text})"
    )))
}

/// How many devices there are; an error if the driver does not start.
pub(super) fn count() -> Result<usize> {
    let mut count = 0;
    // SAFETY: the driver was found; the count is there to be written.
    unsafe {
        check("start", sys::cuInit(0))?;
        check("count devices", sys::cuDeviceGetCount(&raw mut count))?;
    }
    Ok(count.max(0) as usize)
}

/// A device and a stream on it.
#[derive(Debug)]
pub(super) struct Driver {
    device: CUdevice,
    context: CUcontext,
    pub(super) stream: CUstream,
    pub(super) name: String,
    /// Such as 90.
    pub(super) architecture: i32,
    pub(super) processors: usize,
    /// Version of the driver, such as 13000.
    pub(super) version: i32,
}

// SAFETY: a context may be used from any thread that makes it current, which every call does; the
// handles are not changed.
unsafe impl Send for Driver {}
// SAFETY: the driver's functions may be called from several threads at once.
unsafe impl Sync for Driver {}

impl Driver {
    pub(super) fn open(ordinal: usize) -> Result<Self> {
        let mut device = 0;
        let mut context = std::ptr::null_mut();
        let mut stream = std::ptr::null_mut();
        let mut name = [0u8; 256];
        let mut version = 0;
        // SAFETY: all that is written is there to be written, and as large as is said.
        unsafe {
            check(
                "find the device",
                sys::cuDeviceGet(&raw mut device, ordinal as i32),
            )?;
            let retained = sys::cuDevicePrimaryCtxRetain(&raw mut context, device);
            check("open the device", retained)?;
            check("use the device", sys::cuCtxSetCurrent(context))?;
            let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
            check("make a stream", sys::cuStreamCreate(&raw mut stream, flags))?;
            let length = name.len() as i32 - 1;
            let named = sys::cuDeviceGetName(name.as_mut_ptr().cast(), length, device);
            check("name the device", named)?;
            check(
                "tell its version",
                sys::cuDriverGetVersion(&raw mut version),
            )?;
        }
        let name = CStr::from_bytes_until_nul(&name).unwrap_or_default();
        let mut driver = Self {
            device,
            context,
            stream,
            name: name.to_string_lossy().into_owned(),
            architecture: 0,
            processors: 0,
            version,
        };
        type Attribute = sys::CUdevice_attribute;
        let major = driver.attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = driver.attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        let processors = driver.attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        driver.architecture = 10 * major + minor;
        driver.processors = processors.max(1) as usize;
        Ok(driver)
    }

    fn attribute(&self, attribute: sys::CUdevice_attribute) -> Result<i32> {
        let mut value = 0;
        // SAFETY: the value is there to be written.
        let result = unsafe { sys::cuDeviceGetAttribute(&raw mut value, attribute, self.device) };
        check("describe the device", result)?;
        Ok(value)
    }

    /// Makes the context that of this thread.
    pub(super) fn enter(&self) -> Result<()> {
        // SAFETY: the context is never given back.
        check("use the device", unsafe {
            sys::cuCtxSetCurrent(self.context)
        })
    }

    pub(super) fn free_bytes(&self) -> Result<usize> {
        self.enter()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: both are there to be written.
        let result = unsafe { sys::cuMemGetInfo_v2(&raw mut free, &raw mut total) };
        check("tell its memory", result)?;
        Ok(free)
    }

    pub(super) fn allocate(&self, bytes: usize) -> Result<Address> {
        self.enter()?;
        let mut address = 0;
        // SAFETY: the address is there to be written.
        let result = unsafe { sys::cuMemAlloc_v2(&raw mut address, bytes) };
        if result == CUresult::CUDA_ERROR_OUT_OF_MEMORY {
            let free = self.free_bytes()?;
            return Err(GpuError(format!(
                "the GPU is out of memory: {bytes} bytes are wanted, {free} are free; use a smaller \
                 `train.batch_size`"
            )));
        }
        check("allocate memory", result)?;
        Ok(address)
    }

    pub(super) fn free(&self, address: Address) {
        if self.enter().is_ok() {
            // SAFETY: it was allocated and nobody uses it any more; the driver waits for work that does.
            unsafe { sys::cuMemFree_v2(address) };
        }
    }

    /// Queues a copy from main memory.
    ///
    /// # Safety
    /// The memory stays as it is until the copy is done, unless it is pageable.
    pub(super) unsafe fn upload(
        &self,
        from: *const c_void,
        bytes: usize,
        to: Address,
    ) -> Result<()> {
        // SAFETY: handed on to the caller.
        let result = unsafe { sys::cuMemcpyHtoDAsync_v2(to, from, bytes, self.stream) };
        check("copy to the device", result)
    }

    pub(super) fn download(&self, from: Address, to: &mut [u8]) -> Result<()> {
        self.enter()?;
        // SAFETY: `to` is waited for before it is read.
        let result = unsafe {
            sys::cuMemcpyDtoHAsync_v2(to.as_mut_ptr().cast(), from, to.len(), self.stream)
        };
        check("copy from the device", result)?;
        self.wait()
    }

    pub(super) fn wait(&self) -> Result<()> {
        // SAFETY: the stream is never destroyed.
        check("finish its work", unsafe {
            sys::cuStreamSynchronize(self.stream)
        })
    }

    pub(super) fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<()> {
        self.enter()?;
        // SAFETY: callers name memory of that size.
        let result = unsafe { sys::cuMemcpyDtoDAsync_v2(to, from, bytes, self.stream) };
        check("copy", result)
    }

    pub(super) fn zero(&self, address: Address, bytes: usize) -> Result<()> {
        self.enter()?;
        // SAFETY: callers name memory of that size.
        let result = unsafe { sys::cuMemsetD8Async(address, 0, bytes, self.stream) };
        check("set memory", result)
    }

    /// Main memory that copies are fast from.
    pub(super) fn pinned(&self, bytes: usize) -> Result<*mut u8> {
        self.enter()?;
        let mut memory = std::ptr::null_mut();
        // SAFETY: the pointer is there to be written.
        let result = unsafe { sys::cuMemAllocHost_v2(&raw mut memory, bytes) };
        check("pin memory", result)?;
        Ok(memory.cast())
    }

    pub(super) fn event(&self, timed: bool) -> Result<CUevent> {
        self.enter()?;
        let mut event = std::ptr::null_mut();
        let untimed = sys::CUevent_flags::CU_EVENT_DISABLE_TIMING as u32;
        // SAFETY: the event is there to be written.
        let result = unsafe { sys::cuEventCreate(&raw mut event, if timed { 0 } else { untimed }) };
        check("make an event", result)?;
        Ok(event)
    }

    pub(super) fn record(&self, event: CUevent) -> Result<()> {
        // SAFETY: events and the stream are never destroyed.
        check("record an event", unsafe {
            sys::cuEventRecord(event, self.stream)
        })
    }

    pub(super) fn wait_for(&self, event: CUevent) -> Result<()> {
        // SAFETY: as above; an event that was never recorded is over.
        check("wait for an event", unsafe {
            sys::cuEventSynchronize(event)
        })
    }

    /// Milliseconds between two events that are over.
    pub(super) fn between(&self, [first, last]: [CUevent; 2]) -> Result<f32> {
        let mut milliseconds = 0.0;
        // SAFETY: as above; the number is there to be written.
        let result = unsafe { sys::cuEventElapsedTime_v2(&raw mut milliseconds, first, last) };
        check("tell the time", result)?;
        Ok(milliseconds)
    }

    /// The functions of these names in machine code that stays loaded for good.
    pub(super) fn load(&self, code: &[u8]) -> Result<Module> {
        self.enter()?;
        let mut module = std::ptr::null_mut();
        // SAFETY: the code is a whole cubin, whose size is in it.
        let result = unsafe { sys::cuModuleLoadData(&raw mut module, code.as_ptr().cast()) };
        check("load kernels", result)?;
        Ok(Module(module))
    }

    pub(super) fn function(&self, module: Module, name: &str) -> Result<Function> {
        self.enter()?;
        let text = CString::new(name).map_err(|error| GpuError(error.to_string()))?;
        let mut function = std::ptr::null_mut();
        // SAFETY: the module is never unloaded; the name ends in 0.
        let result =
            unsafe { sys::cuModuleGetFunction(&raw mut function, module.0, text.as_ptr()) };
        check(&format!("find the kernel `{name}`"), result)?;
        Ok(Function(function))
    }

    pub(super) fn launch(
        &self,
        function: Function,
        grid: [u32; 3],
        threads: u32,
        args: *const c_void,
    ) -> Result<()> {
        self.enter()?;
        let mut params = [args.cast_mut()];
        let (shared, none) = (0, std::ptr::null_mut());
        // SAFETY: the kernel takes one struct, which the driver copies before it returns.
        let result = unsafe {
            sys::cuLaunchKernel(
                function.0,
                grid[0],
                grid[1],
                grid[2],
                threads,
                1,
                1,
                shared,
                self.stream,
                params.as_mut_ptr(),
                none,
            )
        };
        check("run a kernel", result)
    }
}

/// Kernels on a device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Module(sys::CUmodule);

/// A kernel on a device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Function(CUfunction);

// SAFETY: handles that are never given back, used by the driver alone.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}
// SAFETY: as above.
unsafe impl Send for Function {}
