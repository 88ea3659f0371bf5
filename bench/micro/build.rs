//! Exports the compiler's version, because counts depend on it.

use std::process::Command;

fn main() {
    let rustc = std::env::var("RUSTC").expect("cargo says which compiler it runs");
    let out = Command::new(rustc).arg("--version").output().expect("the compiler says its version");
    println!("cargo:rustc-env=RUSTC_VERSION={}", String::from_utf8_lossy(&out.stdout).trim());
    println!("cargo:rerun-if-changed=build.rs");
}
