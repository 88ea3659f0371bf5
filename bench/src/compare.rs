//! Coreloop and its peers, one after the other on this machine, in interleaved rounds.

pub mod peer;
pub mod record;
pub mod subject;

mod ground;
mod load;
mod probe;
mod screen;
