//! The client of `peer-tonic`; its command line is the kit's. A connection is a channel, on which calls are streams.

use std::process::ExitCode;

use bytes::Bytes;
use kit::client::Arguments;
use kit::demo::{self, ECHO_1K_BYTES, ECHO_256K_BYTES, USERS_100};
use kit::{Args, Call, Caller, Failure};
use peer_tonic::rpc::arith_client::ArithClient;
use peer_tonic::rpc::echo_client::EchoClient;
use peer_tonic::rpc::users_client::UsersClient;
use peer_tonic::{CONNECTION_WINDOW_BYTES, FRAME_BYTES_MAX, STREAM_WINDOW_BYTES, rpc};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

fn main() -> ExitCode {
    kit::client::main(&["tonic", "prost", "hyper", "h2", "tokio"], Connection::open)
}

/// A connection, and what is called on it.
struct Connection {
    arith: ArithClient<Channel>,
    echo: EchoClient<Channel>,
    users: UsersClient<Channel>,
    call: Call,
    body: Bytes,
    expected: Vec<rpc::User>,
}

impl Connection {
    async fn open(arguments: &Arguments) -> Result<Connection, String> {
        let endpoint = Endpoint::from_shared(format!("http://{}", arguments.address)).map_err(told)?;
        let endpoint = endpoint
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES_MAX)
            // Calls beyond its default of 1024 would wait here.
            .buffer_size(1024.max(arguments.depth as usize));
        let channel = endpoint.connect().await.map_err(told)?;
        let body_bytes = match arguments.call {
            Call::Echo1k => ECHO_1K_BYTES,
            Call::Echo256k => ECHO_256K_BYTES,
            Call::Add | Call::Users100 => 0,
        };
        let users = demo::users(USERS_100).expect("in range");
        Ok(Connection {
            arith: ArithClient::new(channel.clone()),
            echo: EchoClient::new(channel.clone()),
            users: UsersClient::new(channel),
            call: arguments.call,
            body: demo::echo_bytes(body_bytes).into(),
            expected: users.into_iter().map(rpc::User::from).collect(),
        })
    }
}

impl Caller for Connection {
    async fn call(&self, number: u64) -> Result<(), Failure> {
        match self.call {
            Call::Add => {
                let args = Args::of(number);
                let request = rpc::Args { a: args.a, b: args.b };
                let sum = self.arith.clone().add(request).await.map_err(failure)?.into_inner().sum;
                is(sum == args.sum(), || format!("{sum} is not the sum of {args:?}"))
            }
            Call::Echo1k | Call::Echo256k => {
                let request = rpc::Payload { body: self.body.clone() };
                let body = self.echo.clone().bytes(request).await.map_err(failure)?.into_inner().body;
                is(body == self.body, || format!("{} other bytes came back", body.len()))
            }
            Call::Users100 => {
                let request = rpc::Count { n: USERS_100 };
                let users = self.users.clone().list(request).await.map_err(failure)?.into_inner().users;
                is(users == self.expected, || format!("{} users, not the right ones", users.len()))
            }
        }
    }
}

fn is(right: bool, why: impl FnOnce() -> String) -> Result<(), Failure> {
    if right { Ok(()) } else { Err(Failure::Wrong(why())) }
}

/// A channel would connect anew; here a lost connection is an error that ends its calls.
fn failure(status: Status) -> Failure {
    match status.code() {
        Code::Unavailable | Code::Cancelled | Code::Unknown => Failure::Lost(status.to_string()),
        _ => Failure::Wrong(status.to_string()),
    }
}

fn told(error: tonic::transport::Error) -> String {
    // Its own text is `transport error`; what happened is behind it.
    let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}
