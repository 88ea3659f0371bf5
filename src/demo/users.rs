//! `Users`: records with text, lists and maps, generated from their number, so that every reply is known in advance.
//!
//! The streaming methods use callbacks, so a stream that waits holds no thread.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use coreloop_macros::service;
use serde::{Deserialize, Serialize};

use crate::codec::protobuf::AsProtobuf;
use crate::context::Context;
use crate::service::Reply;
use crate::status::Status;
use crate::stream::{Sink, SinkError, Stream, StreamEvent};

/// How many users one call may list.
const LIST_LEN: RangeInclusive<i64> = 0..=100_000;
/// The tags of users, in order.
const TAGS: [&str; 3] = ["tag0", "tag1", "tag2"];
/// The names of their scores, in order.
const SCORES: [&str; 2] = ["s0", "s1"];

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct User {
    /// The number that the other fields are generated from.
    #[serde(rename = "ID")]
    pub id: u64,
    /// `user-7 é世`: partly outside ASCII.
    pub name: String,
    /// The number mod 100.
    pub age: u8,
    /// `u7@example.com`.
    pub email: String,
    /// `tag0`, `tag1` …: the number mod 4 of them.
    pub tags: Vec<String>,
    /// `s0`, `s1` …: the number mod 3 of them. Ordered, so that the same user always has the same bytes.
    pub scores: BTreeMap<String, f64>,
}

impl User {
    /// Creates the user of that number.
    pub fn new(id: u64) -> User {
        let (tags, scores) = ((id % 4) as usize, (id % 3) as usize);
        let score = |(k, name): (usize, &&str)| ((*name).to_owned(), id as f64 * 0.5 + k as f64 / 3.0);
        let mut user = User {
            id,
            name: numbered("user-", id, " é世"),
            age: (id % 100) as u8,
            email: numbered("u", id, "@example.com"),
            tags: TAGS[..tags].iter().map(|tag| (*tag).to_owned()).collect(),
            scores: BTreeMap::new(),
        };
        // To collect them would allocate a list first.
        user.scores.extend(SCORES[..scores].iter().enumerate().map(score));
        user
    }
}

/// Returns the number between the two texts. Lists of users are a benchmark, and `format!` takes longer.
fn numbered(before: &str, number: u64, after: &str) -> String {
    let mut digits = itoa::Buffer::new();
    [before, digits.format(number), after].concat()
}

/// A [`User`] in protobuf, which has no integer of eight bits.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UserMessage {
    /// As in [`User`].
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// As in [`User`].
    #[prost(string, tag = "2")]
    pub name: String,
    /// At most 255.
    #[prost(uint32, tag = "3")]
    pub age: u32,
    /// As in [`User`].
    #[prost(string, tag = "4")]
    pub email: String,
    /// As in [`User`].
    #[prost(string, repeated, tag = "5")]
    pub tags: Vec<String>,
    /// As in [`User`].
    #[prost(btree_map = "string, double", tag = "6")]
    pub scores: BTreeMap<String, f64>,
}

impl AsProtobuf for User {
    type Message = UserMessage;

    fn to_message(&self) -> UserMessage {
        let User { id, name, age, email, tags, scores } = self.clone();
        UserMessage { id, name, age: age.into(), email, tags, scores }
    }

    fn from_message(message: UserMessage) -> Result<User, String> {
        let UserMessage { id, name, age, email, tags, scores } = message;
        let age = u8::try_from(age).map_err(|_| format!("field \"Age\": expected 0 to 255, found {age}"))?;
        Ok(User { id, name, age, email, tags, scores })
    }
}

/// Users generated from their numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Users;

#[service(crate = crate)]
impl Users {
    /// Returns the user of that number; there is one for every number.
    #[rpc(idempotent)]
    fn get(&self, _cx: &Context, id: u64) -> Result<User, Status> {
        Ok(User::new(id))
    }

