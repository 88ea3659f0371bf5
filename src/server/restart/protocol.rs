//! The takeover protocol: how a running process passes its listening sockets to a new one. Bytes and descriptors in,
//! steps out; no socket is used here.
//!
//! Both ends are on one machine, and usually of one version. Every frame is a `u32` length (little-endian, of what
//! follows), a kind, and a payload:
//!
//! | kind | from | payload |
//! |---|---|---|
//! | 1 hello | both, first | the bytes `coreloop`, a `u16` version |
//! | 2 refused | old | a text; then the old process closes the connection and serves on |
//! | 3 sockets | old | for each of up to 64 sockets: `u8` flags, a `u16` length, its name; the descriptors travel with the frame's first byte |
//! | 4 state | old | a `u8` length, a name, opaque bytes: something else that lives on, such as the keys of TLS tickets; unknown names are ignored |
//! | 5 end | old | the `u32` number of sockets: the offer is complete |
//! | 6 ready | new | for each adopted name: a `u16` length, the name: the new process accepts connections |
//! | 7 yours | old | nothing: the sockets are the new process's, and the old one drains |
//!
//! The old process decides: before it has sent `yours` it serves on, whatever happens to the new one.

use std::collections::VecDeque;
use std::fmt;

/// The version of the protocol; another one is refused.
pub(super) const VERSION: u16 = 1;
/// The first bytes of a hello.
const MAGIC: &[u8; 8] = b"coreloop";
/// The largest frame, without its length.
const FRAME_BYTES_MAX: usize = 64 * 1024;
/// The most sockets in one frame: as many descriptors as one message may have.
pub(super) const SOCKETS_PER_FRAME: usize = coreloop_poller::os::fds::FDS_MAX;
/// The most sockets of one takeover.
const SOCKETS_MAX: usize = 16 * 1024;
/// The most state of one takeover: entries and bytes.
const STATES_MAX: usize = 16;

const HELLO: u8 = 1;
const REFUSED: u8 = 2;
const SOCKETS: u8 = 3;
const STATE: u8 = 4;
const END: u8 = 5;
const READY: u8 = 6;
const YOURS: u8 = 7;

/// In the flags of a socket: the process that has it also removes the file of a Unix socket.
const OWNED: u8 = 1;

/// Why a takeover has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The old process has refused, for this reason.
    Refused(String),
    /// The other process speaks this version.
    Version(u16),
    /// The other process does not keep to the protocol.
    Broken(&'static str),
}

/// A socket on its way, with the address that it is configured with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PassedSocket<F> {
    pub(super) name: String,
    /// The process that has the socket removes the file of a Unix socket in the end. Not so for those of systemd.
    pub(super) is_owned: bool,
    pub(super) socket: F,
}

/// What the old process passes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Offer<F> {
    pub(super) sockets: Vec<PassedSocket<F>>,
    pub(super) states: Vec<PassedState>,
}

/// Something else that lives on: by name, bytes that are opaque here. They may be secret, so that `Debug` does not show them.
#[derive(PartialEq, Eq)]
pub(super) struct PassedState {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}

impl fmt::Debug for PassedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PassedState").field("name", &self.name).finish_non_exhaustive()
    }
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let len = payload.len() + 1;
    debug_assert!(len <= FRAME_BYTES_MAX);
    let mut bytes = (len as u32).to_le_bytes().to_vec();
    bytes.push(kind);
    bytes.extend_from_slice(payload);
    bytes
}

/// Returns a text of at most `bytes_max` bytes.
fn cut(text: &str, bytes_max: usize) -> &str {
    let end = (0..=text.len().min(bytes_max)).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

/// The first frame of each end.
pub(super) fn hello(version: u16) -> Vec<u8> {
    frame(HELLO, &[&MAGIC[..], &version.to_le_bytes()].concat())
}

/// The refusal of a takeover.
pub(super) fn refused(text: &str) -> Vec<u8> {
    frame(REFUSED, cut(text, 1000).as_bytes())
}

/// One frame for sockets, of which there are at most [`SOCKETS_PER_FRAME`]: names and whether they are owned.
pub(super) fn sockets<'a>(sockets: impl Iterator<Item = (&'a str, bool)>) -> Vec<u8> {
    let mut payload = Vec::new();
    for (name, is_owned) in sockets {
        payload.push(if is_owned { OWNED } else { 0 });
        put_name(name, &mut payload);
    }
    frame(SOCKETS, &payload)
}

