//! The fuzzer: runs the target that the environment variable `FUZZ_TARGET` names. `FUZZ_TARGET=list` prints the names
//! of all targets, one in a line. `run.sh` builds this program and runs it once for each target.
#![no_main]

use std::process::exit;
use std::sync::OnceLock;

use coreloop_fuzz::targets::TARGETS;

/// The chosen target: looked up once, so that an input costs one load and one call.
static RUN: OnceLock<fn(&[u8])> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: RUN.set(chosen()).expect("the fuzzer is initialized once"),
    |data: &[u8]| RUN.get().expect("the fuzzer is initialized before its first input")(data)
);

/// Returns the function of the target that `FUZZ_TARGET` names. Ends the process if it names none.
fn chosen() -> fn(&[u8]) {
    let names = || TARGETS.iter().map(|(name, _)| *name);
    let found = match std::env::var_os("FUZZ_TARGET") {
        Some(name) if name == "list" => {
            names().for_each(|name| println!("{name}"));
            exit(0);
        }
        Some(name) => match TARGETS.iter().find(|(target, _)| name == *target) {
            Some((_, run)) => return *run,
            None => format!("{name:?}"),
        },
        None => "nothing".to_owned(),
    };
    let expected: Vec<&str> = names().collect();
    eprintln!("FUZZ_TARGET: expected list, or one of {}; found {found}", expected.join(", "));
    exit(2);
}