    /// Returns the users 1 to n.
    ///
    /// `out_of_range` below 0 and above 100000.
    #[rpc(idempotent)]
    fn list(&self, _cx: &Context, n: i64) -> Result<Vec<User>, Status> {
        list(n)
    }

    /// Sends the users 1 to n.
    ///
    /// `out_of_range` below 0.
    #[rpc(inline)]
    fn watch(&self, _cx: &Context, n: i64, users: Sink<User>) -> Result<(), Status> {
        let last = u64::try_from(n).map_err(|_| Status::out_of_range("n out of range"))?;
        Arc::new(UserWatch { users, next: Mutex::new(1), last }).run();
        Ok(())
    }

    /// Returns how many users were sent.
    #[rpc(inline)]
    fn import(&self, _cx: &Context, users: Stream<User>, reply: Reply<i64>) {
        let (mut count, mut reply) = (0, Some(reply));
        users.for_each_message(move |event| match event {
            StreamEvent::Message(_) => count += 1,
            StreamEvent::End(result) => {
                if let Some(reply) = reply.take() {
                    reply.send(result.map(|()| count));
                }
            }
        });
    }
}

/// A stream of users that goes on when its sink is ready.
struct UserWatch {
    users: Sink<User>,
    /// The number of the next user, while it is not being sent.
    next: Mutex<u64>,
    last: u64,
}

impl UserWatch {
    fn run(self: Arc<Self>) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        while *next <= self.last {
            match self.users.try_send(&User::new(*next)) {
                Ok(()) => *next += 1,
                Err(SinkError::NotReady) => {
                    drop(next);
                    let watch = self.clone();
                    return self.users.on_ready(move || watch.run());
                }
                Err(error) => return self.users.finish(Err(error.into())),
            }
        }
        self.users.finish(Ok(()));
    }
}

fn list(n: i64) -> Result<Vec<User>, Status> {
    match u64::try_from(n) {
        Ok(last) if LIST_LEN.contains(&n) => Ok((1..=last).map(User::new).collect()),
        _ => Err(Status::out_of_range("n out of range")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_made_from_its_number() {
        let text = serde_json::to_string(&User::new(107)).unwrap();
        let expected = concat!(
            r#"{"ID":107,"Name":"user-107 é世","Age":7,"Email":"u107@example.com","#,
            r#""Tags":["tag0","tag1","tag2"],"Scores":{"s0":53.5,"s1":53.833333333333336}}"#
        );
        assert_eq!(text, expected);
        let none = User::new(0);
        assert!(none.tags.is_empty() && none.scores.is_empty());
        assert_eq!(User::new(u64::MAX).age, 15);
    }

    #[test]
    fn a_user_has_the_texts_of_its_definition() {
        for id in (0..1000).chain([u64::MAX - 1, u64::MAX]) {
            let user = User::new(id);
            assert_eq!(user.name, format!("user-{id} é世"));
            assert_eq!(user.email, format!("u{id}@example.com"));
            assert_eq!(user.tags, (0..id % 4).map(|k| format!("tag{k}")).collect::<Vec<_>>());
            let score = |k| (format!("s{k}"), id as f64 * 0.5 + k as f64 / 3.0);
            assert_eq!(user.scores, (0..id % 3).map(score).collect());
        }
    }

    #[test]
    fn a_user_has_a_message_with_a_larger_age() {
        assert_eq!(User::from_message(User::new(107).to_message()), Ok(User::new(107)));
        let old = UserMessage { age: 256, ..Default::default() };
        let error = User::from_message(old).unwrap_err();
        assert_eq!(error, "field \"Age\": expected 0 to 255, found 256");
    }

    #[test]
    fn a_list_is_bounded_and_begins_at_one() {
        assert_eq!(list(0), Ok(vec![]));
        assert_eq!(list(2), Ok(vec![User::new(1), User::new(2)]));
        assert_eq!(list(100_000).map(|users| users.len()), Ok(100_000));
        for n in [-1, 100_001, i64::MIN, i64::MAX] {
            assert_eq!(list(n), Err(Status::out_of_range("n out of range")));
        }
    }
}
