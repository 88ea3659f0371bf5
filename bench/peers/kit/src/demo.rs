//! The demo services' types and answers, as `coreloop serve` has them.
//!
//! In `src/demo/` of coreloop is the original. Peers whose types are generated (protobuf, thrift) fill theirs from these.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How many users one call may list.
const LIST_MAX: i64 = 100_000;

/// The tags of users, in order.
const TAGS: [&str; 3] = ["tag0", "tag1", "tag2"];

/// The names of their scores, in order.
const SCORES: [&str; 2] = ["s0", "s1"];

/// What the call `echo-1k` sends.
pub const ECHO_1K_BYTES: usize = 1 << 10;

/// What the call `echo-256k` sends.
pub const ECHO_256K_BYTES: usize = 256 << 10;

/// How many users the call `users-100` asks for.
pub const USERS_100: i64 = 100;

/// What HTTP servers must accept as a body at least: 256 KiB in base64 are some 350 000.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// What `Users.List` answers otherwise, as an HTTP body with status 400.
pub const OUT_OF_RANGE: Refusal = Refusal { code: "out_of_range", message: "n out of range" };

/// An error as coreloop says it over HTTP.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Refusal {
    /// Its kind.
    pub code: &'static str,
    /// For people.
    pub message: &'static str,
}

/// Two integers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Args {
    /// The first.
    pub a: i64,
    /// The second.
    pub b: i64,
}

impl Args {
    /// The argument of a client's call of that number: no two in a row have the same sum.
    pub fn of(number: u64) -> Args {
        Args { a: number as i64, b: 7 }
    }

    /// Their sum; wraps.
    pub fn sum(self) -> i64 {
        self.a.wrapping_add(self.b)
    }
}

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct User {
    /// The number that all else is made from.
    #[serde(rename = "ID")]
    pub id: u64,
    /// `user-7 é世`: not all of it ASCII.
    pub name: String,
    /// The number mod 100.
    pub age: u8,
    /// `u7@example.com`.
    pub email: String,
    /// `tag0`, `tag1` …: the number mod 4 of them.
    pub tags: Vec<String>,
    /// `s0`, `s1` …: the number mod 3 of them.
    pub scores: BTreeMap<String, f64>,
}

impl User {
    /// The user of that number.
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

/// A byte string that in JSON is base64 text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Base64(pub Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Base64, D::Error> {
        deserializer.deserialize_str(Text)
    }
}

/// Decodes the text where it lies.
struct Text;

impl Visitor<'_> for Text {
    type Value = Base64;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("base64 text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Base64, E> {
        STANDARD.decode(text).map(Base64).map_err(E::custom)
    }
}

/// The users 1 to n; none where n is out of range, and the text that says so is `n out of range`.
pub fn users(n: i64) -> Option<Vec<User>> {
    let last = u64::try_from(n).ok().filter(|_| n <= LIST_MAX)?;
    Some((1..=last).map(User::new).collect())
}

/// Bytes to echo: of every value, and not of a period that a buffer's size has.
pub fn echo_bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_the_one_of_coreloop() {
        let text = serde_json::to_string(&User::new(107)).unwrap();
        let expected = concat!(
            r#"{"ID":107,"Name":"user-107 é世","Age":7,"Email":"u107@example.com","#,
            r#""Tags":["tag0","tag1","tag2"],"Scores":{"s0":53.5,"s1":53.833333333333336}}"#
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn bytes_are_base64_text() {
        let bytes: Base64 = serde_json::from_str(r#""aGV5Cg==""#).unwrap();
        assert_eq!(bytes, Base64(b"hey\n".to_vec()));
        assert_eq!(serde_json::to_string(&bytes).unwrap(), r#""aGV5Cg==""#);
        assert!(serde_json::from_str::<Base64>(r#""aGV5C""#).is_err());
    }

    #[test]
    fn a_list_is_bounded_and_begins_at_one() {
        assert_eq!(users(0), Some(vec![]));
        assert_eq!(users(2), Some(vec![User::new(1), User::new(2)]));
        assert_eq!(users(100_000).map(|users| users.len()), Some(100_000));
        for n in [-1, 100_001, i64::MIN, i64::MAX] {
            assert_eq!(users(n), None);
        }
    }
}
