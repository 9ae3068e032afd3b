//! Writes the attack folders of `tests/attacks`.
//!
//! ```text
//! cargo run -p tidegate-trust --example forge-attacks
//! ```
//!
//! Keys and dates are fixed, so the same bytes come out every time; a test compares them with what
//! is committed.

mod forge;

use std::path::Path;
use std::{fs, io};

fn main() -> io::Result<()> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/attacks");
    match fs::remove_dir_all(&home) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let files = forge::files();
    for (name, bytes) in &files {
        let path = home.join(name);
        fs::create_dir_all(path.parent().unwrap_or(&home))?;
        fs::write(path, bytes)?;
    }
    println!("{} files in {}", files.len(), home.display());
    Ok(())
}
