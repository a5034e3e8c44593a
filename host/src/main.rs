//! The command line: `lacuna`.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
