//! A hand on a reactor from other threads: letters through its door, and nothing shared.

use super::guest::Guest;
use super::socket::NetStream;
use crate::context::Peer;
use crate::mailbox::ReactorSender;

/// A letter to a reactor.
pub(super) enum ReactorCommand<M> {
    App(M),
    Adopt(NetStream, Peer, usize),
    Guest(Box<dyn Guest>),
    Drain,
    Abort,
    Stop,
}

/// A hand on a reactor from any thread.
pub struct Remote<M> {
    pub(super) sender: ReactorSender<ReactorCommand<M>>,
}

impl<M> Clone for Remote<M> {
    fn clone(&self) -> Self {
        Remote { sender: self.sender.clone() }
    }
}

impl<M> Remote<M> {
    /// Tells the app something. The letter comes back if the reactor has ended.
    pub fn mail(&self, mail: M) -> Result<(), M> {
        self.sender.send(ReactorCommand::App(mail)).map_err(|command| match command {
            ReactorCommand::App(mail) => mail,
            ReactorCommand::Adopt(..)
            | ReactorCommand::Guest(_)
            | ReactorCommand::Drain
            | ReactorCommand::Abort
            | ReactorCommand::Stop => {
                unreachable!("the letter that was sent")
            }
        })
    }

    /// Gives the reactor a connected socket; `listener` is the number that its app will be told. A client's
    /// connection is served in the same way as an accepted one. False if the reactor has ended.
    pub fn adopt(&self, stream: NetStream, peer: Peer, listener: usize) -> bool {
        self.sender.send(ReactorCommand::Adopt(stream, peer, listener)).is_ok()
    }

    /// Stops accepting, asks peers for no new requests, and ends when all connections are done.
    pub fn drain(&self) {
        let _ = self.sender.send(ReactorCommand::Drain);
    }

    /// Gives up what is in flight, with an answer, and ends.
    pub fn abort(&self) {
        let _ = self.sender.send(ReactorCommand::Abort);
    }

    /// Ends at once.
    pub fn stop(&self) {
        let _ = self.sender.send(ReactorCommand::Stop);
    }
}
