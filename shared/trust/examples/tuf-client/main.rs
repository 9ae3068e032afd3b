//! A TUF client with the command line of the public tuf-conformance suite: Tidegate's workflow,
//! the same code that devices run, behind a codec that reads TUF's own JSON.
//!
//! It exists to be tested against repositories that others make, so it also takes P-256 keys, which
//! Tidegate itself does not. It has no delegations.
//!
//! ```text
//! tuf-client --metadata-dir D init ROOT
//! tuf-client --metadata-dir D --metadata-url U refresh
//! tuf-client --metadata-dir D --metadata-url U --target-name T --target-base-url U
//!            --target-dir D download
//! ```

use std::process::ExitCode;

use arguments::{Command, Download};
use error::ClientError;
use folder::Folder;
use http::Server;

mod arguments;
mod download;
mod error;
mod expiry;
mod folder;
mod http;
mod json;
mod key;
mod refresh;

fn main() -> ExitCode {
    match arguments::parse(std::env::args().skip(1)).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tuf-client: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), ClientError> {
    match command {
        Command::Init { metadata, root } => refresh::init(&Folder::new(metadata), &root),
        Command::Refresh { metadata, url } => {
            refresh::refresh(&Folder::new(metadata), &Server::new(url))
        }
        Command::Download(Download { metadata, url, names, base, targets }) => {
            let metadata = Folder::new(metadata);
            refresh::refresh(&metadata, &Server::new(url))?;
            download::download(&metadata, &Server::new(base), &names, &Folder::new(targets))
        }
    }
}
