//! [`EventQueue`]: events from any thread to a reactor, which is woken once for many of them.

use std::collections::VecDeque;

use super::sync::{Mutex, lock};

pub(crate) struct EventQueue<E> {
    state: Mutex<EventState<E>>,
}

struct EventState<E> {
    events: VecDeque<(E, usize)>,
    /// The sum of the weights.
    weight: usize,
    /// The reactor has been asked to take the events, and has not found the queue empty since.
    is_posted: bool,
}

impl<E> EventQueue<E> {
    pub(crate) fn new() -> EventQueue<E> {
        EventQueue { state: Mutex::new(EventState { events: VecDeque::new(), weight: 0, is_posted: false }) }
    }

    /// Adds an event. Returns whether the reactor must be asked to take it.
    #[must_use]
    pub(crate) fn push(&self, event: E, weight: usize) -> bool {
        let mut state = lock(&self.state);
        state.events.push_back((event, weight));
        state.weight += weight;
        !std::mem::replace(&mut state.is_posted, true)
    }

    /// Removes the oldest event with a weight while the weights add up to more than the limit, but not the last event.
    pub(crate) fn remove_above(&self, weight_max: usize) -> Option<E> {
        let mut state = lock(&self.state);
        if state.weight <= weight_max {
            return None;
        }
        let last = state.events.len().checked_sub(1)?;
        let at = state.events.iter().take(last).position(|(_, weight)| *weight > 0)?;
        let (event, weight) = state.events.remove(at)?;
        state.weight -= weight;
        Some(event)
    }

    /// Takes the next event, on the reactor. After `None` the next push asks for it again.
    pub(crate) fn pop(&self) -> Option<E> {
        let mut state = lock(&self.state);
        let Some((event, weight)) = state.events.pop_front() else {
            state.is_posted = false;
            return None;
        };
        state.weight -= weight;
        Some(event)
    }
}
