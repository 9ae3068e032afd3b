//! Signed messages for other COSE libraries to verify, and a verifier for theirs.
//!
//!     cose-vectors write DIR    one file per message, and DIR/index
//!     cose-vectors check DIR    says of every line of DIR/index whether its file verifies
//!
//! A line of an index names a file and the public keys, in hexadecimal digits, that must all have
//! signed it. `interop/run.py` is what calls this.

mod check;
mod write;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["write", directory] => write::write(Path::new(directory)),
        ["check", directory] => check::read(Path::new(directory)).map(|vectors| {
            for vector in vectors {
                match check::check(&vector) {
                    Ok(()) => println!("{} accepted", vector.name),
                    Err(why) => println!("{} refused: {why}", vector.name),
                }
            }
        }),
        _ => {
            eprintln!("usage: cose-vectors write|check DIR");
            return ExitCode::FAILURE;
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
