//! The threads of a server's reactors, and the descriptors that each may use.

use std::sync::Arc;

use coreloop_poller::os;

use super::app::RpcApp;
use super::{Error, ServerEvent};
use crate::context::RunMethod;
use crate::reactor::Reactor;
use crate::service::Registry;

/// Returns how many connections a reactor may hold so that descriptors do not run out before the limit is reached.
pub(super) fn descriptors_for(reactors: usize) -> usize {
    const RESERVED: u64 = 64;
    os::nofile_limit().map_or(usize::MAX, |limit| {
        usize::try_from(limit.saturating_sub(RESERVED) / reactors as u64).unwrap_or(usize::MAX).max(1)
    })
}

/// Starts the thread of a reactor; its end is an event.
pub(super) fn spawn(
    index: usize,
    mut reactor: Reactor<RpcApp>,
    registry: &Arc<Registry>,
    events: crossbeam_channel::Sender<ServerEvent>,
) -> Result<(), Error> {
    let registry = registry.clone();
    crate::threads::detached(format!("coreloop-reactor-{index}"), move || {
        registry.begin_thread();
        // The panic is reported, and ends the server in an orderly way; it is not swallowed.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| reactor.run()));
        let result = match result {
            Ok(result) => result.map_err(Error::from),
            Err(_) => Err(Error::ReactorPanicked { reactor: index }),
        };
        drop(reactor);
        let _ = events.send(ServerEvent::Ended(index, result));
    })?;
    Ok(())
}
