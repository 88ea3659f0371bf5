//! The client of `peer-tarpc`; its command line is the kit's.

use std::process::ExitCode;

use kit::client::Arguments;
use kit::demo::{self, ECHO_1K_BYTES, ECHO_256K_BYTES, USERS_100};
use kit::{Args, Call, Caller, Failure, User};
use peer_tarpc::{DemoClient, FRAME_BYTES_MAX};
use serde_bytes::ByteBuf;
use tarpc::client::{Config, RpcError};
use tarpc::context;
use tarpc::serde_transport::tcp;
use tokio_serde::formats::Bincode;

fn main() -> ExitCode {
    kit::client::main(&["tarpc", "tokio"], Connection::open)
}

/// A connection, and what is called on it.
struct Connection {
    client: DemoClient,
    call: Call,
    bytes: ByteBuf,
    users: Vec<User>,
}

impl Connection {
    async fn open(arguments: &Arguments) -> Result<Connection, String> {
        let mut connecting = tcp::connect(arguments.address, Bincode::default);
        connecting.config_mut().max_frame_length(FRAME_BYTES_MAX);
        let transport = connecting.await.map_err(|error| error.to_string())?;
        transport.get_ref().set_nodelay(true).map_err(|error| error.to_string())?;
        let mut config = Config::default();
        // Otherwise calls beyond its default of 1000 would wait here.
        config.max_in_flight_requests = config.max_in_flight_requests.max(arguments.depth as usize);
        let client = DemoClient::new(config, transport).spawn();
        let echo_bytes = match arguments.call {
            Call::Echo1k => ECHO_1K_BYTES,
            Call::Echo256k => ECHO_256K_BYTES,
            Call::Add | Call::Users100 => 0,
        };
        let bytes = ByteBuf::from(demo::echo_bytes(echo_bytes));
        let users = demo::users(USERS_100).expect("in range");
        Ok(Connection { client, call: arguments.call, bytes, users })
    }
}

impl Caller for Connection {
    async fn call(&self, number: u64) -> Result<(), Failure> {
        let context = context::current();
        match self.call {
            Call::Add => {
                let args = Args::of(number);
                let sum = self.client.add(context, args).await.map_err(failure)?;
                is(sum == args.sum(), || format!("{sum} is not the sum of {args:?}"))
            }
            Call::Echo1k | Call::Echo256k => {
                let bytes = self.client.echo(context, self.bytes.clone()).await.map_err(failure)?;
                is(bytes == self.bytes, || format!("{} other bytes came back", bytes.len()))
            }
            Call::Users100 => {
                let users = self.client.list(context, USERS_100).await.map_err(failure)?;
                let users = users.map_err(Failure::Wrong)?;
                is(users == self.users, || format!("{} users, not the right ones", users.len()))
            }
        }
    }
}

fn is(right: bool, why: impl FnOnce() -> String) -> Result<(), Failure> {
    if right { Ok(()) } else { Err(Failure::Wrong(why())) }
}

fn failure(error: RpcError) -> Failure {
    match error {
        RpcError::DeadlineExceeded | RpcError::Server(_) => Failure::Wrong(error.to_string()),
        error => Failure::Lost(error.to_string()),
    }
}
