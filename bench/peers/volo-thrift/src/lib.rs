//! The demo services as Thrift has them: one service, which is what a volo-thrift server serves.
//!
//! `rpc.rs` is made from `peer.thrift` by `generate`; so that building does without volo's compiler.

// Generated code documents neither.
#![allow(missing_docs, clippy::undocumented_unsafe_blocks)]

include!("rpc.rs");

use kit::User;
use pilota::FastStr;

impl From<User> for rpc::peer::User {
    fn from(user: User) -> rpc::peer::User {
        rpc::peer::User {
            // Thrift has no unsigned integers.
            id: user.id.cast_signed(),
            name: user.name.into(),
            age: user.age.cast_signed(),
            email: user.email.into(),
            tags: user.tags.into_iter().map(FastStr::from).collect(),
            scores: user.scores.into_iter().map(|(name, score)| (name.into(), score)).collect(),
        }
    }
}
