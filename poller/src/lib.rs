//! Readiness, keys, timers and merged wake-ups over mio: the building blocks of a reactor thread.
//!
//! [`Poller`] waits for sockets and for its [`Bell`]; [`Slots`] holds the entries that [`Key`]s name; [`Timers`]
//! computes when a wait must end; [`SpinBudget`] computes how long to poll before sleeping. None of them interprets
//! bytes: there is no RPC here, and no buffer. Start reading at [`Poller`], then `wake.rs` for the wake-up protocol.
//! All `unsafe` is in [`os`].
//!
//! ```
//! use std::time::Duration;
//! use coreloop_poller::{Interest, Poller, Slots};
//!
//! # fn main() -> std::io::Result<()> {
//! let mut poller = Poller::new(64)?;
//! let mut listeners = Slots::new();
//! let mut listener = mio::net::TcpListener::bind("127.0.0.1:0".parse().unwrap())?;
//! let addr = listener.local_addr()?;
//! poller.register(&mut listener, listeners.next_key(), Interest::READABLE)?;
//! let key = listeners.insert(listener);
//!
//! let _client = std::net::TcpStream::connect(addr)?;
//! while poller.wait(Some(Duration::from_secs(5)), || false)? == 0 {}
//! for i in 0..poller.len() {
//!     let (found, ready) = poller.event(i);
//!     assert_eq!(found, key);
//!     assert!(ready.is_readable());
//!     listeners.at(found).expect("registered above").accept()?;
//! }
//! # Ok(())
//! # }
//! ```

#![deny(missing_docs)]
#![deny(unsafe_code)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("a key is 64 bits and travels through the kernel as mio's token, which is a usize");

mod key;
#[allow(unsafe_code)]
pub mod os;
mod poller;
#[cfg_attr(feature = "usdt", allow(unsafe_code))]
pub mod probes;
pub mod quota;
#[cfg(feature = "signals")]
pub mod signals;
mod slots;
mod spin;
mod sync;
mod timers;
mod wake;

pub use key::Key;
pub use poller::{Bell, Interest, Poller, Ready};
pub use slots::Slots;
pub use spin::SpinBudget;
pub use timers::Timers;
pub use wake::{Doorbell, Wake};
