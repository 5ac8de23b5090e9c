//! `demolish`, the program. Everything it does is in the library beside this file; see `cli` for its verbs.

fn main() -> std::process::ExitCode {
    demolish::cli::main()
}
