//! The demo services as a Cap'n Proto capability, and the two ends' common half: a connection with its RPC system.
//!
//! `peer_capnp.rs` is made from `peer.capnp` by `generate`, so that building needs no Cap'n Proto compiler.

#[allow(missing_docs, clippy::all)]
#[rustfmt::skip]
pub mod peer_capnp;

use capnp::message::ReaderOptions;
use capnp_rpc::RpcSystem;
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::twoparty::VatNetwork;
use futures::io::{BufReader, BufWriter};
use tokio::net::TcpStream;
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};

/// The capability that a connection gives to its peer.
pub type Bootstrap = Option<capnp::capability::Client>;

/// The RPC system of a connection, over buffered halves as its documentation has it.
pub fn rpc_system(stream: TcpStream, side: Side, bootstrap: Bootstrap) -> RpcSystem<Side> {
    let (reader, writer) = stream.into_split();
    let reader = BufReader::new(reader.compat());
    let writer = BufWriter::new(writer.compat_write());
    let network = VatNetwork::new(reader, writer, side, ReaderOptions::new());
    RpcSystem::new(Box::new(network), bootstrap)
}
