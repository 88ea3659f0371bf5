//! The trace headers of a call: W3C Trace Context (level 2), B3 single and `X-B3-*`, and W3C Baggage.
//!
//! Pure functions over metadata, which every protocol fills from its own headers. A header that breaks a rule counts as
//! absent, and is counted; it is never an error for the caller. Of several formats, W3C takes precedence, then `b3`, then
//! `X-B3-*`.

use std::sync::Arc;

use super::{SpanId, TraceContext, TraceId};
use crate::message::{Metadata, MetadataBuf};

/// The longest `tracestate` that is passed on, in characters (W3C Trace Context section 3.3.1.5).
const STATE_BYTES_MAX: usize = 512;
/// The most members of a `tracestate` (W3C Trace Context section 3.3.1.1).
const STATE_MEMBERS_MAX: usize = 32;
/// The longest key or value of a member of a `tracestate`.
const STATE_PART_BYTES_MAX: usize = 256;
/// The longest baggage that is passed on, in bytes (W3C Baggage section 3.3.2).
const BAGGAGE_BYTES_MAX: usize = 8192;
/// The most members of a baggage.
const BAGGAGE_MEMBERS_MAX: usize = 180;

/// The length of a `traceparent` of version 00.
const PARENT_BYTES: usize = 55;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
const B3: &str = "b3";
const X_B3_TRACE_ID: &str = "x-b3-traceid";
const X_B3_SPAN_ID: &str = "x-b3-spanid";
const X_B3_PARENT: &str = "x-b3-parentspanid";
const X_B3_SAMPLED: &str = "x-b3-sampled";
const X_B3_FLAGS: &str = "x-b3-flags";
const BAGGAGE: &str = "baggage";

/// The keys of trace contexts; baggage is not among them.
const CONTEXT_KEYS: [&str; 8] =
    [TRACEPARENT, TRACESTATE, B3, X_B3_TRACE_ID, X_B3_SPAN_ID, X_B3_PARENT, X_B3_SAMPLED, X_B3_FLAGS];

/// What a caller has sent of its trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReceivedTrace {
    /// The caller's span. Its `is_sampled` is [`ReceivedTrace::decision`], or false if the caller has not decided.
    pub(crate) parent: Option<TraceContext>,
    /// Whether the caller samples the trace; `None`: it leaves the decision to this side. B3 can send it without ids.
    pub(crate) decision: Option<bool>,
    /// Headers that break a rule.
    pub(crate) broken: u32,
    /// Two formats contradict each other.
    pub(crate) is_conflicting: bool,
    /// The baggage is too large, and is not passed on.
    pub(crate) is_baggage_dropped: bool,
}

/// What one format says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stated {
    ids: Option<(TraceId, SpanId)>,
    decision: Option<bool>,
    is_random: bool,
}

/// A header that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
struct Broken;

/// The value of a header that is sent at most once.
#[derive(Clone, Copy, Default)]
struct Once<'a> {
    value: Option<&'a [u8]>,
    is_repeated: bool,
}

impl<'a> Once<'a> {
    fn add(&mut self, value: &'a [u8]) {
        self.is_repeated |= self.value.is_some();
        self.value = Some(value.trim_ascii());
    }

    fn get(self) -> Result<Option<&'a [u8]>, Broken> {
        if self.is_repeated { Err(Broken) } else { Ok(self.value) }
    }
}

/// Returns whether metadata have an entry that [`receive`] looks at.
pub(crate) fn has_any(metadata: Metadata<'_>) -> bool {
    metadata.iter().any(|(key, _)| is_context_key(key) || key.eq_ignore_ascii_case(BAGGAGE))
}

/// Returns whether the key is that of a trace context, in any case.
pub(crate) fn is_context_key(key: &str) -> bool {
    // Most keys differ in the first letter.
    matches!(key.as_bytes().first(), Some(b't' | b'T' | b'b' | b'B' | b'x' | b'X'))
        && CONTEXT_KEYS.iter().any(|known| key.eq_ignore_ascii_case(known))
}

