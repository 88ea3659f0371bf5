//! Compressed bodies: the size of the output as `u32` little-endian, then one LZ4 block.
//!
//! The size that a peer declares is checked against the limit and against the length of its block; the output never
//! grows beyond it. The decision whether to compress is made elsewhere. Without the feature `lz4` both functions
//! return [`CompressError::NotCompiledIn`].

use std::fmt;

use crate::status::Status;

#[cfg(feature = "lz4")]
const SIZE_BYTES: usize = 4;

/// The maximum output of one byte of an LZ4 block (a length continues in steps of 255).
#[cfg(feature = "lz4")]
const EXPANSION_MAX: usize = 255;

/// The additional output of a block's token: the lengths in its two nibbles, and the shortest match.
#[cfg(feature = "lz4")]
const EXPANSION_EXTRA: usize = 64;

/// The error of compressing or decompressing a body.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CompressError {
    /// This build lacks LZ4: build with the feature `lz4`, or send bodies uncompressed.
    NotCompiledIn,
    /// The output would exceed the limit: send less, or raise the limit.
    TooLarge {
        /// The number of output bytes that the body declares.
        declared: usize,
        /// The limit in bytes.
        output_bytes_max: usize,
    },
    /// The body is not an LZ4 block of the declared size: correct the sender.
    Malformed {
        /// What was expected and what was found.
        what: String,
    },
}

crate::error_text::debug_as_text!(CompressError);

impl fmt::Display for CompressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompressError::NotCompiledIn => {
                f.write_str("compression is not compiled in (cargo feature `lz4`)")
            }
            CompressError::TooLarge { declared, output_bytes_max } => {
                write!(
                    f,
                    "body too large: expected at most {output_bytes_max} bytes, {declared} decompressed"
                )
            }
            CompressError::Malformed { what } => write!(f, "malformed compressed body: {what}"),
        }
    }
}

impl std::error::Error for CompressError {}

impl From<CompressError> for Status {
    fn from(error: CompressError) -> Status {
        let message = error.to_string();
        match error {
            CompressError::NotCompiledIn => Status::unimplemented(message),
            CompressError::TooLarge { .. } => Status::resource_exhausted(message),
            CompressError::Malformed { .. } => Status::invalid_argument(message),
        }
    }
}

/// Appends the decompressed body to `out`. On an error `out` is unchanged.
///
/// The declared size is checked against `output_bytes_max`, and against the maximum output of a block of this length,
/// before anything is allocated. It is an error if the output does not have exactly the declared size.
#[cfg(feature = "lz4")]
pub fn decompress(body: &[u8], output_bytes_max: usize, out: &mut Vec<u8>) -> Result<(), CompressError> {
    let Some((size, block)) = body.split_first_chunk::<SIZE_BYTES>() else {
        return Err(CompressError::Malformed {
            what: format!("expected {SIZE_BYTES} bytes of size at least, {} came", body.len()),
        });
    };
    let too_large = |declared| CompressError::TooLarge { declared, output_bytes_max };
    let declared = usize::try_from(u32::from_le_bytes(*size)).map_err(|_| too_large(usize::MAX))?;
    if declared > output_bytes_max {
        return Err(too_large(declared));
    }
    let most = block.len().saturating_mul(EXPANSION_MAX).saturating_add(EXPANSION_EXTRA);
    if declared > most {
        return Err(CompressError::Malformed {
            what: format!("{declared} bytes declared, a block of {} gives at most {most}", block.len()),
        });
    }
    let len_before = out.len();
    out.resize(len_before + declared, 0);
    let outcome = match lz4_flex::block::decompress_into(block, &mut out[len_before..]) {
        Ok(written) if written == declared => Ok(()),
        Ok(written) => Err(CompressError::Malformed {
            what: format!("{declared} bytes declared, the block holds {written}"),
        }),
        Err(error) => Err(CompressError::Malformed { what: error.to_string() }),
    };
    if outcome.is_err() {
        out.truncate(len_before);
    }
    outcome
}

