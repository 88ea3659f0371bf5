//! Writes answers in the order of their requests, for protocols without ids (HTTP/1.1 pipelining, RFC 9112 section
//! 9.3.2), while the calls complete in any order.
//!
//! A request takes a place, an answer fills it, and filled places are written from the front.

use std::collections::VecDeque;

/// The place of one answer in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderTicket(u64);

impl OrderTicket {
    /// Returns the place with this number. The first request has number 0, each further one the next.
    pub fn of(number: u64) -> OrderTicket {
        OrderTicket(number)
    }

    /// Returns the number, which may serve as an id.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// Requests with their pending data, and answers that wait for earlier ones. It is bounded as long as the number of
/// requests is (`in_flight_max`).
#[derive(Debug)]
pub struct OrderedReplies<Q, T> {
    /// The front is the oldest unanswered request.
    waiting: VecDeque<(Q, Option<T>)>,
    /// The number of the front.
    front: u64,
}

impl<Q, T> Default for OrderedReplies<Q, T> {
    fn default() -> Self {
        OrderedReplies { waiting: VecDeque::new(), front: 0 }
    }
}

impl<Q, T> OrderedReplies<Q, T> {
    /// Adds a request, and returns the place of its answer.
    #[inline]
    pub fn take_place(&mut self, question: Q) -> OrderTicket {
        self.waiting.push_back((question, None));
        OrderTicket(self.front + self.waiting.len() as u64 - 1)
    }

    /// Stores the answer of a place. A place that was filled before returns the answer.
    pub fn fill(&mut self, place: OrderTicket, answer: T) -> Result<(), T> {
        let slot = place.0.checked_sub(self.front).and_then(|at| self.waiting.get_mut(at as usize));
        match slot {
            Some((_, slot @ None)) => {
                *slot = Some(answer);
                Ok(())
            }
            Some((_, Some(_))) | None => Err(answer),
        }
    }

    /// If this place is the next to be answered, counts it as answered and returns its request: the answer may be
    /// written at once, without being stored here.
    #[inline]
    pub fn take_turn(&mut self, place: OrderTicket) -> Option<Q> {
        if place.0 != self.front || !matches!(self.waiting.front(), Some((_, None))) {
            return None;
        }
        self.front += 1;
        self.waiting.pop_front().map(|(question, _)| question)
    }

    /// Returns the request of this place, if it is the next to be answered.
    pub fn turn(&self, place: OrderTicket) -> Option<&Q> {
        match self.waiting.front() {
            Some((question, None)) if place.0 == self.front => Some(question),
            _ => None,
        }
    }

    /// Returns the next answer that may be written, with its request.
    #[inline]
    pub fn next_ready(&mut self) -> Option<(Q, T)> {
        let (_, slot) = self.waiting.front_mut()?;
        let answer = slot.take()?;
        self.front += 1;
        self.waiting.pop_front().map(|(question, _)| (question, answer))
    }

    /// Returns the last request.
    pub fn last_mut(&mut self) -> Option<&mut Q> {
        self.waiting.back_mut().map(|(question, _)| question)
    }

    /// Returns the number of places: requests without an answer, and answers that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether there are no places.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_answer_waits_for_those_before_it() {
        let mut order = OrderedReplies::default();
        let (a, b) = (order.take_place(1), order.take_place(2));
        order.fill(b, 'b').unwrap();
        assert_eq!(order.next_ready(), None);
        order.fill(a, 'a').unwrap();
        assert_eq!(order.fill(a, 'x'), Err('x'), "a place is filled once");
        assert_eq!(
            (order.next_ready(), order.next_ready(), order.next_ready()),
            (Some((1, 'a')), Some((2, 'b')), None)
        );
        assert_eq!(order.fill(b, 'x'), Err('x'));
    }

    #[test]
    fn the_next_in_order_need_not_wait() {
        let mut order = OrderedReplies::default();
        let (a, b) = (order.take_place(1), order.take_place(2));
        assert_eq!((order.take_turn(b), order.turn(b), order.turn(a)), (None, None, Some(&1)));
        order.fill(b, 'b').unwrap();
        *order.last_mut().unwrap() += 10;
        assert_eq!(order.take_turn(a), Some(1));
        assert_eq!(order.take_turn(b), None, "an answer waits here already");
        assert_eq!(order.next_ready(), Some((12, 'b')));
        assert_eq!(order.last_mut(), None);
        assert_eq!((a.number(), OrderTicket::of(1)), (0, b));
    }

    proptest! {
        #[test]
        fn answers_have_the_order_of_requests(keys in proptest::collection::vec(any::<u32>(), 1..64)) {
            let mut order = OrderedReplies::default();
            let mut work: Vec<_> = keys.iter().map(|key| (*key, order.take_place(*key))).collect();
            let expected = work.clone();
            work.sort_by_key(|(key, _)| *key);
            let mut out = Vec::new();
            for (_, place) in work {
                order.fill(place, place).unwrap();
                while let Some(answer) = order.next_ready() {
                    out.push(answer);
                }
            }
            prop_assert_eq!(out, expected);
            prop_assert!(order.is_empty());
        }
    }
}