/// Reads what a caller has sent of its trace.
pub(crate) fn receive(metadata: Metadata<'_>) -> ReceivedTrace {
    let mut entries = [Once::default(); CONTEXT_KEYS.len()];
    let mut states = Vec::new();
    let mut baggage = BaggageSize::default();
    for (key, value) in metadata.iter() {
        if key.eq_ignore_ascii_case(BAGGAGE) {
            baggage.add(value);
        } else if key.eq_ignore_ascii_case(TRACESTATE) {
            states.push(value);
        } else if is_context_key(key)
            && let Some(index) = CONTEXT_KEYS.iter().position(|known| key.eq_ignore_ascii_case(known))
        {
            entries[index].add(value);
        }
    }
    let [traceparent, _, b3, trace_id, span_id, parent, sampled, flags] = entries;
    let mut received = ReceivedTrace { is_baggage_dropped: !baggage.fits(), ..ReceivedTrace::default() };
    let mut note = |stated: Result<Option<Stated>, Broken>| match stated {
        Ok(stated) => stated,
        Err(Broken) => {
            received.broken += 1;
            None
        }
    };
    let w3c = note(traceparent.get().and_then(|value| value.map(read_traceparent).transpose()));
    let single = note(b3.get().and_then(|value| value.map(read_b3).transpose()));
    let multi = note(read_x_b3([trace_id, span_id, parent, sampled, flags]));
    let is_w3c = w3c.is_some();
    let mut all = [w3c, single, multi].into_iter().flatten();
    let Some(first) = all.next() else { return received };
    received.is_conflicting = all.any(|other| contradicts(&first, &other));
    received.decision = first.decision;
    received.parent = first.ids.map(|(trace_id, span_id)| TraceContext {
        is_random: first.is_random,
        ..TraceContext::new(trace_id, span_id, first.decision.unwrap_or(false))
    });
    if is_w3c && !states.is_empty() {
        match read_tracestate(&states) {
            Ok(state) => {
                if let Some(parent) = &mut received.parent {
                    parent.state = state;
                }
            }
            Err(Broken) => received.broken += 1,
        }
    }
    received
}

fn contradicts(first: &Stated, other: &Stated) -> bool {
    let differs = |first: Option<bool>, other: Option<bool>| first.zip(other).is_some_and(|(a, b)| a != b);
    first.ids.zip(other.ids).is_some_and(|(first, other)| first != other)
        || differs(first.decision, other.decision)
}

/// Reads digits that are hexadecimal and in lower case.
fn hex(text: &[u8]) -> Result<u128, Broken> {
    debug_assert!(text.len() <= 32);
    text.iter().try_fold(0, |bits, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return Err(Broken),
        };
        Ok(bits << 4 | u128::from(value))
    })
}

fn span_id(text: &[u8]) -> Result<SpanId, Broken> {
    if text.len() != 16 {
        return Err(Broken);
    }
    // 16 digits are 64 bits.
    SpanId::new(hex(text)? as u64).ok_or(Broken)
}

/// Reads a trace id of 128 bits or, as B3 allows, of 64.
fn b3_trace_id(text: &[u8]) -> Result<TraceId, Broken> {
    if text.len() != 32 && text.len() != 16 {
        return Err(Broken);
    }
    TraceId::new(hex(text)?).ok_or(Broken)
}

/// Reads a `traceparent`, `VERSION-TRACE-SPAN-FLAGS`. Those of later versions may be longer.
fn read_traceparent(text: &[u8]) -> Result<Stated, Broken> {
    let (head, rest) = text.split_at_checked(PARENT_BYTES).ok_or(Broken)?;
    if [2, 35, 52].iter().any(|at| head[*at] != b'-') {
        return Err(Broken);
    }
    let version = hex(&head[..2])?;
    let has_rest = version > 0 && rest.first() == Some(&b'-');
    if version == 0xff || !(rest.is_empty() || has_rest) {
        return Err(Broken);
    }
    let trace_id = TraceId::new(hex(&head[3..35])?).ok_or(Broken)?;
    let span_id = span_id(&head[36..52])?;
    let flags = hex(&head[53..])?;
    Ok(Stated { ids: Some((trace_id, span_id)), decision: Some(flags & 1 != 0), is_random: flags & 2 != 0 })
}

