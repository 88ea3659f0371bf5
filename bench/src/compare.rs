//! Coreloop and its peers, one after the other on this machine, in interleaved rounds.

pub mod record;
