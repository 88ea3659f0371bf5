//! [`Broadcast`]: one message to many sinks, encoded once.
//!
//! Subscribers are grouped by the reactor of their connection. A sent item is encoded once per format on the sender's
//! thread and posted once per group; the reactor offers it to each subscriber. A subscriber that is not ready keeps
//! references to the items that its policy allows, and a waiter in its sink.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coreloop_bufpool::Chunk;
use coreloop_poller::{Key, Slots};

use super::events::EventQueue;
use super::sink::{EncodeMessage, Sink, SinkLink, SinkWaiter, encode};
use super::sink_error::SinkError;
use super::{ReactorTask, StreamOrigin, StreamPort};
use crate::codec::{Codec, ValueRules};
use crate::conn::streams::{StreamBody, StreamMessage};
use crate::status::Status;

/// Subscribers to which one run of a group offers an item, before the reactor applies what was posted.
const RUN_SUBSCRIBERS_MAX: usize = 1024;
/// Bytes of the items that wait until their reactor takes them, for each group.
const BACKLOG_BYTES_MAX: usize = 16 << 20;
/// What an item counts at least, so that small items are bounded in number, too.
const ITEM_WEIGHT_MIN: usize = 16 << 10;

/// What happens to items for a subscriber that is not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlowSubscriber {
    /// It gets the latest item once it is ready; earlier ones are dropped.
    KeepLatest,
    /// It gets the latest items once it is ready, at most this many; earlier ones are dropped. 0 counts as 1.
    DropOldest(usize),
    /// Its stream ends with `resource_exhausted`.
    EndStream,
}

/// Sends each item to all subscribers.
///
/// An item is encoded once for each codec in use, and posted once to each reactor that has subscribers: an idle
/// subscriber costs some hundred bytes and no thread. Items of one thread arrive in the order in which they were sent.
/// A reactor that falls behind by more than 16 MiB of items drops the oldest (with [`SlowSubscriber::EndStream`] it
/// ends the streams).
///
/// Dropping the broadcast ends the streams `internal`, like the drop of a sink: use [`Broadcast::finish`].
///
/// ```
/// use coreloop::stream::{Broadcast, Sink, SinkError, SlowSubscriber};
///
/// struct Prices {
///     changes: Broadcast<u64>,
/// }
///
/// impl Prices {
///     fn new() -> Prices {
///         Prices { changes: Broadcast::new(SlowSubscriber::KeepLatest) }
///     }
///
///     /// A handler: the sink outlives it.
///     fn watch(&self, sink: Sink<u64>) {
///         self.changes.subscribe(sink);
///     }
///
///     fn change(&self, price: u64) -> Result<(), SinkError> {
///         self.changes.send(&price)
///     }
/// }
/// ```
pub struct Broadcast<T> {
    policy: SlowSubscriber,
    shared: Mutex<BroadcastShared<T>>,
}

/// Replaced as a whole when it changes, so that a send copies two pointers.
struct BroadcastShared<T> {
    variants: Arc<Vec<Variant<T>>>,
    groups: Arc<Vec<Arc<Group>>>,
}

/// What decides the bytes of an item.
#[derive(Clone, Copy, PartialEq, Eq)]
struct MessageFormat {
    codec: Codec,
    rules: ValueRules,
    compresses: bool,
}

/// One encoding of the items; its index is that of the message in an [`Item`].
struct Variant<T> {
    format: MessageFormat,
    encode: EncodeMessage<T>,
    subscribers: Arc<AtomicUsize>,
}

impl<T> Clone for Variant<T> {
    fn clone(&self) -> Variant<T> {
        Variant { format: self.format, encode: self.encode, subscribers: self.subscribers.clone() }
    }
}

/// A sent item, by variant. `None` for a variant that had no subscribers.
struct Item {
    messages: Vec<Option<EncodedItem>>,
}

struct EncodedItem {
    body: Chunk,
    is_compressed: bool,
}

