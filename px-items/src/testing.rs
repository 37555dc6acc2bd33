//! What tests, benchmarks and the programs' own tests need, and nothing else does.

#[cfg(all(feature = "postgres", unix))]
pub mod postgres;
