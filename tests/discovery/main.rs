//! Tests of service discovery: watches and registrations on a reactor, against scripted and real registries.

#![allow(missing_docs)]

mod agents;
mod common;