impl<T: 'static> Broadcast<T> {
    /// Creates a broadcast without subscribers.
    pub fn new(policy: SlowSubscriber) -> Broadcast<T> {
        let shared = BroadcastShared { variants: Arc::default(), groups: Arc::default() };
        Broadcast { policy, shared: Mutex::new(shared) }
    }

    /// Adds a subscriber: it gets what is sent from now on, until its stream ends.
    pub fn subscribe(&self, sink: Sink<T>) {
        let link = sink.link().clone();
        let StreamOrigin { port, codec, rules, compresses, .. } = link.origin();
        let format = MessageFormat { codec: *codec, rules: *rules, compresses: *compresses };
        let encode = sink.encode_fn();
        let (group, variant, subscribers) = {
            let mut shared = self.shared();
            let is_same = |variant: &Variant<T>| {
                variant.format == format && std::ptr::fn_addr_eq(variant.encode, encode)
            };
            let variant = shared.variants.iter().position(is_same).unwrap_or_else(|| {
                let mut variants = shared.variants.to_vec();
                variants.push(Variant { format, encode, subscribers: Arc::default() });
                shared.variants = Arc::new(variants);
                shared.variants.len() - 1
            });
            let group = shared.groups.iter().find(|group| Arc::ptr_eq(&group.port, port)).cloned();
            let group = group.unwrap_or_else(|| {
                let group = Arc::new(Group::new(port.clone(), self.policy));
                let mut groups = shared.groups.to_vec();
                groups.push(group.clone());
                shared.groups = Arc::new(groups);
                group
            });
            (group, variant, shared.variants.get(variant).map(|variant| variant.subscribers.clone()))
        };
        let Some(subscribers) = subscribers else { return };
        subscribers.fetch_add(1, Ordering::Relaxed);
        let sink = Box::new(sink);
        let subscriber = Subscriber { link, sink, variant, subscribers, pending: VecDeque::new(), end: None };
        group.push(GroupEvent::Add(subscriber), 0);
    }

    /// Sends an item to all subscribers. Never blocks.
    ///
    /// # Errors
    ///
    /// The item cannot be encoded in the codec of a subscriber: then no subscriber gets it.
    pub fn send(&self, item: &T) -> Result<(), SinkError> {
        let (variants, groups) = {
            let shared = self.shared();
            (shared.variants.clone(), shared.groups.clone())
        };
        let (mut messages, mut bytes) = (Vec::with_capacity(variants.len()), 0);
        for variant in variants.iter() {
            if variant.subscribers.load(Ordering::Relaxed) == 0 {
                messages.push(None);
                continue;
            }
            let MessageFormat { codec, rules, compresses } = variant.format;
            let message = encode(variant.encode, item, codec, rules, compresses)?;
            bytes += message.body.len();
            let is_compressed = message.compressed;
            let body = match message.body {
                StreamBody::Owned(body) => Chunk::from(body),
                StreamBody::Shared(chunk) => chunk,
            };
            messages.push(Some(EncodedItem { body, is_compressed }));
        }
        if messages.iter().all(Option::is_none) {
            return Ok(());
        }
        let item = Arc::new(Item { messages });
        for group in groups.iter().filter(|group| group.has_subscribers()) {
            group.push_item(item.clone(), bytes);
        }
        Ok(())
    }
}

impl<T> Broadcast<T> {
    /// Returns the number of subscribers whose streams have not ended.
    pub fn subscribers(&self) -> usize {
        let variants = self.shared().variants.clone();
        variants.iter().map(|variant| variant.subscribers.load(Ordering::Relaxed)).sum()
    }

    /// Ends the streams of all subscribers with this result, after the items sent before.
    pub fn finish(self, result: Result<(), Status>) {
        self.finish_all(&result);
    }

    fn finish_all(&self, result: &Result<(), Status>) {
        let groups = std::mem::take(&mut self.shared().groups);
        for group in groups.iter() {
            group.push(GroupEvent::Finish(result.clone()), 0);
        }
    }

    fn shared(&self) -> MutexGuard<'_, BroadcastShared<T>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Broadcast<T> {
    fn drop(&mut self) {
        self.finish_all(&Err(Status::internal("the broadcast was dropped without finish")));
    }
}