/// Reads the values of all `tracestate` headers of a call. `None` if they have no members.
fn read_tracestate(values: &[&[u8]]) -> Result<Option<Arc<str>>, Broken> {
    let mut state = String::new();
    let mut keys = Vec::new();
    for member in values.iter().flat_map(|value| value.split(|byte| *byte == b',')) {
        let member = member.trim_ascii();
        if member.is_empty() {
            continue;
        }
        let text = std::str::from_utf8(member).map_err(|_| Broken)?;
        let (key, value) = text.split_once('=').ok_or(Broken)?;
        if !is_state_key(key) || keys.contains(&key) || !is_state_value(value) {
            return Err(Broken);
        }
        keys.push(key);
        if !state.is_empty() {
            state.push(',');
        }
        state.push_str(text);
        if keys.len() > STATE_MEMBERS_MAX || state.len() > STATE_BYTES_MAX {
            return Err(Broken);
        }
    }
    Ok((!keys.is_empty()).then(|| state.into()))
}

/// Whether this is a key of a `tracestate` (W3C Trace Context level 2, section 3.3.1.3.1).
fn is_state_key(key: &str) -> bool {
    let is_first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_other = |byte: u8| is_first(byte) || matches!(byte, b'_' | b'-' | b'*' | b'/' | b'@');
    key.len() <= STATE_PART_BYTES_MAX && key.bytes().next().is_some_and(is_first) && key.bytes().all(is_other)
}

/// Whether this is a value of a `tracestate`, without spaces around it (section 3.3.1.3.2).
fn is_state_value(value: &str) -> bool {
    let is_value = |byte: u8| (0x20..=0x7e).contains(&byte) && byte != b'=';
    (1..=STATE_PART_BYTES_MAX).contains(&value.len()) && value.bytes().all(is_value)
}

/// Reads a `b3` header: `TRACE-SPAN`, `TRACE-SPAN-SAMPLED`, `TRACE-SPAN-SAMPLED-PARENT`, or only the decision.
fn read_b3(text: &[u8]) -> Result<Stated, Broken> {
    let mut parts = text.split(|byte| *byte == b'-');
    let first = parts.next().unwrap_or_default();
    if let [decision] = first {
        let decision = Some(b3_decision(*decision)?);
        return match parts.next() {
            None => Ok(Stated { ids: None, decision, is_random: false }),
            Some(_) => Err(Broken),
        };
    }
    let trace_id = b3_trace_id(first)?;
    let span_id = span_id(parts.next().ok_or(Broken)?)?;
    let decision = match parts.next() {
        None => None,
        Some([decision]) => Some(b3_decision(*decision)?),
        Some(_) => return Err(Broken),
    };
    if let Some(parent) = parts.next() {
        is_parent(parent)?;
    }
    if parts.next().is_some() {
        return Err(Broken);
    }
    Ok(Stated { ids: Some((trace_id, span_id)), decision, is_random: false })
}

/// Reads the decision of a `b3` header; `d` (debug) samples the trace.
fn b3_decision(letter: u8) -> Result<bool, Broken> {
    match letter {
        b'1' | b'd' => Ok(true),
        b'0' => Ok(false),
        _ => Err(Broken),
    }
}

/// Checks the id of the caller's parent, which is not needed here.
fn is_parent(text: &[u8]) -> Result<(), Broken> {
    if text.len() != 16 { Err(Broken) } else { hex(text).map(|_| ()) }
}

