//! Integers with a prefix of N bits (RFC 7541 section 5.1).

/// Bytes that may follow the prefix: enough for 32 bits, and a bound for encodings padded with zeros.
const CONTINUATIONS_MAX: u32 = 5;

/// Reads an integer whose first byte has the value in its low `prefix_bits` bits, 1 to 8. Returns it and the rest of
/// the bytes; `None` if the bytes end early, or the value is over 2^31 - 1.
#[inline]
pub(super) fn read(bytes: &[u8], prefix_bits: u32) -> Option<(usize, &[u8])> {
    let (first, mut rest) = bytes.split_first()?;
    let prefix_max = u64::from(u8::MAX >> (8 - prefix_bits));
    let mut value = u64::from(*first) & prefix_max;
    if value < prefix_max {
        return Some((value as usize, rest));
    }
    for i in 0..CONTINUATIONS_MAX {
        let (byte, after) = rest.split_first()?;
        rest = after;
        // At most 7 bits shifted by 28, added five times: far from overflow.
        value += u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return (value <= i32::MAX as u64).then_some((value as usize, rest));
        }
    }
    None
}

/// Appends an integer; `first` has the bits above the prefix.
#[inline]
pub(super) fn write(value: usize, prefix_bits: u32, first: u8, out: &mut Vec<u8>) {
    let prefix_max = usize::from(u8::MAX >> (8 - prefix_bits));
    if value < prefix_max {
        out.push(first | value as u8);
        return;
    }
    out.push(first | prefix_max as u8);
    let mut left = value - prefix_max;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}
