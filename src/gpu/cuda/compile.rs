//! Kernels compiled for the device that is there, once: the machine code is kept in the user's cache.

use std::ffi::{CStr, CString, c_char};
use std::path::PathBuf;

use cudarc::nvrtc::sys::{self, nvrtcResult};

use super::super::{GpuError, PRELUDE, Real, Result, SOURCES};
use crate::fsx;

/// Machine code of a file of kernels for an architecture such as 90.
pub(super) fn compiled(file: &str, real: Real, architecture: i32) -> Result<Vec<u8>> {
    let source = SOURCES.iter().find(|(name, _)| *name == file);
    let (_, source) = source.ok_or_else(|| GpuError(format!("no kernels `{file}`")))?;
    // As tests/cuda_kernels.py puts it together.
    let text = format!(
        "struct bf16;\n#define REAL {}\n{PRELUDE}{source}",
        real.name()
    );
    let kept = place(&text, file, real, architecture);
    if let Some(bytes) = kept.as_ref().and_then(|path| std::fs::read(path).ok()) {
        return Ok(bytes);
    }
    let code = compile(&text, architecture)?;
    if let Some(path) = kept {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).ok();
        }
        // Without a place to keep it, it is compiled again next time.
        fsx::write_atomic(&path, &code).ok();
    }
    Ok(code)
}

/// Where the machine code is kept: its name follows from all that decides it.
fn place(text: &str, file: &str, real: Real, architecture: i32) -> Option<PathBuf> {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both are there to be written.
    unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) };
    let hash = blake3::hash(text.as_bytes()).to_hex();
    let name = format!(
        "{file}_{}_sm{architecture}_nvrtc{major}.{minor}_{}.cubin",
        real.name(),
        &hash[..16]
    );
    Some(dirs::cache_dir()?.join("xp").join("cuda").join(name))
}

fn compile(text: &str, architecture: i32) -> Result<Vec<u8>> {
    let failed = |what: &str, result: nvrtcResult| {
        GpuError(format!("NVRTC failed to {what} the kernels: {result:?}"))
    };
    let check = |what: &str, result: nvrtcResult| match result {
        nvrtcResult::NVRTC_SUCCESS => Ok(()),
        result => Err(failed(what, result)),
    };
    let source = CString::new(text).map_err(|error| GpuError(error.to_string()))?;
    let options = [
        format!("--gpu-architecture=sm_{architecture}\0"),
        "--std=c++17\0".to_owned(),
    ];
    let options: Vec<*const c_char> = options.iter().map(|text| text.as_ptr().cast()).collect();
    let mut program = std::ptr::null_mut();
    // SAFETY: all texts end in 0 and outlive the program, which is destroyed below; sizes are asked
    // for before memory of that size is written.
    unsafe {
        let name = c"kernels.cu".as_ptr();
        let none = std::ptr::null();
        let created =
            sys::nvrtcCreateProgram(&raw mut program, source.as_ptr(), name, 0, none, none);
        check("take", created)?;
        let count = options.len() as i32;
        let result = sys::nvrtcCompileProgram(program, count, options.as_ptr());
        if result != nvrtcResult::NVRTC_SUCCESS {
            let mut size = 0;
            sys::nvrtcGetProgramLogSize(program, &raw mut size);
            let mut log = vec![0u8; size + 1];
            sys::nvrtcGetProgramLog(program, log.as_mut_ptr().cast());
            sys::nvrtcDestroyProgram(&raw mut program);
            let log = CStr::from_bytes_until_nul(&log).unwrap_or_default();
            let GpuError(message) = failed("compile", result);
            return Err(GpuError(format!("{message}\n{}", log.to_string_lossy())));
        }
        let mut size = 0;
        check("size", sys::nvrtcGetCUBINSize(program, &raw mut size))?;
        let mut code = vec![0u8; size];
        check(
            "give",
            sys::nvrtcGetCUBIN(program, code.as_mut_ptr().cast()),
        )?;
        sys::nvrtcDestroyProgram(&raw mut program);
        Ok(code)
    }
}
