//! `tidegate-sim`: see `--help`.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::main() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tidegate-sim: {error:#}");
            ExitCode::from(2)
        }
    }
}
