//! The methods that a connection calls, with the encoded bytes of their names, which are the same in the header of
//! every call and every answer.
//!
//! Only methods of the directory are kept, and only a few: a peer cannot fill the table with arbitrary names.

use crate::codec::gob::stream::{StructWriter, number_at};

/// The maximum number of kept methods. Headers of other methods are parsed in full, and their calls store the names.
const KEPT_MAX: usize = 16;
/// The maximum length of a kept name: the length of a header with it takes one byte.
const NAME_MAX: usize = 64;

/// A method's name, as an outstanding answer refers to it.
#[derive(Debug)]
pub(super) enum MethodText {
    /// The index in [`ConnMethods`].
    Kept(u8),
    /// The name.
    Own(Box<[u8]>),
}

/// The methods of a connection.
#[derive(Debug, Default)]
pub(super) struct ConnMethods {
    kept: Vec<ConnMethod>,
    /// The index of the last called method, which the next call is most likely to use.
    last: u8,
}

#[derive(Debug)]
struct ConnMethod {
    /// A header up to the sequence number: the id of its type, the delta of the first field, the name, the delta of
    /// the next.
    front: Box<[u8]>,
    /// Bytes of the id. An answer's header has another id, followed by the same bytes.
    id_bytes: u8,
    hash: u32,
}

impl ConnMethod {
    fn name(&self) -> &[u8] {
        &self.front[usize::from(self.id_bytes) + 2..self.front.len() - 1]
    }
}

impl ConnMethods {
    /// Returns the method and the sequence number of a header (a message without its length), if it is in the usual
    /// form and its method is kept.
    #[inline]
    pub(super) fn in_header(&mut self, header: &[u8]) -> Option<(u8, u64)> {
        let last = usize::from(self.last);
        let begins = |method: &ConnMethod| header.starts_with(&method.front);
        if !self.kept.get(last).is_some_and(begins) {
            self.last = self.kept.iter().position(begins)? as u8;
        }
        let (seq, rest) = number_at(&header[self.kept[usize::from(self.last)].front.len()..])?;
        (rest == [0]).then_some((self.last, seq))
    }

    /// Returns the index of a method, if it is kept.
    pub(super) fn find(&self, name: &[u8]) -> Option<u8> {
        self.kept.iter().position(|method| method.name() == name).map(|at| at as u8)
    }

    /// Keeps a method of the directory, if there is room. `header_id` is a header type with exactly Go's fields;
    /// `is_unused` means that no answer is outstanding, so that all kept methods may be dropped to make room.
    pub(super) fn keep(&mut self, name: &[u8], hash: u32, header_id: i32, is_unused: bool) -> Option<u8> {
        if self.kept.len() >= KEPT_MAX && is_unused {
            self.kept.clear();
        }
        if self.kept.len() >= KEPT_MAX || name.is_empty() || name.len() > NAME_MAX {
            return None;
        }
        let mut front = Vec::with_capacity(NAME_MAX + 16);
        StructWriter::new(&mut front, header_id).text(name);
        front.push(1);
        // The place of its length.
        front.remove(0);
        let id_bytes = (front.len() - name.len() - 3) as u8;
        if self.kept.is_empty() {
            // An idle connection keeps it, and most connections call no other method.
            self.kept.reserve_exact(1);
        }
        self.kept.push(ConnMethod { front: front.into(), id_bytes, hash });
        self.last = (self.kept.len() - 1) as u8;
        Some(self.last)
    }

    #[inline]
    pub(super) fn hash(&self, at: u8) -> u32 {
        self.kept[usize::from(at)].hash
    }

    /// Returns the text of a name.
    #[inline]
    pub(super) fn name<'a>(&'a self, name: &'a MethodText) -> &'a [u8] {
        match name {
            MethodText::Kept(at) => self.kept[usize::from(*at)].name(),
            MethodText::Own(name) => name,
        }
    }

    /// Returns the bytes of an answer's header between the id and the sequence number, if the name is kept.
    #[inline]
    pub(super) fn fields(&self, name: &MethodText) -> Option<&[u8]> {
        match name {
            MethodText::Kept(at) => {
                let method = &self.kept[usize::from(*at)];
                Some(&method.front[usize::from(method.id_bytes)..])
            }
            MethodText::Own(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::head::{HeaderKind, RpcHeader};
    use super::*;
    use crate::codec::gob::stream::{HEADER_ID, SplitItem, split};

    fn header(method: &[u8], seq: u64) -> Vec<u8> {
        let mut out = Vec::new();
        HeaderKind::Request.put(&RpcHeader { method, seq, error: b"" }, &mut out);
        let Ok(SplitItem::Message(message)) = split(&out, usize::MAX) else { panic!("it is whole") };
        message.payload().to_vec()
    }

    #[test]
    fn a_kept_method_is_recognized_by_its_header() {
        let mut methods = ConnMethods::default();
        for (hash, name) in
            [&b"Arith.Add"[..], b"Arith.AddFixed", b"Arith", &[b'x'; NAME_MAX]].iter().enumerate()
        {
            assert_eq!(methods.in_header(&header(name, 7)), None);
            let at = methods.keep(name, hash as u32, HEADER_ID, false).unwrap();
            assert_eq!((methods.find(name), methods.hash(at)), (Some(at), hash as u32));
            assert_eq!(methods.name(&MethodText::Kept(at)), *name);
            for seq in [1, 127, 128, 1 << 40, u64::MAX] {
                assert_eq!(methods.in_header(&header(name, seq)), Some((at, seq)));
                assert_eq!(methods.in_header(&header(b"Other.Method", seq)), None);
            }
        }
        for at in [0, 2, 3, 1] {
            let name = methods.kept[at].name().to_vec();
            assert_eq!(methods.in_header(&header(&name, 9)), Some((at as u8, 9)));
        }
    }

    #[test]
    fn an_unusual_header_is_parsed_in_full() {
        let mut methods = ConnMethods::default();
        methods.keep(b"Arith.Add", 1, HEADER_ID, false).unwrap();
        let whole = header(b"Arith.Add", 300);
        assert_eq!(methods.in_header(&whole), Some((0, 300)));
        for len in 0..whole.len() {
            assert_eq!(methods.in_header(&whole[..len]), None, "{len}");
        }
        assert_eq!(methods.in_header(&[&whole[..], &[0]].concat()), None);
        // Another field after the number; no number, because it is zero; another type.
        assert_eq!(methods.in_header(&[&whole[..whole.len() - 1], &[1, 1, 0]].concat()), None);
        assert_eq!(methods.in_header(&header(b"Arith.Add", 0)), None);
        let mut other = whole.clone();
        other[1] ^= 2;
        assert_eq!(methods.in_header(&other), None);
    }

    #[test]
    fn outstanding_answers_keep_their_methods() {
        let mut methods = ConnMethods::default();
        let name = |number: usize| format!("Service.Method{number}").into_bytes();
        for number in 0..100 {
            let at = methods.keep(&name(number), 0, HEADER_ID, false);
            assert_eq!(at.is_some(), number < KEPT_MAX);
        }
        assert_eq!(methods.find(&name(0)), Some(0));
        assert_eq!(methods.keep(&name(100), 0, HEADER_ID, true), Some(0));
        assert_eq!((methods.find(&name(0)), methods.find(&name(100))), (None, Some(0)));
        assert_eq!(methods.keep(b"", 0, HEADER_ID, false), None);
        assert_eq!(methods.keep(&[b'x'; NAME_MAX + 1], 0, HEADER_ID, false), None);
    }
}
