//! The demo services on tarpc: `peer-tarpc ADDRESS --threads N`.
//!
//! As its example of a service has it: bincode over TCP, each connection a task, and each call.

use std::future::Future;
use std::io;

use futures::StreamExt;
use kit::server::{Arguments, announce};
use kit::{Args, User, demo};
use peer_tarpc::{Demo, FRAME_BYTES_MAX};
use serde_bytes::ByteBuf;
use tarpc::context::Context;
use tarpc::serde_transport::tcp;
use tarpc::server::{BaseChannel, Channel};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio_serde::formats::Bincode;

fn main() -> io::Result<()> {
    let arguments = Arguments::read(&["tarpc", "tokio"]);
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

async fn serve(arguments: &Arguments) -> io::Result<()> {
    let (listener, address) = arguments.listen()?;
    let listener = TcpListener::from_std(listener)?;
    let mut incoming = tcp::listen_on(listener, Bincode::default).await?;
    incoming.config_mut().max_frame_length(FRAME_BYTES_MAX);
    announce(address)?;
    while let Some(transport) = incoming.next().await {
        match transport {
            Ok(transport) => {
                let calls = BaseChannel::with_defaults(transport).execute(Server.serve());
                tokio::spawn(calls.for_each(spawn));
            }
            Err(error) => eprintln!("tarpc: accept: {error}"),
        }
    }
    Ok(())
}

async fn spawn(call: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(call);
}

#[derive(Clone, Copy)]
struct Server;

impl Demo for Server {
    async fn add(self, _: Context, args: Args) -> i64 {
        args.sum()
    }

    async fn echo(self, _: Context, bytes: ByteBuf) -> ByteBuf {
        bytes
    }

    async fn list(self, _: Context, n: i64) -> Result<Vec<User>, String> {
        demo::users(n).ok_or_else(|| "n out of range".into())
    }
}
