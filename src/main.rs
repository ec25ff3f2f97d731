//! Entry point: everything happens in the library.

fn main() -> std::process::ExitCode {
    xp::commands::main()
}