/// A piece of state; `None` if it is too large for a frame.
pub(super) fn state(name: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let len = u8::try_from(name.len()).ok()?;
    let payload = [&[len], name.as_bytes(), bytes].concat();
    (payload.len() < FRAME_BYTES_MAX).then(|| frame(STATE, &payload))
}

/// The end of an offer.
pub(super) fn end(sockets: usize) -> Vec<u8> {
    frame(END, &(sockets as u32).to_le_bytes())
}

/// The last word of the old process.
pub(super) fn yours() -> Vec<u8> {
    frame(YOURS, &[])
}

fn ready<'a>(names: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let mut payload = Vec::new();
    names.for_each(|name| put_name(name, &mut payload));
    frame(READY, &payload)
}

fn put_name(name: &str, into: &mut Vec<u8>) {
    // An address: its host or path has at most some hundred bytes.
    let name = cut(name, 900);
    into.extend_from_slice(&(name.len() as u16).to_le_bytes());
    into.extend_from_slice(name.as_bytes());
}

/// The parts of a payload, from its start.
struct Parts<'a>(&'a [u8]);

impl<'a> Parts<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        let (part, rest) = self.0.split_at_checked(len).ok_or(Fault::Broken("a frame is too short"))?;
        self.0 = rest;
        Ok(part)
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16, Fault> {
        Ok(u16::from_le_bytes(self.take(2)?.try_into().expect("two bytes")))
    }

    fn text(&mut self, len: usize) -> Result<String, Fault> {
        let text = std::str::from_utf8(self.take(len)?).map_err(|_| Fault::Broken("a name is not UTF-8"))?;
        Ok(text.to_owned())
    }

    fn name(&mut self) -> Result<String, Fault> {
        let len = usize::from(self.u16()?);
        self.text(len)
    }
}

/// The bytes of whole and partial frames.
#[derive(Default)]
struct Frames(Vec<u8>);

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames").field("bytes", &self.0.len()).finish()
    }
}

impl Frames {
    /// Returns the next whole frame: its kind and its payload.
    fn next(&mut self) -> Result<Option<(u8, Vec<u8>)>, Fault> {
        let Some(head) = self.0.first_chunk::<4>() else { return Ok(None) };
        let len = u32::from_le_bytes(*head) as usize;
        if len == 0 || len > FRAME_BYTES_MAX {
            return Err(Fault::Broken("the length of a frame is not from 1 to 65,536"));
        }
        if self.0.len() < 4 + len {
            return Ok(None);
        }
        let frame = self.0[4..4 + len].to_vec();
        self.0.drain(..4 + len);
        let (kind, payload) = frame.split_first().expect("at least one byte");
        Ok(Some((*kind, payload.to_vec())))
    }
}

fn check_hello(payload: &[u8]) -> Result<(), Fault> {
    let mut parts = Parts(payload);
    if parts.take(MAGIC.len())? != MAGIC {
        return Err(Fault::Broken("the first frame is not that of a takeover"));
    }
    // A later version may say more.
    match parts.u16()? {
        VERSION => Ok(()),
        other => Err(Fault::Version(other)),
    }
}

/// The old process's end.
#[derive(Debug, Default)]
pub(super) struct Donor {
    frames: Frames,
    state: DonorState,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum DonorState {
    #[default]
    AwaitsHello,
    AwaitsReady,
    Over,
}

/// What the old process does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DonorStep {
    /// Wait for more bytes.
    Wait,
    /// Send the offer.
    Offer,
    /// Send `yours`, and drain once it is sent: the new process has adopted the sockets with these names.
    Ready(Vec<String>),
}

