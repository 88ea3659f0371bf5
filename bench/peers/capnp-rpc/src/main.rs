//! The demo services as a Cap'n Proto capability: `peer-capnp-rpc ADDRESS --threads N`.
//!
//! Its RPC system stays on the thread that made it. So each thread has a runtime of its own, and the first deals the
//! connections out in turn.

use std::io;
use std::net::TcpListener;
use std::thread;

use capnp::Error;
use capnp::capability::Rc;
use capnp_rpc::rpc_twoparty_capnp::Side;
use kit::server::{self, Arguments};
use kit::{Args, demo};
use peer_capnp_rpc::peer_capnp::peer;
use peer_capnp_rpc::rpc_system;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{LocalSet, spawn_local};

type Dealt = std::net::TcpStream;

fn main() -> io::Result<()> {
    let arguments = Arguments::read(&["capnp-rpc", "capnp", "tokio"]);
    kit::raise_files_limit()?;
    let (listener, address) = arguments.listen()?;
    let mut threads = Vec::with_capacity(arguments.threads());
    let (own, connections) = unbounded_channel();
    threads.push(own);
    for _ in 1..arguments.threads() {
        let (thread, connections) = unbounded_channel();
        threads.push(thread);
        thread::spawn(|| on_this_thread(serve(connections)));
    }
    server::announce(address)?;
    on_this_thread(async {
        spawn_local(serve(connections));
        accept(listener, &threads).await
    })
}

fn on_this_thread(work: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, work)
}

async fn accept(listener: TcpListener, threads: &[UnboundedSender<Dealt>]) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    for thread in threads.iter().cycle() {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // A thread that is gone has said why.
        let _ = thread.send(stream.into_std()?);
    }
    Ok(())
}

async fn serve(mut connections: UnboundedReceiver<Dealt>) -> io::Result<()> {
    let demo: peer::Client = capnp_rpc::new_client(Demo);
    while let Some(stream) = connections.recv().await {
        let stream = TcpStream::from_std(stream)?;
        // Ends with the connection; that a client went away is no error here.
        spawn_local(rpc_system(stream, Side::Server, Some(demo.clone().client)));
    }
    Ok(())
}

struct Demo;

impl peer::Server for Demo {
    async fn add(
        self: Rc<Self>,
        params: peer::AddParams,
        mut results: peer::AddResults,
    ) -> Result<(), Error> {
        let params = params.get()?;
        results.get().set_sum(Args { a: params.get_a(), b: params.get_b() }.sum());
        Ok(())
    }

    async fn echo(
        self: Rc<Self>,
        params: peer::EchoParams,
        mut results: peer::EchoResults,
    ) -> Result<(), Error> {
        results.get().set_body(params.get()?.get_body()?);
        Ok(())
    }

    async fn users(
        self: Rc<Self>,
        params: peer::UsersParams,
        mut results: peer::UsersResults,
    ) -> Result<(), Error> {
        let users = demo::users(params.get()?.get_n());
        let users = users.ok_or_else(|| Error::failed("n out of range".into()))?;
        let mut list = results.get().init_users(users.len() as u32);
        for (at, user) in users.iter().enumerate() {
            let mut entry = list.reborrow().get(at as u32);
            entry.set_id(user.id);
            entry.set_name(user.name.as_str());
            entry.set_age(user.age);
            entry.set_email(user.email.as_str());
            let mut tags = entry.reborrow().init_tags(user.tags.len() as u32);
            for (at, tag) in user.tags.iter().enumerate() {
                tags.set(at as u32, tag.as_str());
            }
            let mut scores = entry.init_scores(user.scores.len() as u32);
            for (at, (name, value)) in user.scores.iter().enumerate() {
                let mut score = scores.reborrow().get(at as u32);
                score.set_name(name.as_str());
                score.set_value(*value);
            }
        }
        Ok(())
    }
}