/// Reads the `X-B3-*` headers: trace, span, parent, sampled and flags.
fn read_x_b3(entries: [Once<'_>; 5]) -> Result<Option<Stated>, Broken> {
    let [trace, span, parent, sampled, flags] = entries;
    let [trace, span, parent, sampled, flags] =
        [trace.get()?, span.get()?, parent.get()?, sampled.get()?, flags.get()?];
    if let Some(parent) = parent {
        is_parent(parent)?;
    }
    let sampled = match sampled {
        None => None,
        Some(b"1" | b"true") => Some(true),
        Some(b"0" | b"false") => Some(false),
        Some(_) => return Err(Broken),
    };
    // Flags 1 is debug, which samples the trace. Other values are ignored, as B3 has it.
    let decision = if flags == Some(b"1") { Some(true) } else { sampled };
    let ids = match (trace, span) {
        (None, None) => None,
        (Some(trace), Some(span)) => Some((b3_trace_id(trace)?, span_id(span)?)),
        _ => return Err(Broken),
    };
    if ids.is_none() && decision.is_none() {
        return if parent.is_some() { Err(Broken) } else { Ok(None) };
    }
    Ok(Some(Stated { ids, decision, is_random: false }))
}

/// The size of the baggage of a call.
#[derive(Clone, Copy, Debug, Default)]
struct BaggageSize {
    bytes: usize,
    members: usize,
}

impl BaggageSize {
    fn add(&mut self, value: &[u8]) {
        // Several headers are one list.
        self.bytes += value.len() + usize::from(self.members > 0);
        self.members +=
            value.split(|byte| *byte == b',').filter(|member| !member.trim_ascii().is_empty()).count();
    }

    fn fits(self) -> bool {
        self.bytes <= BAGGAGE_BYTES_MAX && self.members <= BAGGAGE_MEMBERS_MAX
    }
}

/// Decides which entries a nested call inherits, as far as traces are concerned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InheritedEntries {
    /// A span of the call replaces the caller's trace headers.
    is_replaced: bool,
    fits_baggage: bool,
}

impl InheritedEntries {
    /// Looks at all entries of the caller. If `is_replaced`, its trace context is not inherited. Baggage is, unless it is
    /// too large.
    pub(crate) fn new(metadata: Metadata<'_>, is_replaced: bool) -> InheritedEntries {
        let mut size = BaggageSize::default();
        metadata
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(BAGGAGE))
            .for_each(|(_, value)| size.add(value));
        InheritedEntries { is_replaced, fits_baggage: size.fits() }
    }

    /// Returns whether the entry with that key is inherited.
    pub(crate) fn includes(self, key: &str) -> bool {
        let is_left_out = self.is_replaced && is_context_key(key)
            || !self.fits_baggage && key.eq_ignore_ascii_case(BAGGAGE);
        !is_left_out
    }
}

/// Replaces the trace headers in the metadata of a call by those of the context. If they do not fit beside the other
/// entries, the call is sent without.
pub(crate) fn send(context: &TraceContext, sends_b3: bool, metadata: &mut MetadataBuf) {
    if metadata.view().iter().any(|(key, _)| is_context_key(key)) {
        let mut kept = MetadataBuf::new();
        for (key, value) in metadata.view().iter().filter(|(key, _)| !is_context_key(key)) {
            // They fitted before.
            let _ = kept.push(key, value);
        }
        *metadata = kept;
    }
    let TraceContext { trace_id, span_id, is_sampled, .. } = *context;
    if metadata.push(TRACEPARENT, context.to_string().as_bytes()).is_ok()
        && let Some(state) = &context.state
    {
        let _ = metadata.push(TRACESTATE, state.as_bytes());
    }
    if sends_b3 {
        let text = format!("{trace_id}-{span_id}-{}", u8::from(is_sampled));
        let _ = metadata.push(B3, text.as_bytes());
    }
}

#[cfg(test)]
mod tests;
