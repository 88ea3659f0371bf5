//! The client of `peer-capnp-rpc`; its command line is the kit's. A connection is an RPC system with its capability.

use std::process::ExitCode;

use capnp::Error;
use capnp_rpc::rpc_twoparty_capnp::Side;
use kit::client::Arguments;
use kit::demo::{self, ECHO_1K_BYTES, ECHO_256K_BYTES, USERS_100};
use kit::{Args, Call, Caller, Failure, User};
use peer_capnp_rpc::peer_capnp::{peer, user};
use peer_capnp_rpc::rpc_system;
use tokio::net::TcpStream;
use tokio::task::spawn_local;

fn main() -> ExitCode {
    kit::client::main(&["capnp-rpc", "capnp", "tokio"], Connection::open)
}

/// A connection, and what is called on it.
struct Connection {
    peer: peer::Client,
    call: Call,
    body: Vec<u8>,
    users: Vec<User>,
}

impl Connection {
    async fn open(arguments: &Arguments) -> Result<Connection, String> {
        let stream = TcpStream::connect(arguments.address).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let mut system = rpc_system(stream, Side::Client, None);
        let peer: peer::Client = system.bootstrap(Side::Server);
        // What ends it, the calls in flight say too.
        spawn_local(system);
        let body_bytes = match arguments.call {
            Call::Echo1k => ECHO_1K_BYTES,
            Call::Echo256k => ECHO_256K_BYTES,
            Call::Add | Call::Users100 => 0,
        };
        let users = demo::users(USERS_100).expect("in range");
        let body = demo::echo_bytes(body_bytes);
        let connection = Connection { peer, call: arguments.call, body, users };
        // The answer to the bootstrap comes before this one: later calls go to the capability, not to its promise.
        connection.add(Args::of(0)).await.map_err(|error| error.to_string())?;
        Ok(connection)
    }

    async fn add(&self, args: Args) -> Result<bool, Error> {
        let mut request = self.peer.add_request();
        request.get().set_a(args.a);
        request.get().set_b(args.b);
        let response = request.send().promise.await?;
        Ok(response.get()?.get_sum() == args.sum())
    }

    async fn echo(&self) -> Result<bool, Error> {
        let mut request = self.peer.echo_request();
        request.get().set_body(&self.body);
        let response = request.send().promise.await?;
        Ok(response.get()?.get_body()? == self.body)
    }

    async fn users(&self) -> Result<bool, Error> {
        let mut request = self.peer.users_request();
        request.get().set_n(USERS_100);
        let response = request.send().promise.await?;
        let users = response.get()?.get_users()?;
        let mut right = users.len() as usize == self.users.len();
        for (user, expected) in users.iter().zip(&self.users) {
            right = right && is_user(user, expected)?;
        }
        Ok(right)
    }
}

impl Caller for Connection {
    async fn call(&self, number: u64) -> Result<(), Failure> {
        let right = match self.call {
            Call::Add => self.add(Args::of(number)).await,
            Call::Echo1k | Call::Echo256k => self.echo().await,
            Call::Users100 => self.users().await,
        };
        match right {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::Wrong(format!("another reply than {:?} has", self.call))),
            // A server that refuses a call of the comparison is of no use either.
            Err(error) => Err(Failure::Lost(error.to_string())),
        }
    }
}

/// Read where it arrived: nothing is decoded first.
fn is_user(user: user::Reader<'_>, expected: &User) -> Result<bool, Error> {
    let (tags, scores) = (user.get_tags()?, user.get_scores()?);
    let mut right = user.get_id() == expected.id
        && user.get_name()? == expected.name.as_str()
        && user.get_age() == expected.age
        && user.get_email()? == expected.email.as_str()
        && tags.len() as usize == expected.tags.len()
        && scores.len() as usize == expected.scores.len();
    for (tag, expected) in tags.iter().zip(&expected.tags) {
        right = right && tag? == expected.as_str();
    }
    for (score, (name, value)) in scores.iter().zip(&expected.scores) {
        right = right && score.get_name()? == name.as_str() && score.get_value() == *value;
    }
    Ok(right)
}
