//! The frames that concern the connection: SETTINGS, PING, GOAWAY, priorities, resets, window updates; the passage of
//! time; and the end of the connection, graceful or not.

use std::time::{Duration, Instant};

use super::blocks::self_dependency;
use super::{
    ConnectionPhase, DrainPhase, Http2Connection, Http2Event, Http2Step, RESETS_REMEMBERED, TOO_MANY,
};
use crate::wire::Out;
use crate::wire::http2::fault::{Http2Code, Http2Fault};
use crate::wire::http2::frame::{self, Http2Frame, MAX_31_BITS, SettingEntries};
use crate::wire::http2::settings::{WINDOW_DEFAULT, payload_of, setting};
use crate::wire::http2::streams::Http2StreamState;

/// The payload of the ping whose answer shows that the peer has read the notice of a drain.
const DRAIN_PING: [u8; 8] = *b"draining";

impl Http2Connection {
    pub(super) fn write_settings(&mut self, out: &mut Out<'_>) {
        let limits = &self.limits;
        let payload = payload_of([
            (setting::HEADER_TABLE_SIZE, limits.header_table_bytes),
            (setting::MAX_CONCURRENT_STREAMS, limits.streams_max),
            (setting::INITIAL_WINDOW_SIZE, limits.stream_window_bytes.min(MAX_31_BITS)),
            (setting::MAX_HEADER_LIST_SIZE, u32::try_from(limits.header_list_bytes_max).unwrap_or(u32::MAX)),
        ]);
        if let Some(entries) = SettingEntries::new(&payload) {
            self.write_frame(Http2Frame::Settings(entries), out);
        }
        let more = self.limits.connection_window_bytes.min(MAX_31_BITS).saturating_sub(WINDOW_DEFAULT);
        if more > 0 {
            out.put(&frame::window_update(0, more));
        }
    }

    fn write_frame(&mut self, frame: Http2Frame<'_>, out: &mut Out<'_>) {
        self.scratch.clear();
        frame.print(&mut self.scratch);
        out.put(&self.scratch);
    }

    pub(super) fn on_control(&mut self, frame: Http2Frame<'_>, out: &mut Out<'_>) -> Result<(), Http2Fault> {
        match frame {
            Http2Frame::Settings(entries) => self.on_settings(entries, out),
            Http2Frame::SettingsAck => self.on_settings_ack(),
            Http2Frame::Ping { is_ack: false, payload } => {
                self.charge_excusable()?;
                out.put(&frame::ping(true, payload));
                Ok(())
            }
            Http2Frame::Ping { is_ack: true, payload } => {
                if payload == DRAIN_PING && self.drain == DrainPhase::Announced {
                    self.finish_drain(out);
                    return Ok(());
                }
                self.charge()
            }
            Http2Frame::Priority { stream, priority } => {
                self.charge()?;
                if priority.depends_on == stream { Err(self_dependency(stream)) } else { Ok(()) }
            }
            Http2Frame::PushPromise { .. } => Err(Http2Fault::protocol("a client pushed a request")),
            // A client that will open no more streams still gets its answers.
            Http2Frame::GoAway { .. } | Http2Frame::Unknown { .. } => self.charge(),
            Http2Frame::Data { .. }
            | Http2Frame::Headers { .. }
            | Http2Frame::Continuation { .. }
            | Http2Frame::Reset { .. }
            | Http2Frame::WindowUpdate { .. } => Ok(()),
        }
    }

    pub(super) fn charge_excusable(&mut self) -> Result<(), Http2Fault> {
        if self.budget.charge_excusable() { Ok(()) } else { Err(TOO_MANY) }
    }