impl Donor {
    /// Takes bytes of the new process.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<DonorStep, Fault> {
        self.frames.0.extend_from_slice(bytes);
        let Some((kind, payload)) = self.frames.next()? else { return Ok(DonorStep::Wait) };
        match (&self.state, kind) {
            (DonorState::AwaitsHello, HELLO) => {
                check_hello(&payload)?;
                if !self.frames.0.is_empty() {
                    return Err(Fault::Broken("the new process did not wait for the offer"));
                }
                self.state = DonorState::AwaitsReady;
                Ok(DonorStep::Offer)
            }
            (DonorState::AwaitsReady, READY) => {
                let mut parts = Parts(&payload);
                let mut names = Vec::new();
                while !parts.0.is_empty() {
                    names.push(parts.name()?);
                }
                self.state = DonorState::Over;
                Ok(DonorStep::Ready(names))
            }
            (DonorState::AwaitsHello | DonorState::AwaitsReady | DonorState::Over, _) => {
                Err(Fault::Broken("the new process sent a frame that is not due"))
            }
        }
    }
}

/// The new process's end.
#[derive(Debug)]
pub(super) struct Heir<F> {
    frames: Frames,
    /// Descriptors whose names have not arrived yet.
    fds: VecDeque<F>,
    state: HeirState<F>,
}

#[derive(Debug)]
enum HeirState<F> {
    AwaitsHello,
    AwaitsOffer(Offer<F>),
    /// The offer is complete; this process prepares to serve, or has said that it does.
    Adopts,
    Over,
}

/// What the new process does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeirStep<F> {
    /// Wait for more bytes.
    Wait,
    /// Begin to serve with these sockets, then call [`Heir::ready`].
    Adopt(Offer<F>),
    /// The sockets are this process's.
    Yours,
}

impl<F> Heir<F> {
    /// Returns the end of a new process, and its first bytes.
    pub(super) fn new() -> (Heir<F>, Vec<u8>) {
        (
            Heir { frames: Frames::default(), fds: VecDeque::new(), state: HeirState::AwaitsHello },
            hello(VERSION),
        )
    }

