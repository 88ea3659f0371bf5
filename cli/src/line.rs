//! A connection to a server in any protocol: the direct client for native frames, the shared client for the other
//! protocols. Also checks what each of them does not support.

use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use coreloop::client::Scheme;
use coreloop::client::{CallError, Client, ClientBuilder, Direct, Times};
use coreloop::codec::Codec;
use coreloop::codec::gob::dynamic::{decode_json, encode_json};
use coreloop::service::MethodInfo;
use serde_json::Value;

use crate::address::Target;
use crate::args::TlsArgs;
use crate::failure::Failure;

/// A connection for one call.
pub struct Line {
    /// The codec of the argument and the reply.
    codec: Codec,
    end: End,
}

enum End {
    Direct(Box<Direct>),
    Shared(ClosedClient),
}

/// Returns the codec for a protocol: the requested one, if the protocol supports it.
pub fn codec_of(scheme: Scheme, requested: Option<Codec>) -> Result<Codec, Failure> {
    let only = scheme.codec_number().and_then(Codec::from_number);
    match (only, requested) {
        (None, requested) => Ok(requested.unwrap_or(Codec::Json)),
        (Some(only), Some(requested)) if only != requested => Err(Failure::usage(format!(
            "{}: supports only the codec {}; omit --codec",
            scheme.name(),
            only.name()
        ))),
        (Some(only), _) => Ok(only),
    }
}

impl Line {
    /// Connects within the timeout, and leaves the rest of it to the call.
    pub fn connect(
        target: &Target,
        codec: Codec,
        timeout: Option<Duration>,
        tls: &TlsArgs,
    ) -> Result<Line, CallError> {
        let end = match target.scheme {
            // With TLS the handshake would have to be interrupted too.
            Scheme::Native if !target.is_fleet() && !target.is_secured && tls.settings().is_none() => {
                End::Direct(Box::new(connect_direct(&target.plain(), timeout)?))
            }
            _ => End::Shared(connect_shared(&target.to_string(), timeout, tls)?),
        };
        Ok(Line { codec, end })
    }

    /// Adds metadata to the call.
    pub fn add_metadata(&mut self, key: &str, value: &str) -> Result<(), Failure> {
        match &mut self.end {
            End::Direct(direct) => direct.metadata_mut().push(key, value.as_bytes()).map_err(Failure::usage),
            End::Shared(client) => {
                **client = client.with_metadata(key, value.as_bytes()).map_err(Failure::usage)?;
                Ok(())
            }
        }
    }

    /// Calls with an encoded argument; returns the reply as JSON text, and the times if they are known.
    pub fn call(&self, method: &str, argument: &[u8]) -> Result<(String, Option<Times>), Failure> {
        let (reply, times) = self.call_bytes(method, argument).map_err(|error| Failure::call(&error))?;
        Ok((shown(self.codec, &reply)?, times))
    }

    /// Returns which sides of a method are streams, by the server's own description. A method that the server does not
    /// describe has none.
    pub fn streams_of(&self, method: &str) -> Result<Streams, Failure> {
        let service = method.rsplit_once('.').map_or(method, |(service, _)| service);
        let asked = serde_json::json!(service).to_string();
        let described = match &self.end {
            End::Direct(direct) => direct.call_bytes("Meta.Methods", Codec::Json, asked.as_bytes()),
            End::Shared(client) => client.call_bytes("Meta.Methods", Codec::Json, asked.as_bytes()),
        };
        let methods = match described {
            Ok(reply) => serde_json::from_slice::<Vec<MethodInfo>>(&reply).unwrap_or_default(),
            Err(CallError::Status(_)) => Vec::new(),
            Err(error) => return Err(Failure::call(&error)),
        };
        let found = methods.iter().find(|info| info.name == method);
        Ok(found.map_or_else(Streams::default, |info| Streams::of(&info.signature)))
    }

    fn call_bytes(&self, method: &str, argument: &[u8]) -> Result<(Vec<u8>, Option<Times>), CallError> {
        match &self.end {
            End::Direct(direct) => {
                let reply = direct.call_bytes(method, self.codec, argument)?;
                Ok((reply, Some(direct.times())))
            }
            End::Shared(client) => {
                let mut call = client.start_bytes(method, self.codec, argument);
                let reply = loop {
                    // The call's own timeout bounds it, if it has one.
                    if let Some(reply) = call.wait_timeout(Duration::MAX) {
                        break reply?;
                    }
                };
                // Of these protocols only HTTP carries times, and not every server sets them.
                Ok((reply, Some(call.times()).filter(|times| *times != Times::default())))
            }
        }
    }
}

