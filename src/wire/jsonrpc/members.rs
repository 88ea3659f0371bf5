//! Finds the members of an envelope and the ranges of their values.
//!
//! It takes one pass, and allocates only for names with escapes. Unknown members are checked as JSON and ignored.

use std::ops::Range;

use crate::json_text::unescape;
use crate::json_text::{JsonFault, JsonReader};
#[cfg(feature = "server")]
use crate::wire::DirectoryEntry;

/// The form of a request's `params`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Params {
    /// Missing, or `null`.
    #[default]
    None,
    /// Named: an object.
    Named(Range<usize>),
    /// Positional: the range of the list and of the first value, and their number.
    Listed {
        /// The range of the list.
        all: Range<usize>,
        /// The range of the first; empty if there is none.
        first: Range<usize>,
        /// The number of values.
        count: usize,
    },
    /// Neither an object nor an array; Go's name of the type.
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
        let start = reader.at();
        if !reader.opens(b'[', b']')? {
            return Ok(Params::Listed { all: start..reader.at(), first: 0..0, count: 0 });
        }
        let (first, mut count) = (reader.value()?, 1);
        while reader.goes_on(b']')? {
            reader.value()?;
            count += 1;
        }
        Ok(Params::Listed { all: start..reader.at(), first, count })
    }
}

/// A method that is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct JsonRpcMethod {
    /// Its hash.
    pub(super) hash: u32,
    /// Whether it has several arguments, which may be in a list.
    pub(super) takes_several: bool,
}

#[cfg(feature = "server")]
impl JsonRpcMethod {
    /// Returns the method of an entry.
    pub(super) fn of(entry: &DirectoryEntry) -> JsonRpcMethod {
        JsonRpcMethod { hash: entry.hash, takes_several: entry.takes_several }
    }
}

/// The members of a request.
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
    /// The name of a member that occurs twice.
    pub(super) twice: Option<&'static str>,
    /// The offset after the colon of `params`; 0 without params.
    pub(super) params_at: usize,
    /// The method, if the prefix is that of the last request.
    pub(super) known: Option<JsonRpcMethod>,
}

impl RequestMembers {
    const NAMES: [&'static str; 4] = ["\"method\":", "\"params\":", "\"id\":", "\"jsonrpc\":"];

    /// Reads an object, whose bracket is next.
    pub(super) fn read(reader: &mut JsonReader<'_>) -> Result<RequestMembers, JsonFault> {
        let mut members = RequestMembers::default();
        members.read_whole(reader)?;
        Ok(members)
    }

    /// Reads an object into `self`, which must be empty.
    pub(super) fn read_whole(&mut self, reader: &mut JsonReader<'_>) -> Result<(), JsonFault> {
        let goes_on = reader.opens(b'{', b'}')?;
        self.read_members(reader, goes_on)
    }

    /// Reads the rest of an object whose members before the params are in `self`. The reader is after the name of the
    /// params.
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

/// The members of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ResponseMembers {
    /// The id of the call.
    pub(super) id: Option<Range<usize>>,
    /// The result.
    pub(super) result: Option<Range<usize>>,
    /// The error.
    pub(super) error: Option<Range<usize>>,
    /// The mark of our server for a result that represents null.
    pub(super) null: Option<Range<usize>>,
    /// The name of a member that occurs twice.
    pub(super) twice: Option<&'static str>,
}

impl ResponseMembers {
    const NAMES: [&'static str; 4] = ["\"id\":", "\"result\":", "\"error\":", "\"null\":"];

    /// Reads an object, whose bracket is next.
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
    /// The data.
    pub(super) data: Option<Range<usize>>,
}

impl ErrorMembers {
    /// Reads an object, whose bracket is next. Of repeated members, the last counts.
    pub(super) fn read(reader: &mut JsonReader<'_>) -> Result<ErrorMembers, JsonFault> {
        let mut failed = ErrorMembers::default();
        let goes_on = reader.opens(b'{', b'}')?;
        each_member(reader, goes_on, &["\"code\":", "\"message\":", "\"data\":"], |reader, which| {
            let value = reader.value()?;
            let member = match which {
                0 => &mut failed.code,
                1 => &mut failed.message,
                _ => &mut failed.data,
            };
            *member = Some(value);
            Ok(())
        })?;
        Ok(failed)
    }
}

/// Reads the rest of an object, if another member follows. `take` reads the value of each member with one of `names`,
/// which are in their usual form, with quotes and colon.
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

/// Removes the quotes and the colon of a name.
fn bare(usual: &str) -> &str {
    &usual[1..usual.len() - 2]
}

/// Returns the index of a name, escaped or not.
#[inline(never)]
fn find(name: &[u8], names: &[&str]) -> Option<usize> {
    if name.contains(&b'\\') {
        let mut text = String::new();
        unescape(name, &mut text);
        return names.iter().position(|known| bare(known) == text);
    }
    names.iter().position(|known| bare(known).as_bytes() == name)
}
