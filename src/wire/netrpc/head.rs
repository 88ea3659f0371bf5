//! The headers in front of the bodies: Go's rpc.Request and rpc.Response.

use crate::codec::gob::stream::{
    Definitions, GobMessage, HEADER_ID, RpcHeaderField, STRING, StreamError, StructWriter, UINT,
    put_struct_definition,
};

const METHOD: &str = "ServiceMethod";
const SEQ: &str = "Seq";
const ERROR: &str = "Error";

/// A header as it came. What it leaves out is empty, or zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RpcHeader<'b> {
    /// The method's name.
    pub(super) method: &'b [u8],
    /// The caller's number of the call.
    pub(super) seq: u64,
    /// In an answer: what went wrong; empty if nothing did.
    pub(super) error: &'b [u8],
}

impl<'b> RpcHeader<'b> {
    /// Reads the header of either kind; a request's has no error.
    #[inline]
    pub(super) fn read(
        message: GobMessage<'b>,
        definitions: &Definitions,
    ) -> Result<RpcHeader<'b>, StreamError> {
        let mut head = RpcHeader::default();
        let mut is_fitting = true;
        definitions.read_fields(message, &[METHOD, SEQ, ERROR], |index, field| match (index, field) {
            (0, RpcHeaderField::Text(text)) => head.method = text,
            (1, RpcHeaderField::Uint(number)) => head.seq = number,
            (2, RpcHeaderField::Text(text)) => head.error = text,
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
pub(super) enum HeaderKind {
    /// In front of an argument.
    Request,
    /// In front of a result.
    Response,
}

impl HeaderKind {
    /// The fields of the header's type, as Go has them.
    fn fields(self) -> &'static [(&'static str, i32)] {
        const FIELDS: [(&str, i32); 3] = [(METHOD, STRING), (SEQ, UINT), (ERROR, STRING)];
        match self {
            HeaderKind::Request => &FIELDS[..2],
            HeaderKind::Response => &FIELDS,
        }
    }

    /// Appends the definition of the header's type.
    pub(super) fn define(self, out: &mut Vec<u8>) {
        let name = match self {
            HeaderKind::Request => "Request",
            HeaderKind::Response => "Response",
        };
        put_struct_definition(out, HEADER_ID, name, self.fields());
    }

    /// Whether the type of that id has the header's fields and no others.
    pub(super) fn is_of(self, id: i32, definitions: &Definitions) -> bool {
        definitions.is_struct_of(id, self.fields())
    }

    /// Appends a header.
    #[inline]
    pub(super) fn put(self, head: &RpcHeader<'_>, out: &mut Vec<u8>) {
        let mut writer = StructWriter::new(out, HEADER_ID);
        writer.text(head.method);
        writer.uint(head.seq);
        if self == HeaderKind::Response {
            writer.text(head.error);
        }
        writer.end();
    }
}
