//! A fault at one frame of a connection: the frame is late, is lost with the connection, is cut by its end, or comes
//! twice.

use crate::rng::Rng;

/// What happens to the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameFaultKind {
    /// It and all frames behind it are held back for this many steps.
    Delayed(usize),
    /// The connection is lost before the frame: those before it have arrived.
    Lost,
    /// The connection is lost within the frame.
    Cut,
    /// It arrives twice. Frames that would make a message or credit appear twice are left out: no end can notice that.
    Twice,
}

/// A fault, and the frame that it happens to.
#[derive(Debug)]
pub struct FrameFault {
    kind: FrameFaultKind,
    /// The direction: from the client to the server, or back.
    pub is_up: bool,
    /// Frames that pass before it.
    passes: usize,
    /// How much of a frame arrives before it is cut, in 1/256.
    cut_at: usize,
    /// Where the frame begins and ends among the bytes of its direction, once it has been sent.
    place: Option<(u64, u64)>,
    /// The fault has happened.
    pub is_over: bool,
}

impl FrameFault {
    /// Draws the frame that a fault happens to.
    pub fn new(kind: FrameFaultKind, rng: &mut Rng) -> FrameFault {
        let passes_max = [3, 20, 200][rng.below(3)];
        FrameFault {
            kind,
            is_up: rng.one_in(2),
            passes: rng.below(passes_max),
            cut_at: rng.below(256),
            place: None,
            is_over: false,
        }
    }

    /// Takes note of a frame that begins after this many bytes of its direction. Returns whether it is sent twice.
    pub fn on_frame(&mut self, begins: u64, bytes: usize, may_repeat: bool) -> bool {
        if self.place.is_some() || self.kind == FrameFaultKind::Twice && !may_repeat {
            return false;
        }
        if self.passes > 0 {
            self.passes -= 1;
            return false;
        }
        self.place = Some((begins, begins + bytes as u64));
        self.is_over = self.kind == FrameFaultKind::Twice;
        self.is_over
    }

    /// Returns how many bytes of the direction may arrive, and whether the connection is lost once they have.
    pub fn limit(&self) -> (u64, bool) {
        let Some((begins, ends)) = self.place.filter(|_| !self.is_over) else { return (u64::MAX, false) };
        match self.kind {
            FrameFaultKind::Delayed(_) => (begins, false),
            FrameFaultKind::Lost => (begins, true),
            FrameFaultKind::Cut => (begins + 1 + (ends - begins - 1) * self.cut_at as u64 / 256, true),
            FrameFaultKind::Twice => (u64::MAX, false),
        }
    }

    /// A step has passed.
    pub fn step(&mut self) {
        if let (FrameFaultKind::Delayed(steps), Some(_)) = (&mut self.kind, self.place) {
            *steps = steps.saturating_sub(1);
            self.is_over |= *steps == 0;
        }
    }
}
