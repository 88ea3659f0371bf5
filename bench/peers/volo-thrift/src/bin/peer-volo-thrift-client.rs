//! The client of `peer-volo-thrift`; its command line is the kit's.
//!
//! A connection is a client with a pool of one: with one call in flight in its usual mode, with several multiplexed.

use std::process::ExitCode;

use kit::client::Arguments;
use kit::demo::{self, ECHO_1K_BYTES, ECHO_256K_BYTES, USERS_100};
use kit::{Args, Call, Caller, Failure};
use peer_volo_thrift::rpc::peer::{PeerClient, PeerClientBuilder, User};
use pilota::Bytes;
use volo_thrift::ClientError;

fn main() -> ExitCode {
    kit::client::main(&["volo-thrift", "volo", "pilota", "tokio"], Connection::open)
}

/// A connection, and what is called on it.
struct Connection {
    client: PeerClient,
    call: Call,
    body: Bytes,
    users: Vec<User>,
}

impl Connection {
    async fn open(arguments: &Arguments) -> Result<Connection, String> {
        let client = PeerClientBuilder::new("peer")
            .address(arguments.address)
            // A timer for each call; the other peers' clients have none.
            .rpc_timeout(None)
            .multiplex(arguments.depth > 1)
            .build();
        // Connects at the first call: later ones at the same time would each open a connection.
        client.add(0, 0).await.map_err(|error| error.to_string())?;
        let body_bytes = match arguments.call {
            Call::Echo1k => ECHO_1K_BYTES,
            Call::Echo256k => ECHO_256K_BYTES,
            Call::Add | Call::Users100 => 0,
        };
        let users = demo::users(USERS_100).expect("in range");
        Ok(Connection {
            client,
            call: arguments.call,
            body: demo::echo_bytes(body_bytes).into(),
            users: users.into_iter().map(User::from).collect(),
        })
    }
}

impl Caller for Connection {
    async fn call(&self, number: u64) -> Result<(), Failure> {
        match self.call {
            Call::Add => {
                let args = Args::of(number);
                let sum = self.client.add(args.a, args.b).await.map_err(failure)?;
                is(sum == args.sum(), || format!("{sum} is not the sum of {args:?}"))
            }
            Call::Echo1k | Call::Echo256k => {
                let body = self.client.echo(self.body.clone()).await.map_err(failure)?;
                is(body == self.body, || format!("{} other bytes came back", body.len()))
            }
            Call::Users100 => {
                let users = self.client.users(USERS_100).await.map_err(failure)?;
                is(users == self.users, || format!("{} users, not the right ones", users.len()))
            }
        }
    }
}

fn is(right: bool, why: impl FnOnce() -> String) -> Result<(), Failure> {
    if right { Ok(()) } else { Err(Failure::Wrong(why())) }
}

/// Application exceptions are made by the client too, for connections that it lost, and cannot be told apart.
fn failure(error: ClientError) -> Failure {
    match error {
        ClientError::Biz(_) => Failure::Wrong(error.to_string()),
        error => Failure::Lost(error.to_string()),
    }
}