    /// Returns the bytes that say which sockets are adopted, and that connections are accepted.
    pub(super) fn ready<'a>(&self, names: impl Iterator<Item = &'a str>) -> Vec<u8> {
        ready(names)
    }

    /// Takes bytes of the old process, and the descriptors that came with them.
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        fds: impl IntoIterator<Item = F>,
    ) -> Result<HeirStep<F>, Fault> {
        self.frames.0.extend_from_slice(bytes);
        self.fds.extend(fds);
        while let Some((kind, payload)) = self.frames.next()? {
            match self.on_frame(kind, &payload)? {
                HeirStep::Wait => {}
                step => return Ok(step),
            }
        }
        Ok(HeirStep::Wait)
    }

    fn on_frame(&mut self, kind: u8, payload: &[u8]) -> Result<HeirStep<F>, Fault> {
        if kind == REFUSED {
            return Err(Fault::Refused(String::from_utf8_lossy(payload).into_owned()));
        }
        match (&mut self.state, kind) {
            (HeirState::AwaitsHello, HELLO) => {
                if let Err(fault) = check_hello(payload) {
                    // An old process of another version says why it refuses.
                    return match (&fault, self.frames.next()) {
                        (Fault::Version(_), Ok(Some((REFUSED, text)))) => self.on_frame(REFUSED, &text),
                        (_, Ok(_) | Err(_)) => Err(fault),
                    };
                }
                self.state = HeirState::AwaitsOffer(Offer { sockets: Vec::new(), states: Vec::new() });
                Ok(HeirStep::Wait)
            }
            (HeirState::AwaitsOffer(offer), SOCKETS) => {
                let mut parts = Parts(payload);
                while !parts.0.is_empty() {
                    let is_owned = parts.byte()? & OWNED != 0;
                    let name = parts.name()?;
                    let socket = self.fds.pop_front().ok_or(Fault::Broken("a socket did not arrive"))?;
                    if offer.sockets.len() == SOCKETS_MAX {
                        return Err(Fault::Broken("more than 16,384 sockets"));
                    }
                    offer.sockets.push(PassedSocket { name, is_owned, socket });
                }
                Ok(HeirStep::Wait)
            }
            (HeirState::AwaitsOffer(offer), STATE) => {
                let mut parts = Parts(payload);
                let len = usize::from(parts.byte()?);
                let name = parts.text(len)?;
                if offer.states.len() == STATES_MAX {
                    return Err(Fault::Broken("more than 16 pieces of state"));
                }
                offer.states.push(PassedState { name, bytes: parts.0.to_vec() });
                Ok(HeirStep::Wait)
            }
            (HeirState::AwaitsOffer(offer), END) => {
                let count = u32::from_le_bytes(
                    payload.try_into().map_err(|_| Fault::Broken("the end of the offer has no number"))?,
                );
                if offer.sockets.len() != count as usize || !self.fds.is_empty() {
                    return Err(Fault::Broken("another number of sockets arrived than were sent"));
                }
                let offer = std::mem::replace(offer, Offer { sockets: Vec::new(), states: Vec::new() });
                self.state = HeirState::Adopts;
                Ok(HeirStep::Adopt(offer))
            }
            (HeirState::Adopts, YOURS) => {
                self.state = HeirState::Over;
                Ok(HeirStep::Yours)
            }
            (HeirState::AwaitsHello | HeirState::AwaitsOffer(_) | HeirState::Adopts | HeirState::Over, _) => {
                Err(Fault::Broken("the old process sent a frame that is not due"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offer_bytes() -> Vec<u8> {
        let names = [("127.0.0.1:0", true), ("127.0.0.1:0", true), ("unix:/run/é", false)];
        [
            hello(VERSION),
            sockets(names[..2].iter().copied()),
            sockets(names[2..].iter().copied()),
            state("ticket-keys", &[7; 40]).unwrap(),
            end(3),
        ]
        .concat()
    }

    fn offered() -> Offer<u32> {
        let socket = |name: &str, is_owned, socket| PassedSocket { name: name.to_owned(), is_owned, socket };
        Offer {
            sockets: vec![
                socket("127.0.0.1:0", true, 1),
                socket("127.0.0.1:0", true, 2),
                socket("unix:/run/é", false, 3),
            ],
            states: vec![PassedState { name: "ticket-keys".to_owned(), bytes: vec![7; 40] }],
        }
    }

    #[test]
    fn an_offer_arrives_wherever_its_bytes_are_split() {
        let bytes = offer_bytes();
        for split in 0..=bytes.len() {
            let (mut heir, first) = Heir::new();
            assert_eq!(Donor::default().receive(&first), Ok(DonorStep::Offer));
            // Descriptors never come later than their frame.
            let (early, late) = ([1, 2, 3], Vec::new());
            let mut step = heir.receive(&bytes[..split], early).unwrap();
            if split < bytes.len() {
                assert_eq!(step, HeirStep::Wait, "split at {split}");
                step = heir.receive(&bytes[split..], late).unwrap();
            }
            assert_eq!(step, HeirStep::Adopt(offered()), "split at {split}");
            assert_eq!(heir.receive(&yours()[..3], []), Ok(HeirStep::Wait));
            assert_eq!(heir.receive(&yours()[3..], []), Ok(HeirStep::Yours));
        }
    }

    #[test]
    fn a_donor_takes_its_frames_wherever_they_are_split() {
        let names = ["127.0.0.1:0", "unix:/a"];
        let (heir, first) = Heir::<u32>::new();
        let ready = heir.ready(names.into_iter());
        for at in 0..first.len() {
            let mut donor = Donor::default();
            assert_eq!(donor.receive(&first[..at]), Ok(DonorStep::Wait));
            assert_eq!(donor.receive(&first[at..]), Ok(DonorStep::Offer));
            for at in 0..ready.len() {
                let mut donor = Donor { frames: Frames::default(), state: DonorState::AwaitsReady };
                assert_eq!(donor.receive(&ready[..at]), Ok(DonorStep::Wait));
                let names = names.map(str::to_owned).to_vec();
                assert_eq!(donor.receive(&ready[at..]), Ok(DonorStep::Ready(names)));
            }
        }
    }

    #[test]
    fn a_refusal_is_understood_at_any_time_and_of_any_version() {
        let (mut heir, _) = Heir::<u32>::new();
        let bytes = [hello(9), refused("no: é")].concat();
        assert_eq!(heir.receive(&bytes, []), Err(Fault::Refused("no: é".to_owned())));
        let (mut heir, _) = Heir::<u32>::new();
        assert_eq!(heir.receive(&hello(9), []), Err(Fault::Version(9)));
        // Not of a process that speaks something else.
        let (mut heir, _) = Heir::<u32>::new();
        let bytes = [frame(HELLO, b"coreLOOP\x01\0"), refused("no")].concat();
        assert!(matches!(heir.receive(&bytes, []), Err(Fault::Broken(_))));
        let (mut heir, _) = Heir::new();
        assert!(matches!(heir.receive(&offer_bytes(), [1, 2, 3]), Ok(HeirStep::Adopt(_))));
        assert_eq!(heir.receive(&refused("late"), []), Err(Fault::Refused("late".to_owned())));
    }

    #[test]
    fn another_version_is_refused() {
        assert_eq!(Donor::default().receive(&hello(2)), Err(Fault::Version(2)));
    }

    #[test]
    fn frames_that_are_not_due_are_refused() {
        let is_broken = |result: Result<DonorStep, Fault>| matches!(result, Err(Fault::Broken(_)));
        assert!(is_broken(Donor::default().receive(&ready(["a"].into_iter()))));
        assert!(is_broken(Donor::default().receive(&[hello(VERSION), ready([].into_iter())].concat())));
        assert!(is_broken(Donor::default().receive(b"GET / HTTP/1.1\r\n\r\n")));
        assert!(is_broken(Donor::default().receive(&frame(HELLO, b"coreLOOP\x01\x00"))));
        let (mut heir, _) = Heir::<u32>::new();
        assert!(matches!(heir.receive(&yours(), []), Err(Fault::Broken(_))));
        // More or fewer descriptors than names.
        for fds in [vec![1, 2], vec![1, 2, 3, 4]] {
            let (mut heir, _) = Heir::new();
            assert!(matches!(heir.receive(&offer_bytes(), fds), Err(Fault::Broken(_))));
        }
    }

    #[test]
    fn state_is_not_shown_for_debugging() {
        let secret = format!("{:?}", [7_u8; 2]).trim_matches(['[', ']']).to_owned();
        let (mut heir, _) = Heir::<u32>::new();
        let bytes = offer_bytes();
        // In the middle of the state, and as a part of the whole offer.
        heir.receive(&bytes[..bytes.len() - 15], [1, 2, 3]).unwrap();
        for shown in [format!("{heir:?}"), format!("{:?}", offered())] {
            assert!(shown.contains("127.0.0.1:0") && !shown.contains(&secret), "{shown}");
        }
    }

    #[test]
    fn state_has_a_limit() {
        assert!(state("k", &[0; FRAME_BYTES_MAX - 10]).is_some());
        assert!(state("k", &[0; FRAME_BYTES_MAX]).is_none());
        assert!(state(&"k".repeat(256), &[]).is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_cause_a_panic(parts in proptest::collection::vec(any::<Vec<u8>>(), 0..8), kind in 0_u8..9) {
            let (mut heir, _) = Heir::new();
            let mut donor = Donor::default();
            let _ = heir.receive(&hello(VERSION), [1_u32]);
            for part in parts {
                let framed = frame(kind, &part);
                let _ = (heir.receive(&framed, []), donor.receive(&framed));
                let _ = (heir.receive(&part, []), donor.receive(&part));
            }
        }
    }
}
