//! The Huffman code of HPACK (RFC 7541 section 5.2 and appendix B).
//!
//! The code is canonical: within a length, codes ascend with their symbols, and a longer code follows the shorter
//! ones. The lengths therefore determine it, and all tables are computed from them at compile time.

/// The number of bits of each symbol's code; the last is that of the end-of-string symbol.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// The end-of-string symbol, which must not occur in a string.
const END_OF_STRING: u16 = 256;
const LENGTH_MAX: usize = 30;
/// Codes up to this length are found by one look into [`QUICK`].
const QUICK_BITS: usize = 9;

struct Canonical {
    /// The code of each symbol.
    codes: [u32; 257],
    /// The symbols, ordered by length, then by value.
    symbols: [u16; 257],
    /// For each length, the first code beyond those of this length, shifted to the left of 32 bits.
    ends: [u64; LENGTH_MAX + 1],
    /// For each length, what to add to a code (modulo 2^32) for its place in `symbols`.
    offsets: [u32; LENGTH_MAX + 1],
}

const CANONICAL: Canonical = canonical();

const fn canonical() -> Canonical {
    let mut made = Canonical {
        codes: [0; 257],
        symbols: [0; 257],
        ends: [0; LENGTH_MAX + 1],
        offsets: [0; LENGTH_MAX + 1],
    };
    let (mut code, mut place, mut length) = (0u32, 0usize, 1usize);
    while length <= LENGTH_MAX {
        made.offsets[length] = (place as u32).wrapping_sub(code);
        let mut symbol = 0;
        while symbol < 257 {
            if LENGTHS[symbol] as usize == length {
                made.codes[symbol] = code;
                made.symbols[place] = symbol as u16;
                code += 1;
                place += 1;
            }
            symbol += 1;
        }
        made.ends[length] = (code as u64) << (32 - length);
        code <<= 1;
        length += 1;
    }
    made
}

static CODES: [u32; 257] = CANONICAL.codes;
static SYMBOLS: [u16; 257] = CANONICAL.symbols;
static ENDS: [u64; LENGTH_MAX + 1] = CANONICAL.ends;
static OFFSETS: [u32; LENGTH_MAX + 1] = CANONICAL.offsets;

/// For each value of the next bits: the symbol and its length, or length 0 if the code is longer.
static QUICK: [(u8, u8); 1 << QUICK_BITS] = quick();

const fn quick() -> [(u8, u8); 1 << QUICK_BITS] {
    let mut table = [(0, 0); 1 << QUICK_BITS];
    let mut symbol = 0;
    while symbol < 256 {
        let length = LENGTHS[symbol] as usize;
        if length <= QUICK_BITS {
            let spare = QUICK_BITS - length;
            let first = (CANONICAL.codes[symbol] as usize) << spare;
            let mut i = 0;
            while i < 1 << spare {
                table[first + i] = (symbol as u8, length as u8);
                i += 1;
            }
        }
        symbol += 1;
    }
    table
}

/// The bytes are not a valid Huffman string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HuffmanFault;

/// Appends the decoded string, of which at most `bytes_max` bytes are stored. Returns its whole length.
///
/// The padding must be the begin of the end-of-string code, shorter than a byte.
pub(super) fn decode(bytes: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<usize, HuffmanFault> {
    let (mut bits, mut count, mut decoded) = (0u64, 0u32, 0usize);
    let mut input = bytes.iter();
    loop {
        while count <= 32 {
            let Some(byte) = input.next() else { break };
            bits |= u64::from(*byte) << (56 - count);
            count += 8;
        }
        // The bits to the right of the input are zero. They could complete a code only beyond `count`.
        let (quick, quick_length) = QUICK[(bits >> (64 - QUICK_BITS)) as usize];
        let (symbol, length) = if quick_length > 0 {
            (u16::from(quick), u32::from(quick_length))
        } else {
            let window = bits >> 32;
            // A window of all ones is beyond the end of all shorter codes, and is one of the longest.
            let length = (QUICK_BITS + 1..LENGTH_MAX).find(|&l| window < ENDS[l]).unwrap_or(LENGTH_MAX);
            let code = (window >> (32 - length)) as u32;
            let place = code.wrapping_add(OFFSETS[length]) as usize;
            (*SYMBOLS.get(place).ok_or(HuffmanFault)?, length as u32)
        };
        if length > count {
            let is_padding = count < 8 && bits >> (64 - 8) == 0xff & (0xff00 >> count);
            return if is_padding { Ok(decoded) } else { Err(HuffmanFault) };
        }
        if symbol == END_OF_STRING {
            return Err(HuffmanFault);
        }
        if decoded < bytes_max {
            out.push(symbol as u8);
        }
        decoded += 1;
        bits <<= length;
        count -= length;
    }
}

/// Returns the bytes that the encoded string takes.
pub(super) fn encoded_bytes(string: &[u8]) -> usize {
    let bits: usize = string.iter().map(|&byte| usize::from(LENGTHS[usize::from(byte)])).sum();
    bits.div_ceil(8)
}

/// Appends the encoded string.
pub(super) fn encode(string: &[u8], out: &mut Vec<u8>) {
    let (mut bits, mut count) = (0u64, 0u32);
    for &byte in string {
        let length = u32::from(LENGTHS[usize::from(byte)]);
        // Fewer than 8 bits wait, and a code has at most 30.
        bits = bits << length | u64::from(CODES[usize::from(byte)]);
        count += length;
        while count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    if count > 0 {
        out.push((bits << (8 - count)) as u8 | 0xff >> count);
    }
}
