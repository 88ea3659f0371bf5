//! Commands that callbacks post on the thread of the reactor that runs them: they need no mailbox.

use std::cell::RefCell;

use super::StreamCommand;

thread_local! {
    /// The reactor whose callback runs, and the commands for it.
    static OUTBOX: RefCell<Option<(usize, Vec<StreamCommand>)>> = const { RefCell::new(None) };
}

/// Collects the commands that are posted on this thread while it runs a callback of one of its own connections.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    spare: Vec<StreamCommand>,
}

impl Outbox {
    /// Runs the callback and returns the commands that it posted for the reactor `owner`, in order. Give the list back
    /// with [`Outbox::recycle`].
    pub fn scope<R>(&mut self, owner: usize, callback: impl FnOnce() -> R) -> (R, Vec<StreamCommand>) {
        /// Ends the collection, also when the callback panics.
        struct End;
        impl Drop for End {
            fn drop(&mut self) {
                OUTBOX.with_borrow_mut(|outbox| *outbox = None);
            }
        }
        let spare = std::mem::take(&mut self.spare);
        OUTBOX.with_borrow_mut(|outbox| *outbox = Some((owner, spare)));
        let end = End;
        let result = callback();
        let commands = OUTBOX.with_borrow_mut(Option::take).map_or_else(Vec::new, |(_, commands)| commands);
        drop(end);
        (result, commands)
    }

    /// Keeps the memory of an emptied list.
    pub fn recycle(&mut self, mut commands: Vec<StreamCommand>) {
        commands.clear();
        self.spare = commands;
    }

    /// Adds a command if this thread collects those of the reactor `owner`. Returns the command if it does not.
    pub fn collect(owner: usize, command: StreamCommand) -> Result<(), StreamCommand> {
        OUTBOX.with_borrow_mut(|outbox| match outbox {
            Some((collects, commands)) if *collects == owner => {
                commands.push(command);
                Ok(())
            }
            _ => Err(command),
        })
    }
}
