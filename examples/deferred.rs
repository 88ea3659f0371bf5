//! Deferred answers, sent later by another thread: `deferred`.
//!
//! Callers knock and wait. Their replies go to a porter, a thread of this program, through a bounded queue; no thread
//! of the server blocks. One caller gives up before the porter comes, and the service is notified.

use std::error::Error;
use std::sync::mpsc::{self, Sender, SyncSender};
use std::thread;
use std::time::Duration;

use coreloop::client::{CallError, Direct};
use coreloop::{Context, Reply, Server, Status};

struct Visitor {
    name: String,
    reply: Reply<String>,
}

struct Door {
    waiting: SyncSender<Visitor>,
    gave_up: Sender<String>,
}

#[coreloop::service]
impl Door {
    /// Waits until the porter has come.
    #[rpc(inline)]
    fn knock(&self, _cx: &Context, name: String, reply: Reply<String>) {
        let gave_up = self.gave_up.clone();
        let caller = name.clone();
        // The callback runs on a thread of the blocking pool, once the caller has disconnected or its deadline has
        // passed.
        reply.on_cancel(move || drop(gave_up.send(caller)));
        if let Err(full) = self.waiting.try_send(Visitor { name, reply }) {
            let (mpsc::TrySendError::Full(visitor) | mpsc::TrySendError::Disconnected(visitor)) = full;
            visitor.reply.send(Err(Status::resource_exhausted("too many wait at the door")));
        }
    }
}

fn porter(visitors: mpsc::Receiver<Visitor>) {
    for Visitor { name, reply } in visitors {
        if reply.is_cancelled() {
            println!("the porter finds that {name} has gone");
        } else {
            reply.send(Ok(format!("come in, {name}")));
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let (waiting, visitors) = mpsc::sync_channel(16);
    let (gave_up, leavers) = mpsc::channel();
    let server = Server::builder().service(Door { waiting, gave_up }).listen("127.0.0.1:0").start()?;
    let address = server.addresses()[0].to_string();
    println!("listening on {address}");

    // This caller's deadline passes before the porter comes.
    let mut grace = Direct::connect(&address)?;
    grace.set_timeout(Some(Duration::from_millis(50)));
    // It keeps its connection, so that the answer to come is late and not for a connection that has closed.
    let grace = DoorClient::new(grace);
    match grace.knock(&"Grace".to_owned()) {
        Err(error) if error.code() == coreloop::Code::DeadlineExceeded => println!("Grace: {error}"),
        other => return Err(format!("not what was expected: {other:?}").into()),
    }
    println!("{} gave up", leavers.recv_timeout(Duration::from_secs(10))?);

    // This caller waits until the porter comes.
    let ada = thread::spawn(move || -> Result<String, CallError> {
        DoorClient::new(Direct::connect(&address)?).knock(&"Ada".to_owned())
    });
    let porter = thread::spawn(move || porter(visitors));
    println!("Ada: {}", ada.join().expect("it does not panic")?);

    let stats = server.shutdown();
    println!("{} answer came too late", stats.late);
    // The service is dropped, and with it the sending end of the queue.
    porter.join().expect("it does not panic");
    Ok(())
}
