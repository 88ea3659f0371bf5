//! The headers in front of the bodies: Go's rpc.Request and rpc.Response.

use crate::codec::gob::stream::{
    Definitions, Field, HEADER_ID, Message, STRING, StreamError, StructWriter, UINT, put_struct_definition,
};

const METHOD: &str = "ServiceMethod";
const SEQ: &str = "Seq";
const ERROR: &str = "Error";

/// A header as it came. What it leaves out is empty, or zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head<'b> {
    /// The method's name.
    pub(super) method: &'b [u8],
    /// The caller's number of the call.
    pub(super) seq: u64,
    /// In an answer: what went wrong; empty if nothing did.
    pub(super) error: &'b [u8],
}

impl<'b> Head<'b> {
    /// Reads the header of either kind; a request's has no error.
    #[inline]
    pub(super) fn read(message: Message<'b>, definitions: &Definitions) -> Result<Head<'b>, StreamError> {
        let mut head = Head::default();
        let mut is_fitting = true;
        definitions.read_fields(message, &[METHOD, SEQ, ERROR], |index, field| match (index, field) {
            (0, Field::Text(text)) => head.method = text,
            (1, Field::Uint(number)) => head.seq = number,
            (2, Field::Text(text)) => head.error = text,
            _ => is_fitting = false,
        })?;
        if !is_fitting {
            return Err(StreamError::Malformed("a header with a field of another type".into()));
        }
        Ok(head)
    }
}

/// Which header a stream has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// In front of an argument.
    Request,
    /// In front of a result.
    Response,
}

impl Kind {
    /// The fields of the header's type, as Go has them.
    fn fields(self) -> &'static [(&'static str, i32)] {
        const FIELDS: [(&str, i32); 3] = [(METHOD, STRING), (SEQ, UINT), (ERROR, STRING)];
        match self {
            Kind::Request => &FIELDS[..2],
            Kind::Response => &FIELDS,
        }
    }

    /// Appends the definition of the header's type.
    pub(super) fn define(self, out: &mut Vec<u8>) {
        let name = match self {
            Kind::Request => "Request",
            Kind::Response => "Response",
        };
        put_struct_definition(out, HEADER_ID, name, self.fields());
    }

    /// Whether the type of that id has the header's fields and no others.
    pub(super) fn is_of(self, id: i32, definitions: &Definitions) -> bool {
        definitions.is_struct_of(id, self.fields())
    }

    /// Appends a header.
    #[inline]
    pub(super) fn put(self, head: &Head<'_>, out: &mut Vec<u8>) {
        let mut writer = StructWriter::new(out, HEADER_ID);
        writer.text(head.method);
        writer.uint(head.seq);
        if self == Kind::Response {
            writer.text(head.error);
        }
        writer.end();
    }
}
