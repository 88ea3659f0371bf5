//! The demo services over gRPC, on tonic: `peer-tonic ADDRESS --threads N`.
//!
//! Its router with the three services, on its own HTTP/2 transport. One thread is a current_thread runtime.

use std::error::Error;

use kit::server::{self, Arguments};
use kit::{Args, demo};
use peer_tonic::rpc::arith_server::{Arith, ArithServer};
use peer_tonic::rpc::echo_server::{Echo, EchoServer};
use peer_tonic::rpc::users_server::{Users, UsersServer};
use peer_tonic::{CONNECTION_WINDOW_BYTES, FRAME_BYTES_MAX, STREAM_WINDOW_BYTES, STREAMS_MAX, rpc};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, async_trait};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read(&["tonic", "prost", "hyper", "h2", "tokio"]);
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

async fn serve(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let (listener, address) = arguments.listen()?;
    let incoming = TcpIncoming::from(TcpListener::from_std(listener)?).with_nodelay(Some(true));
    let router = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        .add_service(ArithServer::new(Demo))
        .add_service(EchoServer::new(Demo))
        .add_service(UsersServer::new(Demo));
    server::announce(address)?;
    Ok(router.serve_with_incoming(incoming).await?)
}

struct Demo;

#[async_trait]
impl Arith for Demo {
    async fn add(&self, request: Request<rpc::Args>) -> Result<Response<rpc::Sum>, Status> {
        let rpc::Args { a, b } = request.into_inner();
        Ok(Response::new(rpc::Sum { sum: Args { a, b }.sum() }))
    }
}

#[async_trait]
impl Echo for Demo {
    async fn bytes(&self, request: Request<rpc::Payload>) -> Result<Response<rpc::Payload>, Status> {
        Ok(Response::new(request.into_inner()))
    }
}

#[async_trait]
impl Users for Demo {
    async fn list(&self, request: Request<rpc::Count>) -> Result<Response<rpc::UserList>, Status> {
        let users = demo::users(request.into_inner().n);
        let users = users.ok_or_else(|| Status::out_of_range("n out of range"))?;
        Ok(Response::new(rpc::UserList { users: users.into_iter().map(rpc::User::from).collect() }))
    }
}
