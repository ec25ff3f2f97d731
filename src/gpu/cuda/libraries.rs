//! Where NVIDIA's libraries are: opened when the program runs, so that it starts without them.

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::process::Command;

use cudarc::{cublaslt, cudnn, driver, nvrtc};

use super::super::{GpuError, Result};

/// Folders that [`open`] looks into first, separated by colons.
pub const FOLDERS: &str = "XP_CUDA_LIBS";

/// Opens all libraries; what loads them later finds them open.
///
/// # Errors
/// If one is nowhere, with where was looked.
pub(super) fn open() -> Result<()> {
    // SAFETY: only looks for the library.
    if !unsafe { driver::sys::is_culib_present() } {
        return Err(GpuError(
            "there is no NVIDIA driver: libcuda.so.1 cannot be opened".into(),
        ));
    }
    let folders = folders();
    // Those that others open themselves come first.
    for names in [
        &["libnvrtc-builtins.so.13.0", "libnvrtc-builtins.so.12.8"][..],
        &["libnvrtc.so.13", "libnvrtc.so.12"],
        &["libcublasLt.so.13", "libcublasLt.so.12"],
        &["libcudnn_graph.so.9"],
        &["libcudnn_ops.so.9"],
        &["libcudnn.so.9"],
    ] {
        let opened = names.iter().any(|name| open_in(&folders, name));
        // Parts of the libraries, which they may find by themselves.
        let part = names[0].contains(['-', '_']);
        if !opened && !part {
            return Err(nowhere(names, &folders));
        }
    }
    // SAFETY: only look for the libraries.
    let present = unsafe {
        [
            nvrtc::sys::is_culib_present(),
            cublaslt::sys::is_culib_present(),
            cudnn::sys::is_culib_present(),
        ]
    };
    match present {
        [true, true, true] => Ok(()),
        _ => Err(nowhere(&["libnvrtc", "libcublasLt", "libcudnn"], &folders)),
    }
}

fn nowhere(names: &[&str], folders: &[PathBuf]) -> GpuError {
    let looked: Vec<String> = folders.iter().map(|it| it.display().to_string()).collect();
    let looked = match looked.is_empty() {
        true => String::new(),
        false => format!(" and in {}", looked.join(", ")),
    };
    GpuError(format!(
        "{} cannot be opened: looked where the system looks (LD_LIBRARY_PATH){looked}. \
         Set {FOLDERS} to the folders of CUDA's libraries, or install PyTorch or the packages \
         nvidia-cublas, nvidia-cuda-nvrtc and nvidia-cudnn-cu13 for the `python3` on the PATH",
        names.join(" or ")
    ))
}

/// Opens a library in one of the folders, or where the system finds it, for all to use.
fn open_in(folders: &[PathBuf], name: &str) -> bool {
    let there = folders.iter().map(|folder| folder.join(name));
    let files = there.filter(|path| path.exists());
    files
        .chain([PathBuf::from(name)])
        .any(|path| open_globally(&path))
}

fn open_globally(path: &Path) -> bool {
    let Ok(path) = CString::new(path.to_string_lossy().into_owned()) else {
        return false;
    };
    // SAFETY: NVIDIA's libraries may be opened at any time; they stay open for good.
    !unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) }.is_null()
}

/// The user's folders, and those of the packages that PyTorch comes with.
fn folders() -> Vec<PathBuf> {
    let own = std::env::var_os(FOLDERS).unwrap_or_default();
    let mut found: Vec<PathBuf> = std::env::split_paths(&own)
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    if !found.is_empty() {
        return found;
    }
    let script = "import nvidia; print('\\n'.join(nvidia.__path__))";
    let Ok(output) = Command::new("python3").args(["-c", script]).output() else {
        return found;
    };
    for root in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(packages) = std::fs::read_dir(root) else {
            continue;
        };
        let folders = packages.flatten().map(|package| package.path().join("lib"));
        found.extend(folders.filter(|folder| folder.is_dir()));
    }
    found.sort();
    found
}