    fn on_settings(&mut self, entries: SettingEntries<'_>, out: &mut Out<'_>) -> Result<(), Http2Fault> {
        if self.phase == ConnectionPhase::FirstSettings {
            self.phase = ConnectionPhase::Running;
        } else {
            self.charge()?;
        }
        let before = self.peer.initial_window;
        if let Some(least) = self.peer.apply(entries)? {
            self.encoder.set_peer_max(least as usize, self.peer.table_bytes as usize);
        }
        let difference = i64::from(self.peer.initial_window) - i64::from(before);
        if difference != 0 {
            for (_, stream) in self.streams.iter_mut() {
                stream.send.shift(difference).map_err(|_| {
                    let why = "INITIAL_WINDOW_SIZE makes a stream's window overflow";
                    Http2Fault::connection(Http2Code::FLOW_CONTROL_ERROR, why)
                })?;
            }
        }
        self.write_frame(Http2Frame::SettingsAck, out);
        if difference > 0 {
            self.queue_all(out);
        }
        Ok(())
    }

    fn on_settings_ack(&mut self) -> Result<(), Http2Fault> {
        if self.is_acknowledged {
            return self.charge();
        }
        self.is_acknowledged = true;
        self.decoder.acknowledged(self.limits.header_table_bytes as usize);
        let difference = i64::from(self.limits.stream_window_bytes) - i64::from(WINDOW_DEFAULT);
        self.streams.iter_mut().for_each(|(_, stream)| stream.receive.shift(difference));
        Ok(())
    }

    pub(super) fn on_window_update(
        &mut self,
        id: u32,
        increment: u32,
        out: &mut Out<'_>,
    ) -> Result<(), Http2Fault> {
        if id == 0 {
            let why = "the connection's window overflows";
            let fault = Http2Fault::connection(Http2Code::FLOW_CONTROL_ERROR, why);
            self.send.grow(increment).map_err(|_| fault)?;
        } else {
            if self.is_idle(id) {
                return Err(Http2Fault::protocol("WINDOW_UPDATE on an idle stream"));
            }
            if let Some(stream) =
                self.streams.get(id).filter(|stream| stream.state != Http2StreamState::GivenUp)
            {
                let why = "the stream's window overflows";
                let fault = Http2Fault::stream(id, Http2Code::FLOW_CONTROL_ERROR, why);
                stream.send.grow(increment).map_err(|_| fault)?;
                self.queue_if_held(id);
            }
        }
        // One byte of credit makes this side send a frame for one byte. Credit that comes in larger steps is useful.
        if increment < SMALL_INCREMENT {
            self.charge_excusable()?;
        }
        self.flush_held(out);
        Ok(())
    }

    pub(super) fn on_reset(
        &mut self,
        id: u32,
        code: Http2Code,
        out: &mut Out<'_>,
    ) -> Result<Option<Http2Event>, Http2Fault> {
        if self.is_idle(id) {
            return Err(Http2Fault::protocol("RST_STREAM on an idle stream"));
        }
        self.charge()?;
        let is_waiting = self.give_up(id, out);
        Ok(is_waiting.then_some(Http2Event::Reset { stream: id, code, is_by_peer: true }))
    }

    /// Drops what a stream still had to send. Returns true if its answer has not been submitted: then the stream
    /// remains until its call has ended.
    fn give_up(&mut self, id: u32, out: &mut Out<'_>) -> bool {
        let Some(stream) = self.streams.get(id) else { return false };
        if stream.state == Http2StreamState::GivenUp {
            return false;
        }
        let is_answered = stream.is_answered();
        stream.state = Http2StreamState::GivenUp;
        let held = stream.held.take();
        if is_answered {
            self.streams.remove(id);
        }
        self.drop_held(id, held, out);
        !is_answered
    }

    /// Ends a stream whose peer has broken a rule.
    pub(super) fn reset_for_fault(
        &mut self,
        id: u32,
        code: Http2Code,
        why: &'static str,
        out: &mut Out<'_>,
    ) -> Result<Option<Http2Event>, Http2Fault> {
        if self.is_idle(id) {
            // A stream that does not exist cannot be reset.
            return Err(Http2Fault::connection(code, why));
        }
        self.charge()?;
        let is_waiting = self.give_up(id, out);
        self.write_reset(id, code, out);
        Ok(is_waiting.then_some(Http2Event::Reset { stream: id, code, is_by_peer: false }))
    }

