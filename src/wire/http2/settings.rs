//! The SETTINGS of both sides (RFC 9113 section 6.5).

use super::fault::{Http2Code, Http2Fault};
use super::frame::{FRAME_BYTES_DEFAULT, FRAME_BYTES_MAX, MAX_31_BITS, SettingEntries};

/// The numbers of the settings.
pub mod setting {
    /// Bytes of the table of the header decompression.
    pub const HEADER_TABLE_SIZE: u16 = 1;
    /// Whether pushed requests are accepted.
    pub const ENABLE_PUSH: u16 = 2;
    /// Streams that the peer may have open at once.
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    /// Window of each new stream.
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    /// Bytes of the largest payload.
    pub const MAX_FRAME_SIZE: u16 = 5;
    /// Bytes of the largest header list, uncompressed, with 32 for each field.
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// The bytes of a header table unless another size was announced.
pub const TABLE_BYTES_DEFAULT: u32 = 4096;
/// The window of the connection, and that of a stream unless another one was announced.
pub const WINDOW_DEFAULT: u32 = 65_535;

/// The settings of a peer: the defaults, until it announces others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerSettings {
    /// Bytes of the table that the peer's decoder keeps.
    pub table_bytes: u32,
    /// The window of a stream towards the peer.
    pub initial_window: u32,
    /// The largest payload that the peer accepts.
    pub frame_bytes_max: u32,
    /// The largest header list that the peer accepts; advisory.
    pub header_list_bytes_max: u32,
}

impl Default for PeerSettings {
    fn default() -> PeerSettings {
        PeerSettings {
            table_bytes: TABLE_BYTES_DEFAULT,
            initial_window: WINDOW_DEFAULT,
            frame_bytes_max: FRAME_BYTES_DEFAULT,
            header_list_bytes_max: u32::MAX,
        }
    }
}

impl PeerSettings {
    /// Applies the entries of a frame in order. Returns the least size of the header table among them, which its
    /// encoder must announce, or `None` if they have none.
    pub fn apply(&mut self, entries: SettingEntries<'_>) -> Result<Option<u32>, Http2Fault> {
        let mut least_table = None;
        for (number, value) in entries.iter() {
            match number {
                setting::HEADER_TABLE_SIZE => {
                    self.table_bytes = value;
                    least_table = Some(least_table.map_or(value, |least: u32| least.min(value)));
                }
                setting::ENABLE_PUSH if value > 1 => {
                    return Err(Http2Fault::protocol("ENABLE_PUSH is neither 0 nor 1"));
                }
                setting::INITIAL_WINDOW_SIZE if value > MAX_31_BITS => {
                    let why = "INITIAL_WINDOW_SIZE is over 2^31 - 1";
                    return Err(Http2Fault::connection(Http2Code::FLOW_CONTROL_ERROR, why));
                }
                setting::INITIAL_WINDOW_SIZE => self.initial_window = value,
                setting::MAX_FRAME_SIZE if !(FRAME_BYTES_DEFAULT..=FRAME_BYTES_MAX).contains(&value) => {
                    return Err(Http2Fault::protocol("MAX_FRAME_SIZE is not between 2^14 and 2^24 - 1"));
                }
                setting::MAX_FRAME_SIZE => self.frame_bytes_max = value,
                setting::MAX_HEADER_LIST_SIZE => self.header_list_bytes_max = value,
                // Push and streams opened by the server are not used; unknown settings are ignored.
                _ => {}
            }
        }
        Ok(least_table)
    }
}

/// Returns the payload of a SETTINGS frame with these entries.
pub fn payload_of<const N: usize>(entries: [(u16, u32); N]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(6 * N);
    for (number, value) in entries {
        payload.extend_from_slice(&number.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    payload
}
