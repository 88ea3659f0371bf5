//! A handle on an app's part of a reactor for other threads: it only sends messages, and shares no state.

use coreloop_poller::{Key, Ready};

use super::roles::{Role, RoleHandle};
use crate::context::Peer;
use crate::mailbox::ReactorSender;
use crate::transport::Transport;

/// A message to a role of a reactor.
pub(super) enum ReactorCommand<M> {
    App(M),
    Adopt(Transport, Peer, usize),
    /// A connection or a listener that no poller watches is ready.
    Ready(Key, Ready),
    /// Adds a further role to the reactor.
    Add(Box<dyn Role>),
    Drain,
    Abort,
    Stop,
}

/// A handle on a reactor, usable from any thread.
pub struct Remote<M> {
    pub(super) sender: ReactorSender<ReactorCommand<M>>,
}

impl<M> Clone for Remote<M> {
    fn clone(&self) -> Self {
        Remote { sender: self.sender.clone() }
    }
}

impl<M> Remote<M> {
    /// Sends a message to the app. Returns the message if the reactor has ended.
    pub fn mail(&self, mail: M) -> Result<(), M> {
        self.sender.send(ReactorCommand::App(mail)).map_err(|command| match command {
            ReactorCommand::App(mail) => mail,
            ReactorCommand::Adopt(..)
            | ReactorCommand::Ready(..)
            | ReactorCommand::Add(_)
            | ReactorCommand::Drain
            | ReactorCommand::Abort
            | ReactorCommand::Stop => {
                unreachable!("the message that was sent")
            }
        })
    }

    /// Gives the reactor a connection; the app receives `listener` as the listener index. A client's connection
    /// is served in the same way as an accepted one. Returns false if the reactor has ended.
    pub fn adopt(&self, stream: Transport, peer: Peer, listener: usize) -> bool {
        self.sender.send(ReactorCommand::Adopt(stream, peer, listener)).is_ok()
    }

    /// Stops accepting, requests that peers send no new requests, and ends the reactor when all connections are done.
    pub fn drain(&self) {
        let _ = self.sender.send(ReactorCommand::Drain);
    }

    /// Answers and gives up the calls in flight, and ends the reactor.
    pub fn abort(&self) {
        let _ = self.sender.send(ReactorCommand::Abort);
    }

    /// Ends the reactor at once.
    pub fn stop(&self) {
        let _ = self.sender.send(ReactorCommand::Stop);
    }
}

impl<M: Send + 'static> Remote<M> {
    /// Returns a handle that adds further roles to the reactor.
    pub fn roles(&self) -> RoleHandle {
        let sender = self.sender.clone();
        RoleHandle::new(self.sender.bell().clone(), move |role| {
            sender.send(ReactorCommand::Add(role)).is_ok()
        })
    }
}
