//! Writes the Rust code of the peers' schemas into their trees: `cargo run --manifest-path bench/peers/generate/Cargo.toml`.
//!
//! The peers build from what is committed. Cap'n Proto's own compiler is needed here alone (`apt-get install capnproto`).

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no folder above this one")?;
    // Paths in what is generated are then the same on every machine.
    env::set_current_dir(peers)?;
    tonic()?;
    volo_thrift()?;
    capnp()
}

/// gRPC: bodies as `Bytes`, which may share the received buffer, and maps ordered, as the users' are.
fn tonic() -> Result<(), Box<dyn Error>> {
    let described = protox::compile(["tonic/peer.proto"], ["tonic"])?;
    tonic_prost_build::configure().bytes(".").btree_map(".").out_dir("tonic/src").compile_fds(described)?;
    Ok(fs::rename("tonic/src/peer.rs", "tonic/src/rpc.rs")?)
}

fn volo_thrift() -> Result<(), Box<dyn Error>> {
    volo_build::Builder::thrift()
        .add_service("volo-thrift/peer.thrift")
        .out_dir("volo-thrift/src")
        .filename(PathBuf::from("rpc.rs"))
        .write()?;
    Ok(())
}

fn capnp() -> Result<(), Box<dyn Error>> {
    capnpc::CompilerCommand::new()
        .src_prefix("capnp-rpc")
        .file("capnp-rpc/peer.capnp")
        .output_path("capnp-rpc/src")
        .run()?;
    Ok(())
}
