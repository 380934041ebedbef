//! Writes the generated code of `proto/seen/v1` to `crates/seen-proto/src/gen`:
//! `cargo run -p seen-proto --example generate`. It is checked in, so that nobody who builds `seen`
//! needs a protobuf compiler; the test `generated` fails when it is not up to date.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use prost::Message;

/// The files that make up the API, relative to the proto root.
pub const PROTOS: [&str; 7] = [
    "seen/v1/filter.proto",
    "seen/v1/mark.proto",
    "seen/v1/history.proto",
    "seen/v1/seen.proto",
    "seen/v1/admin.proto",
    "seen/v1/change.proto",
    "seen/v1/link.proto",
];

/// The files that [`generate`] writes.
pub const OUTPUTS: [&str; 2] = ["seen.v1.rs", "seen.v1.bin"];

/// The folder of the .proto files.
pub fn proto_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto")
}

/// The folder of the generated code.
pub fn gen_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gen")
}

/// Writes [`OUTPUTS`] to `out_dir`.
pub fn generate(proto_root: &Path, out_dir: &Path) -> Result<(), Box<dyn Error>> {
    let files = PROTOS.map(|file| proto_root.join(file));
    // The descriptor keeps the comments, so that `grpcurl describe` prints them as documentation.
    let descriptor = protox::compile(files, [proto_root])?;
    fs::write(out_dir.join("seen.v1.bin"), descriptor.encode_to_vec())?;
    // The transport stays out: `connect` would tie every user of the messages to one HTTP stack.
    tonic_prost_build::configure()
        .build_transport(false)
        .out_dir(out_dir)
        .compile_fds(descriptor)?;
    Ok(())
}

#[allow(dead_code, reason = "the test that includes this file has a main of its own")]
fn main() -> Result<(), Box<dyn Error>> {
    generate(&proto_root(), &gen_root())
}
