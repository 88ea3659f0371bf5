//! The headers before the bodies: Go's rpc.Request and rpc.Response.

use crate::codec::gob::stream::{
    Definitions, GobMessage, HEADER_ID, RpcHeaderField, STRING, StreamError, StructWriter, UINT,
    put_struct_definition,
};

const METHOD: &str = "ServiceMethod";
const SEQ: &str = "Seq";
const ERROR: &str = "Error";

/// A received header. Missing fields are empty or zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RpcHeader<'b> {
    /// The method's name.
    pub(super) method: &'b [u8],
    /// The caller's sequence number.
    pub(super) seq: u64,
    /// In an answer: the error text; empty on success.
    pub(super) error: &'b [u8],
}

impl<'b> RpcHeader<'b> {
    /// Reads a header of either kind; a request's has no error.
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

/// The kind of header in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderKind {
    /// Before an argument.
    Request,
    /// Before a result.
    Response,
}

impl HeaderKind {
    /// The fields of the header's type, as in Go.
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

    /// Whether the type with this id has exactly the header's fields.
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
