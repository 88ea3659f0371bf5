//! How the sinks and streams of callers reach the reactor of their connection.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::app::ClientCommand;
use super::driver::DriverShared;
use crate::reactor::Remote;
use crate::stream::{ReactorTask, StreamCommand, StreamPort};

/// The port of a driver.
pub(super) struct ClientPort {
    remote: Remote<ClientCommand>,
    shared: Arc<DriverShared>,
}

impl ClientPort {
    pub(super) fn new(remote: Remote<ClientCommand>, shared: Arc<DriverShared>) -> ClientPort {
        ClientPort { remote, shared }
    }

    pub(super) fn remote(&self) -> &Remote<ClientCommand> {
        &self.remote
    }
}

impl StreamPort for ClientPort {
    fn post_here(&self, command: StreamCommand) -> Result<(), StreamCommand> {
        if !self.shared.is_this_thread() {
            return Err(command);
        }
        self.shared.local.push(command);
        Ok(())
    }

    fn post(&self, command: StreamCommand) {
        // If the reactor has ended, so has the connection.
        let _ = self.remote.mail(ClientCommand::Stream(command));
    }

    fn run_callback(&self, callback: Box<dyn FnOnce() + Send>) {
        let _ = self.remote.mail(ClientCommand::Callback(callback));
    }

    fn run_task(&self, task: Arc<dyn ReactorTask>) {
        let _ = self.remote.mail(ClientCommand::Task(task));
    }
}

/// Commands that callbacks post on the driver's thread.
#[derive(Default)]
pub(super) struct LocalCommands {
    has_any: AtomicBool,
    /// Only the driver's thread locks it.
    commands: Mutex<Vec<StreamCommand>>,
}

impl LocalCommands {
    fn push(&self, command: StreamCommand) {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).push(command);
        self.has_any.store(true, Ordering::Relaxed);
    }

    /// Returns whether there are commands.
    #[inline]
    pub(super) fn has_any(&self) -> bool {
        self.has_any.load(Ordering::Relaxed)
    }

    /// Takes the commands, in order.
    pub(super) fn take(&self) -> Vec<StreamCommand> {
        self.has_any.store(false, Ordering::Relaxed);
        std::mem::take(&mut *self.commands.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts commands back, in front of those that were posted since.
    pub(super) fn put_back(&self, mut commands: Vec<StreamCommand>) {
        if commands.is_empty() {
            return;
        }
        let mut later = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        commands.append(&mut later);
        *later = commands;
        self.has_any.store(true, Ordering::Relaxed);
    }
}
