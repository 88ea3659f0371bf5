//! `POST /call`: calls a method for the console, and sends what comes back as lines of JSON.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Console;
use super::guard::{check_same_origin, secured};
use crate::client::{CallError, Client};
use crate::codec::Codec;
use crate::message::Metadata;
use crate::service::CallShape;
use crate::service::route::{RouteRequest, RouteResponse, RouteSink};
use crate::status::Status;
use crate::stream::Stream;

/// For how long a call from the console may take.
const TIMEOUT_MAX: Duration = Duration::from_secs(600);
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// What the script sends.
#[derive(Deserialize)]
struct CallOrder {
    method: String,
    /// JSON text: numbers keep all their digits. Of a method with a stream of arguments: one for each message.
    arguments: Vec<String>,
    #[serde(default)]
    metadata: Vec<(String, String)>,
    #[serde(default)]
    timeout_ms: u64,
}

/// A line of the response.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum CallLine {
    /// JSON text.
    Message(String),
    End(CallLineEnd),
}

/// The last line.
#[derive(Default, Serialize)]
struct CallLineEnd {
    code: &'static str,
    text: String,
    total_us: u64,
    /// Of a call without streams: the times that the server reports.
    queue_us: Option<u32>,
    handler_us: Option<u32>,
    headers: Vec<(String, String)>,
    trailers: Vec<(String, String)>,
}

/// Handles the request.
pub(super) fn call(console: &Console, request: &RouteRequest<'_>, sink: &RouteSink) -> Result<(), Status> {
    check_same_origin(request)?;
    let order: CallOrder = serde_json::from_slice(request.body())
        .map_err(|error| Status::invalid_argument(format!("the body of POST /call: {error}")))?;
    let methods = console.inspector.methods();
    let known = methods.iter().find(|method| !method.is_route() && method.name() == order.method);
    let Some(method) = known else {
        return Err(Status::not_found(format!("there is no method {:?}", order.method)));
    };
    for argument in &order.arguments {
        serde_json::from_str::<serde::de::IgnoredAny>(argument)
            .map_err(|error| Status::invalid_argument(format!("the argument is not JSON: {error}")))?;
    }
    let timeout = match order.timeout_ms {
        0 => TIMEOUT_DEFAULT,
        ms => Duration::from_millis(ms).min(TIMEOUT_MAX),
    };
    let mut client = console.client()?.with_timeout(timeout);
    for (key, value) in &order.metadata {
        client = client
            .with_metadata(key, value.as_bytes())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
    }
    let head = RouteResponse::text("").header("Content-Type", "application/x-ndjson")?;
    sink.begin(secured(head.header("Cache-Control", "no-store")?)?)?;
    let began = Instant::now();
    let ended = made(&client, method.shape(), &order, sink);
    let mut end = ended.unwrap_or_else(|error| {
        let status = error.to_status();
        CallLineEnd { code: status.code.name(), text: status.message, ..CallLineEnd::default() }
    });
    end.total_us = began.elapsed().as_micros().try_into().unwrap_or(u64::MAX);
    send(sink, &CallLine::End(end))
}

fn send(sink: &RouteSink, line: &CallLine) -> Result<(), Status> {
    let mut text = serde_json::to_string(line).map_err(|error| Status::internal(error.to_string()))?;
    text.push('\n');
    Ok(sink.send(text)?)
}

/// Makes the call, and sends its messages.
fn made(
    client: &Client,
    shape: CallShape,
    order: &CallOrder,
    sink: &RouteSink,
) -> Result<CallLineEnd, CallError> {
    let argument = order.arguments.first().map_or("null", String::as_str).as_bytes();
    let message = |reply: Vec<u8>| {
        send(sink, &CallLine::Message(String::from_utf8_lossy(&reply).into_owned()))
            .map_err(CallError::Status)
    };
    match shape {
        CallShape::Unary => {
            let mut started = client.start_bytes(&order.method, Codec::Json, argument);
            let wake = Unpark::when_left(sink);
            let result = wake.wait(sink, |cx| Pin::new(&mut started).poll(cx))?;
            let end = CallLineEnd {
                queue_us: Some(started.times().queue_us),
                handler_us: Some(started.times().handler_us),
                headers: texts(started.headers()),
                trailers: texts(started.trailers()),
                ..CallLineEnd::default()
            };
            match result {
                Ok(reply) => {
                    message(reply)?;
                    Ok(CallLineEnd { code: "ok", ..end })
                }
                Err(error) => {
                    let status = error.to_status();
                    Ok(CallLineEnd { code: status.code.name(), text: status.message, ..end })
                }
            }
        }
        CallShape::ServerStream => {
            let replies = client.server_stream_bytes(&order.method, Codec::Json, argument)?;
            all(replies, sink, message)
        }
        CallShape::ClientStream => {
            let upload = client.client_stream_bytes(&order.method, Codec::Json)?;
            for one in &order.arguments {
                upload.send(&one.as_bytes().to_vec()).map_err(|error| CallError::Status(error.into()))?;
            }
            message(upload.finish()?)?;
            Ok(CallLineEnd { code: "ok", ..CallLineEnd::default() })
        }
        CallShape::Bidirectional => {
            let (messages, replies) = client.bidirectional_bytes(&order.method, Codec::Json)?.split();
            for one in &order.arguments {
                messages.send(&one.as_bytes().to_vec()).map_err(|error| CallError::Status(error.into()))?;
            }
            messages.finish(Ok(()));
            all(replies, sink, message)
        }
    }
}

/// Passes on all messages of a stream. It is dropped, and the call cancelled, when the page has left.
fn all(
    mut replies: Stream<Vec<u8>>,
    sink: &RouteSink,
    message: impl Fn(Vec<u8>) -> Result<(), CallError>,
) -> Result<CallLineEnd, CallError> {
    let wake = Unpark::when_left(sink);
    loop {
        let next = wake.wait(sink, |cx| pin!(replies.next_message()).poll(cx))?;
        match next {
            Some(Ok(reply)) => message(reply)?,
            Some(Err(status)) => return Err(CallError::Status(status)),
            None => return Ok(CallLineEnd { code: "ok", ..CallLineEnd::default() }),
        }
    }
}

/// Wakes this thread when a call goes on or the page has left.
struct Unpark(Waker);

struct UnparkThread(Thread);

impl Wake for UnparkThread {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Unpark {
    fn when_left(sink: &RouteSink) -> Unpark {
        let waker = Waker::from(Arc::new(UnparkThread(std::thread::current())));
        let left = waker.clone();
        sink.on_cancel(move || left.wake());
        Unpark(waker)
    }

    /// Waits until `poll` is ready.
    fn wait<T>(
        &self,
        sink: &RouteSink,
        mut poll: impl FnMut(&mut TaskContext<'_>) -> Poll<T>,
    ) -> Result<T, CallError> {
        loop {
            if sink.is_cancelled() {
                return Err(CallError::Status(Status::cancelled("the page has left")));
            }
            match poll(&mut TaskContext::from_waker(&self.0)) {
                Poll::Ready(value) => return Ok(value),
                Poll::Pending => std::thread::park(),
            }
        }
    }
}

fn texts(metadata: Metadata<'_>) -> Vec<(String, String)> {
    metadata
        .iter()
        .map(|(key, value)| (key.to_owned(), String::from_utf8_lossy(value).into_owned()))
        .collect()
}
