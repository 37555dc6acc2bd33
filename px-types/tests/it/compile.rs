//! Compile errors of the crate's macros have clear messages.

#[test]
fn compile_errors() {
    trybuild::TestCases::new().compile_fail("tests/compile/*.rs");
}
