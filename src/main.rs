//! Entry point: everything happens in the library.

fn main() -> std::process::ExitCode {
    xp::allocator::keep_freed_memory();
    xp::allocator::explain_refusals(xp::commands::Exit::Memory as u8);
    xp::commands::main()
}