/// Which sides of a method are streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    /// The argument.
    pub receives: bool,
    /// The result.
    pub sends: bool,
}

impl Streams {
    /// Reads a method's signature, such as `stream T -> stream U`.
    fn of(signature: &str) -> Streams {
        Streams { receives: signature.starts_with("stream "), sends: signature.contains(" -> stream ") }
    }
}

/// Returns a reply as JSON text.
pub fn shown(codec: Codec, reply: &[u8]) -> Result<String, Failure> {
    if codec != Codec::Gob {
        return Ok(String::from_utf8_lossy(reply).into_owned());
    }
    let shown = decode_json(reply).map_err(CallError::Reply);
    Ok(shown.map_err(|error| Failure::call(&error))?.to_string())
}

/// Encodes JSON text with the codec.
pub fn encoded(codec: Codec, text: String) -> Result<Vec<u8>, Failure> {
    if codec != Codec::Gob {
        return Ok(text.into_bytes());
    }
    let mut value: Value = serde_json::from_str(&text)
        .map_err(|error| Failure::usage(format!("the argument is not JSON: {error}")))?;
    if value.is_null() {
        // gob's form of no argument: a struct without fields, which decodes as any type without fields.
        value = Value::Object(serde_json::Map::new());
    }
    let mut out = Vec::new();
    encode_json(&value, &mut out).map_err(Failure::usage)?;
    Ok(out)
}

fn connect_direct(address: &str, timeout: Option<Duration>) -> Result<Direct, CallError> {
    let Some(timeout) = timeout else { return Direct::connect(address) };
    let until = Instant::now() + timeout;
    let (send, connected) = mpsc::channel();
    let address = address.to_owned();
    // The system's own connect timeout is minutes; the thread is left running until then.
    thread::spawn(move || {
        // A late result has no receiver, which is not an error.
        let _ = send.send(Direct::connect(&address));
    });
    let mut client = match connected.recv_timeout(timeout) {
        Ok(outcome) => outcome?,
        Err(_) => {
            return Err(CallError::Connect(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")));
        }
    };
    // If no time is left, the first call reports it; `None` would mean no limit.
    client.set_timeout(Some(until.saturating_duration_since(Instant::now())));
    Ok(client)
}

/// The longest that a command waits at its end for its connections: the call is over, and a thread that still reads the
/// standard input keeps its stream.
const CLOSE_WAIT: Duration = Duration::from_millis(250);

/// A client that is closed when it is dropped: the process exits after that, and a TLS session would be cut.
pub struct ClosedClient(Option<Client>);

impl ClosedClient {
    /// Takes the client, of which there are no clones.
    pub fn new(client: Client) -> ClosedClient {
        ClosedClient(Some(client))
    }
}

impl Deref for ClosedClient {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl DerefMut for ClosedClient {
    fn deref_mut(&mut self) -> &mut Client {
        self.0.as_mut().expect("it is there until it is dropped")
    }
}

impl Drop for ClosedClient {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            client.close(CLOSE_WAIT);
        }
    }
}

/// Returns the builder of a client with the TLS settings of the command line.
pub fn builder(address: &str, tls: &TlsArgs) -> ClientBuilder {
    let builder = Client::builder(address);
    match tls.settings() {
        Some(settings) => builder.tls(|tls| *tls = settings),
        None => builder,
    }
}

/// Connects a client that threads share within the timeout, and leaves the rest of it to the call.
pub fn connect_shared(
    address: &str,
    timeout: Option<Duration>,
    tls: &TlsArgs,
) -> Result<ClosedClient, CallError> {
    let builder = builder(address, tls);
    let Some(timeout) = timeout else { return builder.connect().map(ClosedClient::new) };
    let until = Instant::now() + timeout;
    let connect_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1);
    let client = builder.configure(|config| config.connect_timeout_ms = connect_ms).connect()?;
    Ok(ClosedClient::new(client.with_deadline(until)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_with_one_codec_takes_no_other() {
        assert_eq!(codec_of(Scheme::Native, None).unwrap(), Codec::Json);
        assert_eq!(codec_of(Scheme::Native, Some(Codec::Gob)).unwrap(), Codec::Gob);
        assert_eq!(codec_of(Scheme::Http, None).unwrap(), Codec::Json);
        assert_eq!(codec_of(Scheme::JsonRpc, Some(Codec::Json)).unwrap(), Codec::Json);
        assert!(codec_of(Scheme::Http, Some(Codec::Gob)).is_err());
    }
}