/// Appends the compressed body to `out`: its size, then the block.
///
/// ```
/// # #[cfg(feature = "lz4")] {
/// use coreloop::codec::compress::{compress, decompress};
/// let (mut small, mut again) = (Vec::new(), Vec::new());
/// compress(&[7; 1000], &mut small).unwrap();
/// decompress(&small, 1 << 20, &mut again).unwrap();
/// assert!(small.len() < 100 && again == [7; 1000]);
/// # }
/// ```
#[cfg(feature = "lz4")]
pub fn compress(body: &[u8], out: &mut Vec<u8>) -> Result<(), CompressError> {
    let Ok(size) = u32::try_from(body.len()) else {
        return Err(CompressError::TooLarge { declared: body.len(), output_bytes_max: u32::MAX as usize });
    };
    let len_before = out.len();
    out.extend_from_slice(&size.to_le_bytes());
    let block_at = out.len();
    out.resize(block_at + lz4_flex::block::get_maximum_output_size(body.len()), 0);
    match lz4_flex::block::compress_into(body, &mut out[block_at..]) {
        Ok(block_len) => {
            out.truncate(block_at + block_len);
            Ok(())
        }
        Err(error) => {
            out.truncate(len_before);
            Err(CompressError::Malformed { what: error.to_string() })
        }
    }
}

/// Returns [`CompressError::NotCompiledIn`].
#[cfg(not(feature = "lz4"))]
pub fn decompress(_body: &[u8], _output_bytes_max: usize, _out: &mut Vec<u8>) -> Result<(), CompressError> {
    Err(CompressError::NotCompiledIn)
}

/// Returns [`CompressError::NotCompiledIn`].
#[cfg(not(feature = "lz4"))]
pub fn compress(_body: &[u8], _out: &mut Vec<u8>) -> Result<(), CompressError> {
    Err(CompressError::NotCompiledIn)
}

#[cfg(all(test, feature = "lz4"))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn declaring(size: u32, block: &[u8]) -> Vec<u8> {
        [&size.to_le_bytes()[..], block].concat()
    }

    proptest! {
        #[test]
        fn what_was_compressed_comes_back(body in proptest::collection::vec(0u8..4, 0..5000)) {
            let (mut small, mut again) = (b"kept".to_vec(), b"kept".to_vec());
            compress(&body, &mut small).unwrap();
            decompress(&small[4..], body.len(), &mut again).unwrap();
            prop_assert_eq!(&again[..4], b"kept");
            prop_assert_eq!(&again[4..], &body[..]);
        }

        #[test]
        fn any_bytes_end_in_an_answer(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut out = Vec::new();
            let outcome = decompress(&body, 1 << 16, &mut out);
            prop_assert!(outcome.is_ok() || out.is_empty());
        }
    }

    #[test]
    fn the_densest_block_is_not_refused() {
        for len in [1, 4, 13, 64, 300, 100_000, 1 << 20] {
            let (mut small, mut again) = (Vec::new(), Vec::new());
            compress(&vec![0; len], &mut small).unwrap();
            decompress(&small, len, &mut again).unwrap();
            assert_eq!(again.len(), len);
        }
    }

    #[test]
    fn a_large_declaration_reserves_nothing() {
        let mut out = Vec::new();
        let small_block = declaring(16 << 20, &[0; 16]);
        assert!(matches!(decompress(&small_block, 16 << 20, &mut out), Err(CompressError::Malformed { .. })));
        assert!(matches!(
            decompress(&declaring(1001, &[0; 16]), 1000, &mut out),
            Err(CompressError::TooLarge { declared: 1001, output_bytes_max: 1000 })
        ));
        assert_eq!(out.capacity(), 0);
    }

    #[test]
    fn truncated_and_misdeclared_bodies_are_refused() {
        let mut small = Vec::new();
        compress(&[b"one two three ".as_slice(); 40].concat(), &mut small).unwrap();
        for len in 0..small.len() {
            let mut out = Vec::new();
            assert!(decompress(&small[..len], 1 << 20, &mut out).is_err(), "at {len}");
            assert!(out.is_empty());
        }
        for wrong in [559, 561] {
            let body = declaring(wrong, &small[4..]);
            assert!(decompress(&body, 1 << 20, &mut Vec::new()).is_err());
        }
    }
}
