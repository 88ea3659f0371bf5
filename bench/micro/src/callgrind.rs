//! Counts the instructions of a case under callgrind: exact, and identical from run to run.
//!
//! Each case runs in a separate process, so that its figure depends on no other case. Sources of variation are fixed:
//! the C library could select its memcpy by the processor, and is made to use the one that every x86-64 has.

use std::process::Command;

use crate::cases::{self, Case};
use crate::meter;

/// Processor features that the C library would use to select code; without them it uses SSE2 everywhere.
const TUNABLES: &str =
    "glibc.cpu.hwcaps=-AVX2,-AVX512F,-AVX512VL,-AVX_Fast_Unaligned_Load,-BMI2,-ERMS,-FSRM,-SSE4_1,-SSSE3";

/// Returns whether callgrind is installed.
pub fn is_there() -> bool {
    Command::new("valgrind").arg("--version").output().is_ok_and(|out| out.status.success())
}

/// Runs the case with that name under callgrind. Returns false if there is none.
pub fn run_case(name: &str) -> bool {
    let Some(case) = cases::named(name) else { return false };
    let mut run = case.ready();
    meter::count(&mut *run, case.times);
    true
}

/// Counts the instructions of one operation of the case. `program` runs the case that its argument names.
///
/// # Errors
///
/// Callgrind does not run, or its output cannot be parsed; the error contains the output.
pub fn count(program: &std::path::Path, case: &Case) -> Result<u64, String> {
    let out = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .args(["--toggle-collect=coreloop_micro::meter::counted*"])
        .args(["--toggle-collect=coreloop_micro::meter::excluded*"])
        .arg(program)
        .args(["--run", &case.name])
        .env("GLIBC_TUNABLES", TUNABLES)
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&out.stderr);
    if !out.status.success() {
        return Err(format!("{}: valgrind ended with {}:\n{said}", case.name, out.status));
    }
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    let collected = collected.and_then(|(_, count)| count.trim().parse::<u64>().ok());
    let collected = collected.filter(|count| *count > 0);
    let collected = collected.ok_or_else(|| format!("{}: callgrind counted nothing:\n{said}", case.name))?;
    let operations = case.times * case.operations;
    Ok((collected + operations / 2) / operations)
}
