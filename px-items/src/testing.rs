//! Support for tests and benchmarks, also those of the programs.

#[cfg(all(feature = "postgres", unix))]
pub mod postgres;
