//! Rewrites the texts that are made from the code: marked tables and `seen.example.toml`.

use std::error::Error;
use std::fs;
use std::path::Path;

use seen_server::{config, reference};

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::write(root.join("seen.example.toml"), config::example())?;
    for path in reference::documents(&root)? {
        let old = fs::read_to_string(&path)?;
        let new = reference::with_tables(&old)?;
        if new != old {
            fs::write(&path, new)?;
        }
    }
    Ok(())
}
