//! The members of an envelope: which of them are there, and where their values stand.
//!
//! One pass, without an allocation unless a name is written with escapes. Members that have no meaning here are
//! read, so that the text is JSON as a whole, and forgotten.

use std::ops::Range;

use crate::json_text::unescape;
use crate::json_text::{JsonFault, JsonReader};

/// What a request's `params` are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Params {
    /// There are none, or `null`.
    #[default]
    None,
    /// Named: an object.
    Named(Range<usize>),
    /// Positional: where the first stands, and how many there are.
    Listed {
        /// The first; empty if there is none.
        first: Range<usize>,
        /// All of them.
        count: usize,
    },
    /// Neither an object nor an array, but this, as Go calls it.
    Scalar(&'static str),
}

impl Params {
    fn read(reader: &mut JsonReader<'_>) -> Result<Params, JsonFault> {
        let scalar = match reader.next() {
            Some(b'[') => return Params::list(reader),
            Some(b'{') => return Ok(Params::Named(reader.value()?)),
            Some(b'n') => Params::None,
            Some(b'"') => Params::Scalar("string"),
            Some(b't' | b'f') => Params::Scalar("bool"),
            _ => Params::Scalar("number"),
        };
        reader.value()?;
        Ok(scalar)
    }

    fn list(reader: &mut JsonReader<'_>) -> Result<Params, JsonFault> {
        if !reader.opens(b'[', b']')? {
            return Ok(Params::Listed { first: 0..0, count: 0 });
        }
        let (first, mut count) = (reader.value()?, 1);
        while reader.goes_on(b']')? {
            reader.value()?;
            count += 1;
        }
        Ok(Params::Listed { first, count })
    }
}

/// A request's members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RequestMembers {
    /// The version.
    pub(super) jsonrpc: Option<Range<usize>>,
    /// The method's name.
    pub(super) method: Option<Range<usize>>,
    /// The argument, wrapped.
    pub(super) params: Params,
    /// The caller's id.
    pub(super) id: Option<Range<usize>>,
    /// The name of a member that stands there twice.
    pub(super) twice: Option<&'static str>,
    /// Where what is in front of the params ends, behind their colon; 0 without params.
    pub(super) params_at: usize,
    /// The method's hash, where the message begins as one before it did.
    pub(super) known: Option<u32>,
}

impl RequestMembers {
    const NAMES: [&'static str; 4] = ["\"method\":", "\"params\":", "\"id\":", "\"jsonrpc\":"];

    /// Reads an object, the bracket of which is next.
    pub(super) fn read(reader: &mut JsonReader<'_>) -> Result<RequestMembers, JsonFault> {
        let mut members = RequestMembers::default();
        members.read_whole(reader)?;
        Ok(members)
    }

    /// The same, into one that says nothing yet.
    pub(super) fn read_whole(&mut self, reader: &mut JsonReader<'_>) -> Result<(), JsonFault> {
        let goes_on = reader.opens(b'{', b'}')?;
        self.read_members(reader, goes_on)
    }

    /// The rest, where this says what is in front of the params and the reader stands behind their name.
    pub(super) fn read_on(&mut self, reader: &mut JsonReader<'_>) -> Result<(), JsonFault> {
        self.params = Params::read(reader)?;
        let goes_on = reader.goes_on(b'}')?;
        self.read_members(reader, goes_on)
    }

    #[inline(always)]
    fn read_members(&mut self, reader: &mut JsonReader<'_>, goes_on: bool) -> Result<(), JsonFault> {
        each_member(reader, goes_on, &RequestMembers::NAMES, |reader, which| {
            let is_again = if which == 1 {
                let is_again = self.params_at != 0;
                self.params_at = reader.at();
                self.params = Params::read(reader)?;
                is_again
            } else {
                let value = reader.value()?;
                let member = match which {
                    0 => &mut self.method,
                    2 => &mut self.id,
                    _ => &mut self.jsonrpc,
                };
                member.replace(value).is_some()
            };
            if is_again {
                self.twice = Some(bare(RequestMembers::NAMES[which]));
            }
            Ok(())
        })
    }
}

/// An answer's members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ResponseMembers {
    /// The id of the call.
    pub(super) id: Option<Range<usize>>,
    /// The result.
    pub(super) result: Option<Range<usize>>,
    /// The error.
    pub(super) error: Option<Range<usize>>,
    /// What a server of ours says beside a result that stands for null.
    pub(super) null: Option<Range<usize>>,
    /// The name of a member that stands there twice.
    pub(super) twice: Option<&'static str>,
}

impl ResponseMembers {
    const NAMES: [&'static str; 4] = ["\"id\":", "\"result\":", "\"error\":", "\"null\":"];

    /// Reads an object, the bracket of which is next.
    pub(super) fn read(reader: &mut JsonReader<'_>) -> Result<ResponseMembers, JsonFault> {
        let mut response = ResponseMembers::default();
        let goes_on = reader.opens(b'{', b'}')?;
        each_member(reader, goes_on, &ResponseMembers::NAMES, |reader, which| {
            let value = reader.value()?;
            let member = match which {
                0 => &mut response.id,
                1 => &mut response.result,
                2 => &mut response.error,
                _ => &mut response.null,
            };
            if member.replace(value).is_some() {
                response.twice = Some(bare(ResponseMembers::NAMES[which]));
            }
            Ok(())
        })?;
        Ok(response)
    }
}

/// The members of an error object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ErrorMembers {
    /// The code.
    pub(super) code: Option<Range<usize>>,
    /// The message.
    pub(super) message: Option<Range<usize>>,
}

impl ErrorMembers {
    /// Reads an object, the bracket of which is next. Of a member that stands there twice, the last counts.
    pub(super) fn read(reader: &mut JsonReader<'_>) -> Result<ErrorMembers, JsonFault> {
        let mut failed = ErrorMembers::default();
        let goes_on = reader.opens(b'{', b'}')?;
        each_member(reader, goes_on, &["\"code\":", "\"message\":"], |reader, which| {
            let value = reader.value()?;
            *(if which == 0 { &mut failed.code } else { &mut failed.message }) = Some(value);
            Ok(())
        })?;
        Ok(failed)
    }
}

/// Reads the rest of an object, if it goes on with a member: `take` reads the value of each with one of these names, which
/// stand here as most write them, with quotes and colon.
#[inline(always)]
fn each_member<'a>(
    reader: &mut JsonReader<'a>,
    mut goes_on: bool,
    names: &[&str],
    mut take: impl FnMut(&mut JsonReader<'a>, usize) -> Result<(), JsonFault>,
) -> Result<(), JsonFault> {
    while goes_on {
        let which = match reader.usual_name(names) {
            Some(which) => Some(which),
            None => {
                let name = reader.name()?;
                find(reader.bytes_of(name), names)
            }
        };
        match which {
            Some(which) => take(reader, which)?,
            None => {
                reader.value()?;
            }
        }
        goes_on = reader.goes_on(b'}')?;
    }
    Ok(())
}

/// A name without its quotes and colon.
fn bare(usual: &str) -> &str {
    &usual[1..usual.len() - 2]
}

/// Which of the names this is, however it is written.
#[inline(never)]
fn find(name: &[u8], names: &[&str]) -> Option<usize> {
    if name.contains(&b'\\') {
        let mut text = String::new();
        unescape(name, &mut text);
        return names.iter().position(|known| bare(known) == text);
    }
    names.iter().position(|known| bare(known).as_bytes() == name)
}
