//! Names of addresses, and the files that they come from.

use std::collections::HashMap;
use std::fs;

/// A function at an address; with inlining, one of several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The name, without its hash.
    pub(crate) function: String,
    pub(crate) file: String,
    pub(crate) line: u32,
}

/// Finds names, each address once.
#[derive(Default)]
pub(crate) struct Symbols {
    frames: HashMap<usize, Vec<Frame>>,
}

impl Symbols {
    /// Returns the functions at an address, the innermost (inlined) first; at least one. `is_return` says that it is the
    /// address that a call returns to: the call itself is before it.
    pub(crate) fn of(&mut self, address: usize, is_return: bool) -> &[Frame] {
        self.frames.entry(address).or_insert_with(|| {
            let mut frames = Vec::new();
            // `resolve` takes addresses that calls return to: it looks at the byte before.
            let at = if is_return { address } else { address.wrapping_add(1) };
            backtrace::resolve(at as *mut _, |symbol| {
                frames.push(Frame {
                    // The alternate form leaves out the hash.
                    function: symbol.name().map(|name| format!("{name:#}")).unwrap_or_default(),
                    file: symbol.filename().map(|path| path.display().to_string()).unwrap_or_default(),
                    line: symbol.lineno().unwrap_or(0),
                });
            });
            frames.retain(|frame| !frame.function.is_empty());
            if frames.is_empty() {
                frames.push(Frame { function: format!("{address:#x}"), ..Frame::default() });
            }
            frames
        })
    }
}

/// A part of a file that is mapped with code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) offset: u64,
    pub(crate) file: String,
}

/// Returns the mappings of the process that have code; none where there is no `/proc`.
pub(crate) fn mappings() -> Vec<Mapping> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.lines().filter_map(parse_mapping).collect()
}

/// Parses a line of `/proc/PID/maps` (proc(5)); `None` if it has no code.
fn parse_mapping(line: &str) -> Option<Mapping> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let (access, offset) = (fields.next()?, fields.next()?);
    let file = fields.nth(2).unwrap_or_default();
    if !access.contains('x') {
        return None;
    }
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some(Mapping { start: number(start)?, end: number(end)?, offset: number(offset)?, file: file.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_maps_are_parsed() {
        let line = "55d0a000-55d0b000 r-xp 00001000 08:01 1234    /usr/bin/x y";
        let mapping = parse_mapping(line).unwrap();
        let (start, end, offset) = (0x55d0_a000, 0x55d0_b000, 0x1000);
        assert_eq!(mapping, Mapping { start, end, offset, file: "/usr/bin/x".into() });
        assert_eq!(parse_mapping("55d0a000-55d0b000 rw-p 00001000 08:01 1234 /usr/bin/x"), None);
        assert_eq!(parse_mapping("nonsense"), None);
    }

    #[inline(never)]
    fn a_function_of_the_test() -> usize {
        a_function_of_the_test as fn() -> usize as usize
    }

    #[test]
    fn a_function_is_found_by_its_address() {
        let mut symbols = Symbols::default();
        let frames = symbols.of(a_function_of_the_test(), false);
        assert!(frames.iter().any(|frame| frame.function.ends_with("a_function_of_the_test")), "{frames:?}");
        assert_eq!(symbols.of(1, false)[0].function, "0x1");
    }
}
