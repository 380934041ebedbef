//! placeholder until written
#[test]
fn x() {}
