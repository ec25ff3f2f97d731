//! Entry point: everything happens in the library.

fn main() -> std::process::ExitCode {
    xp::allocator::keep_freed_memory();
    xp::commands::main()
}
