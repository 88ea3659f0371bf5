//! The methods that a connection calls, each with the bytes that its name stands in: they are the same in the header
//! of every call, and again in that of every answer.
//!
//! Only methods that the site has are kept, and only a few of them: a peer cannot fill this with names of its own.

use crate::codec::gob::stream::{StructWriter, number_at};

/// Methods that are kept; the headers of others are read in full, and their calls keep their names themselves.
const KEPT_MAX: usize = 16;
/// The longest name that is kept: headers with it have a length of one byte.
const NAME_MAX: usize = 64;

/// A method's name, where an answer is owed.
#[derive(Debug)]
pub(super) enum MethodText {
    /// Its place among the [`ConnMethods`].
    Kept(u8),
    /// The name.
    Own(Box<[u8]>),
}

/// The methods of a connection.
#[derive(Debug, Default)]
pub(super) struct ConnMethods {
    kept: Vec<ConnMethod>,
    /// The one that was called last: the next call is most likely to name it again.
    last: u8,
}

#[derive(Debug)]
struct ConnMethod {
    /// A header up to the number of the call: the id of its type, one for the first field, the name, one for the next.
    front: Box<[u8]>,
    /// Bytes of the id. An answer's header has another id, and then the same.
    id_bytes: u8,
    hash: u32,
}

impl ConnMethod {
    fn name(&self) -> &[u8] {
        &self.front[usize::from(self.id_bytes) + 2..self.front.len() - 1]
    }
}

impl ConnMethods {
    /// The method and the number of a header (a message without its length) that names a kept one as most do.
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

    /// The place of a method, if it is kept.
    pub(super) fn find(&self, name: &[u8]) -> Option<u8> {
        self.kept.iter().position(|method| method.name() == name).map(|at| at as u8)
    }

    /// Keeps a method that the site has, if there is room. `header_id` is the type of a header that has the fields of
    /// Go's and no others; `is_unused` says that no answer is owed, so that all places may be given up for it.
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
            // An idle connection keeps it, and most call no other.
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

    /// The text of a name.
    #[inline]
    pub(super) fn name<'a>(&'a self, name: &'a MethodText) -> &'a [u8] {
        match name {
            MethodText::Kept(at) => self.kept[usize::from(*at)].name(),
            MethodText::Own(name) => name,
        }
    }

    /// What the header of an answer has between the id and the number, if the name is kept.
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
    use crate::codec::gob::stream::{HEADER_ID, StreamItem, split};

    fn header(method: &[u8], seq: u64) -> Vec<u8> {
        let mut out = Vec::new();
        HeaderKind::Request.put(&RpcHeader { method, seq, error: b"" }, &mut out);
        let Ok(StreamItem::Message(message)) = split(&out, usize::MAX) else { panic!("it is whole") };
        message.payload().to_vec()
    }

    #[test]
    fn a_kept_method_is_told_by_its_header() {
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
    fn a_header_with_anything_else_in_it_is_read_in_full() {
        let mut methods = ConnMethods::default();
        methods.keep(b"Arith.Add", 1, HEADER_ID, false).unwrap();
        let whole = header(b"Arith.Add", 300);
        assert_eq!(methods.in_header(&whole), Some((0, 300)));
        for len in 0..whole.len() {
            assert_eq!(methods.in_header(&whole[..len]), None, "{len}");
        }
        assert_eq!(methods.in_header(&[&whole[..], &[0]].concat()), None);
        // Another field behind the number; no number, because it is zero; another type.
        assert_eq!(methods.in_header(&[&whole[..whole.len() - 1], &[1, 1, 0]].concat()), None);
        assert_eq!(methods.in_header(&header(b"Arith.Add", 0)), None);
        let mut other = whole.clone();
        other[1] ^= 2;
        assert_eq!(methods.in_header(&other), None);
    }

    #[test]
    fn no_more_than_a_few_are_kept_and_none_is_given_up_while_answers_are_owed() {
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
