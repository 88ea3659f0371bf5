//! Lists of servers: the file of endpoints, and the URLs of resolvers.

use coreloop::discovery::detached::read_endpoints;

/// Reads a text as a file of endpoints in both its forms and as a URL of each resolver. Whatever was read takes a byte of the
/// text at least, and reading it again gives the same.
pub fn endpoints(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let read = read_endpoints(text);
    assert!(read.in_file <= text.len() && read.in_url <= text.len(), "{read:?} in {} bytes", text.len());
    assert_eq!(read_endpoints(text), read);
}
