//! Entry point: everything happens in the library.

// Tensors come and go with every step: an allocator that keeps its pages saves as much time as the
// arithmetic takes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    xp::commands::main()
}