    /// Writes RST_STREAM, and remembers that frames on their way are no fault.
    pub(super) fn write_reset(&mut self, id: u32, code: Http2Code, out: &mut Out<'_>) {
        out.put(&frame::reset(id, code));
        if !self.resets.contains(&id) {
            if self.resets.len() >= RESETS_REMEMBERED {
                self.resets.pop_front();
            }
            self.resets.push_back(id);
        }
    }

    /// Ends the connection with GOAWAY.
    #[cold]
    pub(super) fn fail(&mut self, fault: Http2Fault, out: &mut Out<'_>) -> Http2Step {
        let (code, why) = match fault {
            Http2Fault::Connection { code, why } | Http2Fault::Stream { code, why, .. } => (code, why),
        };
        if self.phase != ConnectionPhase::Preface {
            let last_stream = self.last_stream;
            self.write_frame(Http2Frame::GoAway { last_stream, code, debug: why.as_bytes() }, out);
        }
        self.block = None;
        self.phase = ConnectionPhase::Failed(fault);
        Http2Step::Failed(fault)
    }

    /// Ends the connection with GOAWAY for a reason of the application.
    pub fn abort(&mut self, code: Http2Code, why: &'static str, out: &mut Out<'_>) {
        if !matches!(self.phase, ConnectionPhase::Failed(_)) {
            self.fail(Http2Fault::connection(code, why), out);
        }
    }

    /// Announces a graceful end. Streams that cross the notice are served; once the peer has answered the ping that
    /// follows it, or at [`finish_drain`](Http2Connection::finish_drain), later ones are refused.
    pub fn drain(&mut self, out: &mut Out<'_>) {
        let is_open = matches!(self.phase, ConnectionPhase::FirstSettings | ConnectionPhase::Running);
        if self.drain != DrainPhase::None || !is_open {
            return;
        }
        self.drain = DrainPhase::Announced;
        let (last_stream, code) = (MAX_31_BITS, Http2Code::NO_ERROR);
        self.write_frame(Http2Frame::GoAway { last_stream, code, debug: b"" }, out);
        out.put(&frame::ping(false, DRAIN_PING));
    }

    /// Names the last stream that is served. Later ones are refused, and may be repeated elsewhere.
    pub fn finish_drain(&mut self, out: &mut Out<'_>) {
        let is_open = matches!(self.phase, ConnectionPhase::FirstSettings | ConnectionPhase::Running);
        if self.drain == DrainPhase::Final || !is_open {
            return;
        }
        self.drain = DrainPhase::Final;
        let (last_stream, code) = (self.last_stream, Http2Code::NO_ERROR);
        self.write_frame(Http2Frame::GoAway { last_stream, code, debug: b"" }, out);
    }

    /// Takes note of the time: the nuisance budget is refilled, and a stream whose answer has waited for `stall`
    /// without any credit is reset. To be called at least once a second while the peer sends, or answers are held.
    pub fn on_time(&mut self, now: Instant, stall: Duration, out: &mut Out<'_>) {
        self.budget.refill(now);
        if self.held_bytes == 0 {
            return;
        }
        let mut stalled = Vec::new();
        for (id, stream) in self.streams.iter_mut() {
            let Some(held) = &mut stream.held else { continue };
            if std::mem::take(&mut held.has_progress) {
                held.stalled_since = None;
            }
            let since = *held.stalled_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= stall {
                stalled.push(id);
            }
        }
        for id in stalled {
            self.give_up(id, out);
            self.write_reset(id, Http2Code::CANCEL, out);
        }
    }
}

/// Window updates below this count against the nuisance budget, unless answers excuse them.
const SMALL_INCREMENT: u32 = 1024;
