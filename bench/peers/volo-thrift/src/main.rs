//! The demo services over Thrift, on volo: `peer-volo-thrift ADDRESS --threads N`.
//!
//! Its own codec (TTHeader over frames, binary). One thread is a current_thread runtime. SIGTERM is the server's to handle:
//! it ends at once without connections, and otherwise gives them two seconds or more.

use std::error::Error;

use kit::server::{self, Arguments};
use kit::{Args, demo};
use peer_volo_thrift::rpc::peer::{Peer, PeerServer, User};
use pilota::Bytes;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use volo::net::incoming::DefaultIncoming;
use volo_thrift::{ApplicationException, ApplicationExceptionKind, ServerError};

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments = Arguments::read(&["volo-thrift", "volo", "pilota", "tokio"]);
    kit::raise_files_limit()?;
    let mut builder = match arguments.threads() {
        1 => Builder::new_current_thread(),
        threads => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
    };
    builder.enable_all().build()?.block_on(serve(&arguments))
}

async fn serve(arguments: &Arguments) -> Result<(), Box<dyn Error + Send + Sync>> {
    let (listener, address) = arguments.listen()?;
    // It sets TCP_NODELAY on what it accepts.
    let incoming = DefaultIncoming::from(TcpListener::from_std(listener)?);
    server::announce(address)?;
    // Not multiplexed, which is its default: calls of one connection are answered in order, without a task for each.
    // Multiplexed clients do not mind.
    PeerServer::new(Demo).run(incoming).await
}

struct Demo;

impl Peer for Demo {
    async fn add(&self, a: i64, b: i64) -> Result<i64, ServerError> {
        Ok(Args { a, b }.sum())
    }

    async fn echo(&self, body: Bytes) -> Result<Bytes, ServerError> {
        Ok(body)
    }

    async fn users(&self, n: i64) -> Result<Vec<User>, ServerError> {
        let users = demo::users(n).ok_or_else(|| {
            ApplicationException::new(ApplicationExceptionKind::INTERNAL_ERROR, "n out of range")
        })?;
        Ok(users.into_iter().map(User::from).collect())
    }
}
