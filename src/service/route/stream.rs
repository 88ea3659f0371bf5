//! Responses that are sent in pieces: event streams, and bodies whose length is not known in advance.

use std::fmt;

use super::path::RoutePath;
use super::{HttpMethod, Route, RouteRequest, RouteResponse};
use crate::codec::{Body, Codec, CodecError, RawBytes};
use crate::context::{Context, Outcome};
use crate::service::{CallShape, Kind, Method, RegisterError};
use crate::status::Status;
use crate::stream::{HandlerStreams, Sink, SinkError};
use crate::wire::ROUTE_HEAD;

/// Sends the body of a response in pieces, each as a chunk (RFC 9112 section 7.1). It may outlive the handler, and be used on
/// any thread.
///
/// What waits to be written is bounded by `limits.write_queue_high_bytes`: beyond it [`RouteSink::send`] waits, and
/// [`RouteSink::try_send`] returns [`SinkError::NotReady`]. When the peer leaves, both return [`SinkError::Ended`]. A body
/// whose sink is dropped elsewhere than in its handler, or whose handler fails after the first piece, ends without its last
/// chunk, so that the peer sees that it is incomplete.
///
/// ```
/// use coreloop::Server;
/// use coreloop::route::{HttpMethod, RouteResponse};
///
/// # fn main() -> Result<(), coreloop::Error> {
/// let server = Server::builder()
///     .route_stream(HttpMethod::Get, "/numbers", |_cx, _request, sink| {
///         sink.begin(RouteResponse::event_stream())?;
///         for number in 1..=3 {
///             sink.send_event("number", &number.to_string())?; // waits for the peer
///         }
///         Ok(())
///     })
///     .listen("127.0.0.1:0")
///     .start()?;
/// # Ok(())
/// # }
/// ```
pub struct RouteSink {
    sink: Sink<Vec<u8>>,
}

impl RouteSink {
    /// Sets status and header fields of the response, and sends its body, if it has one, as the first piece. Without it, the
    /// status is 200 and there is no `Content-Type`.
    ///
    /// # Errors
    ///
    /// A piece was sent before, the stream has ended, or the response can have no body.
    pub fn begin(&self, response: RouteResponse) -> Result<(), Status> {
        let (head, body) = response.into_parts()?;
        if matches!(head.status, 204 | 205 | 304) {
            return Err(Status::internal(format!("a response with the status {} has no body", head.status)));
        }
        let value = [head.status.to_string().as_bytes(), &head.fields].concat();
        self.sink.set_header(ROUTE_HEAD, value).map_err(|error| Status::internal(error.to_string()))?;
        if body.is_empty() {
            return Ok(());
        }
        Ok(self.send(&body)?)
    }

    /// Sends a piece, and waits until there is room for it. An empty piece is not sent.
    ///
    /// # Errors
    ///
    /// Those of [`Sink::send`].
    pub fn send(&self, piece: impl AsRef<[u8]>) -> Result<(), SinkError> {
        self.sink.send(&piece.as_ref().to_vec())
    }

    /// Sends a piece if there is room for it.
    ///
    /// # Errors
    ///
    /// Those of [`Sink::try_send`].
    pub fn try_send(&self, piece: impl AsRef<[u8]>) -> Result<(), SinkError> {
        self.sink.try_send(&piece.as_ref().to_vec())
    }

    /// Sends an event of an event stream (HTML Standard section 9.2.6), and waits until there is room for it. Line breaks
    /// in the name are left out; each line of the data becomes a `data` line.
    ///
    /// # Errors
    ///
    /// Those of [`Sink::send`].
    pub fn send_event(&self, name: &str, data: &str) -> Result<(), SinkError> {
        self.send(event(name, data))
    }

    /// Returns whether the peer has left, or the deadline has passed: nothing more can be sent.
    pub fn is_cancelled(&self) -> bool {
        self.sink.is_cancelled()
    }

    /// Runs the function once the stream ends other than by this sink; now, if it has. A later function replaces one that
    /// still waits. It must not block.
    pub fn on_cancel(&self, callback: impl FnOnce() + Send + 'static) {
        self.sink.on_cancel(callback);
    }

    /// Ends the body: complete if `result` is ok. Only the first end counts.
    pub fn finish(&self, result: Result<(), Status>) {
        self.sink.finish(result);
    }
}

impl fmt::Debug for RouteSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteSink").field("sink", &self.sink).finish()
    }
}

fn event(name: &str, data: &str) -> String {
    let mut text = String::with_capacity(name.len() + data.len() + 24);
    text.push_str("event: ");
    text.extend(name.chars().filter(|letter| !matches!(letter, '\r' | '\n')));
    text.push('\n');
    let data = data.replace("\r\n", "\n").replace('\r', "\n");
    for line in data.split('\n') {
        text.push_str("data: ");
        text.push_str(line);
        text.push('\n');
    }
    text.push('\n');
    text
}

#[allow(clippy::ptr_arg, reason = "a stream is encoded by a function of a reference to its type")]
fn encode_piece(piece: &Vec<u8>, _codec: Codec, out: &mut Vec<u8>) -> Result<(), CodecError> {
    out.extend_from_slice(piece);
    Ok(())
}

impl Method {
    /// Creates the method of a route whose response is sent in pieces. It runs on the pool of threads that may block.
    ///
    /// # Errors
    ///
    /// Those of [`Method::new`].
    pub(crate) fn of_route_stream(
        method: HttpMethod,
        path: RoutePath,
        function: impl Fn(&Context<'_>, RouteRequest<'_>, RouteSink) -> Result<(), Status> + Send + Sync + 'static,
    ) -> Result<Method, RegisterError> {
        let unary = Method::of_route(method, path, |_cx, _request| Ok(RouteResponse::no_content()))?;
        let Some(route) = &unary.route else { return Ok(unary) };
        let route = Route { is_stream: true, ..route.clone() };
        let path = route.path.clone();
        let handler = move |cx: &Context<'_>, _codec: Codec, body: Body<'_>, _out: &mut Vec<u8>| {
            let run = || {
                let request = RouteRequest::new(cx, &path, body)?;
                let ticket = cx.take_ticket().ok_or_else(|| Status::internal("the reply was taken twice"))?;
                let (sink, end) = HandlerStreams::take(cx)?.sink(ticket, encode_piece, false)?;
                cx.attach_stream(sink.response());
                end.returned(function(cx, request, RouteSink { sink }));
                Ok(())
            };
            run().map_or_else(|status: Status| Outcome::failed(status), |()| Outcome::Deferred)
        };
        let described = Method::new::<RawBytes, RawBytes>(route.name(), Box::new(handler))?;
        let described = described.streaming(CallShape::ServerStream).kind(Kind::Blocking);
        Ok(Method { accepts: 0, user_codecs: Vec::new(), route: Some(route), ..described })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_can_end_an_event_or_begin_another() {
        assert_eq!(event("tick", "1"), "event: tick\ndata: 1\n\n");
        assert_eq!(
            event("a\nb\r", "1\n\n2\r\n3\r4"),
            "event: ab\ndata: 1\ndata: \ndata: 2\ndata: 3\ndata: 4\n\n"
        );
    }
}