impl<T> fmt::Debug for Broadcast<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broadcast")
            .field("policy", &self.policy)
            .field("subscribers", &self.subscribers())
            .finish()
    }
}

/// The subscribers on one reactor.
struct Group {
    port: Arc<dyn StreamPort>,
    policy: SlowSubscriber,
    events: EventQueue<GroupEvent>,
    /// Subscribers, also those in events.
    count: AtomicUsize,
    /// Locked on the reactor's thread only, while no user code runs.
    state: Mutex<GroupState>,
}

enum GroupEvent {
    Add(Subscriber),
    Item(Arc<Item>),
    /// The sink of a subscriber has become ready, or has ended.
    Ready(Key),
    /// The stream of a subscriber has ended.
    Ended(Key),
    Finish(Result<(), Status>),
}

#[derive(Default)]
struct GroupState {
    subscribers: Slots<Subscriber>,
    /// The item that is being offered, and the subscribers to which it was not offered yet.
    current: Option<Arc<Item>>,
    waiting: Vec<Key>,
}

/// A sink without its type, held for its drop, which ends the stream.
trait AnySink: Send {}

impl<T> AnySink for Sink<T> {}

struct Subscriber {
    link: Arc<SinkLink>,
    #[allow(dead_code, reason = "held for its drop")]
    sink: Box<dyn AnySink>,
    variant: usize,
    /// The count of its variant.
    subscribers: Arc<AtomicUsize>,
    /// Items for when the sink is ready.
    pending: VecDeque<Arc<Item>>,
    /// How the stream ends after them.
    end: Option<Result<(), Status>>,
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.subscribers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Subscriber {
    /// Sends an item, if the sink is ready.
    fn send(&self, item: &Item) -> Result<(), SinkError> {
        // An item that was encoded before the first subscriber of this variant came is not for it.
        let Some(Some(message)) = item.messages.get(self.variant) else { return Ok(()) };
        let (message_bytes, bytes_max) = (message.body.len(), self.link.origin().message_bytes_max);
        if message_bytes > bytes_max {
            return Err(SinkError::TooLarge { message_bytes, bytes_max });
        }
        self.link.check_ready()?;
        let body = StreamBody::Shared(message.body.clone());
        let message = StreamMessage { body, compressed: message.is_compressed };
        self.link.post(message).map_err(|_| SinkError::NotReady)
    }
}

impl Group {
    fn new(port: Arc<dyn StreamPort>, policy: SlowSubscriber) -> Group {
        Group { port, policy, events: EventQueue::new(), count: AtomicUsize::new(0), state: Mutex::default() }
    }

