//! The compile errors that users meet say what is wrong.

#[test]
fn compile_errors() {
    trybuild::TestCases::new().compile_fail("tests/compile/*.rs");
}
