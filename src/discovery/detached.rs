//! What registries answer, without their connections, for fuzzing. Behind the feature `bench-internals`; not part of the
//! public interface.

use crate::agent::http::{HttpPiece, HttpReader};

/// A response that was read: its status, its body, and whether its connection can be used again.
pub type ReadResponse = (u16, Vec<u8>, bool);

/// Reads one HTTP response that arrives in pieces, whose connection ends after them.
///
/// # Errors
///
/// What is wrong with it, as a text.
pub fn read_response<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    body_bytes_max: u64,
) -> Result<ReadResponse, String> {
    let mut reader = HttpReader::new(body_bytes_max);
    let (mut status, mut body) = (0, Vec::new());
    for mut input in pieces {
        loop {
            let (consumed, piece) = reader.next(input).map_err(|fault| fault.to_string())?;
            input = &input[consumed..];
            match piece {
                Some(HttpPiece::Head(head)) => status = head.status,
                Some(HttpPiece::Body(bytes)) => body.extend_from_slice(bytes),
                Some(HttpPiece::End { keeps }) => return Ok((status, body, keeps)),
                None if input.is_empty() => break,
                None => {}
            }
        }
    }
    match reader.on_end() {
        Ok(true) => Ok((status, body, false)),
        Ok(false) => Err("nothing was read".to_owned()),
        Err(fault) => Err(fault.to_string()),
    }
}

/// Reads a body as each answer of each registry, and returns the number of instances that were found.
pub fn read_answers(body: &[u8]) -> usize {
    super::consul::instances_in(body) + super::etcd::instances_in(body)
}

/// What a text has as a list of instances.
#[cfg(feature = "client")]
#[derive(Debug, PartialEq, Eq)]
pub struct ReadEndpoints {
    /// The instances of a file with this content.
    pub in_file: usize,
    /// The instances that the text lists as a URL.
    pub in_url: usize,
    /// The resolvers that accept it as a URL.
    pub resolvers: usize,
}

/// Reads a text as the file of endpoints in both its forms, and as the URL of each resolver.
#[cfg(feature = "client")]
pub fn read_endpoints(text: &str) -> ReadEndpoints {
    let in_file = super::file::instances_in(text);
    let Ok(target) = super::Target::parse(text) else {
        return ReadEndpoints { in_file, in_url: 0, resolvers: 0 };
    };
    let in_url = super::fixed::StaticResolver::instances(&target).map_or(0, |instances| instances.len());
    let checks = [super::file::check, super::dns::check, super::consul::check, super::etcd::check];
    let resolvers = checks.iter().filter(|check| check(&target).is_ok()).count();
    ReadEndpoints { in_file, in_url, resolvers }
}