    fn has_subscribers(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    fn push(self: &Arc<Self>, event: GroupEvent, weight: usize) {
        if let GroupEvent::Add(_) = event {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        if self.events.push(event, weight) {
            self.request_run();
        }
    }

    fn push_item(self: &Arc<Self>, item: Arc<Item>, bytes: usize) {
        self.push(GroupEvent::Item(item), bytes.max(ITEM_WEIGHT_MIN));
        let mut has_dropped = false;
        while let Some(event) = self.events.remove_above(BACKLOG_BYTES_MAX) {
            has_dropped = true;
            drop(event);
        }
        if has_dropped && self.policy == SlowSubscriber::EndStream {
            self.push(GroupEvent::Finish(Err(too_slow())), 0);
        }
    }

    fn request_run(self: &Arc<Self>) {
        self.port.run_task(self.clone());
    }

    fn state(&self) -> MutexGuard<'_, GroupState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the events, and offers items to the subscribers. Returns whether more is left to do.
    fn deliver(self: &Arc<Self>) -> bool {
        let mut state = self.state();
        let mut offered = 0;
        loop {
            while let Some(item) = state.current.clone() {
                if offered == RUN_SUBSCRIBERS_MAX {
                    return true;
                }
                match state.waiting.pop() {
                    Some(key) => self.offer(&mut state, key, &item),
                    None => state.current = None,
                }
                offered += 1;
            }
            match self.events.pop() {
                None => return false,
                Some(GroupEvent::Add(subscriber)) => self.add(&mut state, subscriber),
                Some(GroupEvent::Item(item)) => {
                    let GroupState { subscribers, current, waiting } = &mut *state;
                    *current = Some(item);
                    subscribers.keys_into(waiting);
                }
                Some(GroupEvent::Ready(key)) => self.flush(&mut state, key),
                Some(GroupEvent::Ended(key)) => self.remove(&mut state, key),
                Some(GroupEvent::Finish(result)) => self.finish(&mut state, &result),
            }
        }
    }

    /// Ends the streams of all subscribers: at once, or after the items for which they are not ready.
    fn finish(&self, state: &mut GroupState, result: &Result<(), Status>) {
        let mut keys = Vec::new();
        state.subscribers.keys_into(&mut keys);
        for key in keys {
            let Some(subscriber) = state.subscribers.at_mut(key) else { continue };
            if subscriber.pending.is_empty() {
                subscriber.link.finish(result.clone());
                self.remove(state, key);
            } else {
                subscriber.end = Some(result.clone());
            }
        }
    }

    fn add(self: &Arc<Self>, state: &mut GroupState, subscriber: Subscriber) {
        let link = subscriber.link.clone();
        let key = state.subscribers.insert(subscriber);
        link.wait_for_cancel(self.waiter(GroupEvent::Ended(key)));
    }

    /// Creates a waiter that sends an event to this group.
    fn waiter(self: &Arc<Self>, event: GroupEvent) -> SinkWaiter {
        let group = self.clone();
        SinkWaiter::Internal(Box::new(move || group.push(event, 0)))
    }

    fn remove(&self, state: &mut GroupState, key: Key) {
        if state.subscribers.remove(key).is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
            state.subscribers.shrink();
        }
    }

    /// Sends an item to a subscriber, or keeps it for later as the policy says.
    fn offer(self: &Arc<Self>, state: &mut GroupState, key: Key, item: &Arc<Item>) {
        let Some(subscriber) = state.subscribers.at_mut(key) else { return };
        let kept_max = match self.policy {
            SlowSubscriber::KeepLatest => 1,
            SlowSubscriber::DropOldest(items) => items.max(1),
            SlowSubscriber::EndStream => 0,
        };
        if subscriber.pending.is_empty() {
            match subscriber.send(item) {
                Ok(()) => return,
                Err(SinkError::NotReady) if kept_max > 0 => {}
                Err(error) => {
                    let is_slow = error == SinkError::NotReady;
                    subscriber.link.finish(Err(if is_slow { too_slow() } else { error.into() }));
                    self.remove(state, key);
                    return;
                }
            }
        }
        if subscriber.pending.len() >= kept_max {
            subscriber.pending.pop_front();
        }
        subscriber.pending.push_back(item.clone());
        if subscriber.pending.len() == 1 {
            self.flush(state, key);
        }
    }

    /// Sends what a subscriber has missed, or waits until it is ready.
    fn flush(self: &Arc<Self>, state: &mut GroupState, key: Key) {
        let Some(subscriber) = state.subscribers.at_mut(key) else { return };
        while let Some(item) = subscriber.pending.front() {
            match subscriber.send(item) {
                Ok(()) => drop(subscriber.pending.pop_front()),
                Err(SinkError::NotReady) => {
                    // Comes back as an event, at once if the sink is ready by now.
                    let waiter = self.waiter(GroupEvent::Ready(key));
                    return subscriber.link.wait(waiter);
                }
                Err(error) => {
                    subscriber.link.finish(Err(error.into()));
                    self.remove(state, key);
                    return;
                }
            }
        }
        subscriber.pending = VecDeque::new();
        if let Some(end) = subscriber.end.take() {
            subscriber.link.finish(end);
            self.remove(state, key);
        }
    }
}

impl ReactorTask for Group {
    fn run(self: Arc<Self>) -> bool {
        self.deliver()
    }
}

fn too_slow() -> Status {
    Status::resource_exhausted("the subscriber takes items more slowly than they are sent")
}
