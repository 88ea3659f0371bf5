//! The components of the hot path, each as a case that can be run any number of times; and how they are counted and
//! compared.
//!
//! `cargo bench -p coreloop-micro` times the cases. The program `counts` counts their instructions under callgrind
//! and compares them with the kept record. Both use one list, [`cases::all`]. Start there.

#![forbid(unsafe_code)]

pub mod callgrind;
pub mod cases;
pub mod meter;
pub mod record;
