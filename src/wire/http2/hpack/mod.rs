//! HPACK, the header compression of HTTP/2 (RFC 7541), in both directions.
//!
//! The decoder limits what it stores while it decodes: the fields by the bytes of the header list, the dynamic table
//! by the announced size. It reads whole header blocks and knows nothing of frames.

mod decode;
mod encode;
mod fields;
mod huffman;
mod integer;
mod table;

pub use decode::{HpackDecoder, HpackFault, ListFit};
pub use encode::{HpackEncoder, Indexing};
pub use fields::{FieldList, HeaderField};
pub use table::DynamicTable;

#[cfg(test)]
mod tests;
