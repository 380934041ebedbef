//! The checked-in generated code is what the generator makes of the .proto files today.

#[path = "../examples/generate.rs"]
mod generate;

use std::fs;

#[test]
fn generated_code_is_up_to_date() {
    let fresh = tempfile::tempdir().expect("a temporary folder");
    generate::generate(&generate::proto_root(), fresh.path()).expect("the .proto files compile");
    for file in generate::OUTPUTS {
        let new = fs::read(fresh.path().join(file)).expect("written by the generator");
        let old = fs::read(generate::gen_root().join(file)).unwrap_or_default();
        assert!(
            new == old,
            "src/gen/{file} is not up to date: run `cargo run -p seen-proto --example generate`"
        );
    }
}
