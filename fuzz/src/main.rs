//! The fuzzer: runs the target that the environment variable `FUZZ_TARGET` names. `FUZZ_TARGET=list` prints the names
//! of all targets, one in a line. `run.sh` builds this program and runs it once for each target.
//!
//! libFuzzer clears and reads the coverage counters of the whole program for each input: 800,000 with all targets, which
//! is slower than what a small target does itself. If `FUZZ_ONLY` names a target when this program is compiled, it holds
//! this one alone, and the counters of the code that it reaches.
#![no_main]

use std::process::exit;
use std::sync::OnceLock;

use coreloop_fuzz::targets::{TARGETS, Target};

const ALL: &[Target] = &TARGETS;

const NAME: &str = match option_env!("FUZZ_ONLY") {
    Some(name) => name,
    None => "",
};

const ONLY: &[Target] = &[if NAME.is_empty() { TARGETS[0] } else { named(NAME) }];

/// The targets in this program. Nothing else refers to their functions, so that the linker drops the others.
static LINKED: &[Target] = if NAME.is_empty() { ALL } else { ONLY };

/// The chosen target: looked up once, so that an input costs one load and one call.
static RUN: OnceLock<fn(&[u8])> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: RUN.set(chosen()).expect("the fuzzer is initialized once"),
    |data: &[u8]| RUN.get().expect("the fuzzer is initialized before its first input")(data)
);

/// Returns the target of this name, while compiling.
const fn named(name: &str) -> Target {
    let mut i = 0;
    while i < TARGETS.len() {
        let target = TARGETS[i].0.as_bytes();
        let mut same = 0;
        while same < target.len() && same < name.len() && target[same] == name.as_bytes()[same] {
            same += 1;
        }
        if same == target.len() && same == name.len() {
            return TARGETS[i];
        }
        i += 1;
    }
    panic!("FUZZ_ONLY: expected the name of a target")
}

/// Returns the function of the target that `FUZZ_TARGET` names. Ends the process if it names none.
fn chosen() -> fn(&[u8]) {
    let names = || LINKED.iter().map(|(name, _)| *name);
    let found = match std::env::var_os("FUZZ_TARGET") {
        Some(name) if name == "list" => {
            names().for_each(|name| println!("{name}"));
            exit(0);
        }
        Some(name) => match LINKED.iter().find(|(target, _)| name == *target) {
            Some((_, run)) => return *run,
            None => format!("{name:?}"),
        },
        None => "nothing".to_owned(),
    };
    let expected: Vec<&str> = names().collect();
    eprintln!("FUZZ_TARGET: expected list, or one of {}; found {found}", expected.join(", "));
    exit(2);
}
