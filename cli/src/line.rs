//! A connection to a server, whatever it is spoken to in: the direct client for native frames, the shared one for the
//! other protocols. And what each of them cannot carry.

use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use coreloop::client::{CallError, Client, Direct, Times};
use coreloop::codec::Codec;
use coreloop::codec::gob::dynamic::{decode_json, encode_json};
use coreloop::wire::Scheme;
use serde_json::Value;

use crate::address::Target;
use crate::failure::Failure;

/// A connection for one call.
pub struct Line {
    /// How the argument and the reply travel.
    codec: Codec,
    end: End,
}

enum End {
    Direct(Direct),
    Shared(Client),
}

/// The codec by which a protocol is spoken: the one that was asked for, if it has it.
pub fn codec_of(scheme: Scheme, asked: Option<Codec>) -> Result<Codec, Failure> {
    let only = scheme.codec_number().and_then(Codec::from_number);
    match (only, asked) {
        (None, asked) => Ok(asked.unwrap_or(Codec::Json)),
        (Some(only), Some(asked)) if only != asked => Err(Failure::usage(format!(
            "{}: supports only the codec {}; omit --codec",
            scheme.name(),
            only.name()
        ))),
        (Some(only), _) => Ok(only),
    }
}

impl Line {
    /// Connects within the time, and leaves what is left of it to the call.
    pub fn connect(target: &Target, codec: Codec, timeout: Option<Duration>) -> Result<Line, CallError> {
        let end = match target.scheme {
            Scheme::Native => End::Direct(connect_direct(&target.plain(), timeout)?),
            _ => End::Shared(connect_shared(&target.to_string(), timeout)?),
        };
        Ok(Line { codec, end })
    }

    /// Sends this along.
    pub fn add_metadata(&mut self, key: &str, value: &str) -> Result<(), Failure> {
        match &mut self.end {
            End::Direct(direct) => direct.metadata_mut().push(key, value.as_bytes()).map_err(Failure::usage),
            End::Shared(client) => {
                *client = client.with_metadata(key, value.as_bytes()).map_err(Failure::usage)?;
                Ok(())
            }
        }
    }

    /// Calls with an encoded argument; gives the reply as JSON text, and what is known of its times.
    pub fn call(&self, method: &str, argument: &[u8]) -> Result<(String, Option<Times>), Failure> {
        let (reply, times) = self.call_bytes(method, argument).map_err(|error| Failure::call(&error))?;
        let text = if self.codec == Codec::Gob {
            let shown = decode_json(&reply).map_err(CallError::Reply);
            shown.map_err(|error| Failure::call(&error))?.to_string()
        } else {
            String::from_utf8_lossy(&reply).into_owned()
        };
        Ok((text, times))
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
                    // Its own time bounds it, if it has one.
                    if let Some(reply) = call.wait_timeout(Duration::MAX) {
                        break reply?;
                    }
                };
                // Of these protocols HTTP alone has a place for times, and not every server fills it.
                Ok((reply, Some(call.times()).filter(|times| *times != Times::default())))
            }
        }
    }
}

/// JSON text as it travels.
pub fn encoded(codec: Codec, text: String) -> Result<Vec<u8>, Failure> {
    if codec != Codec::Gob {
        return Ok(text.into_bytes());
    }
    let mut value: Value = serde_json::from_str(&text)
        .map_err(|error| Failure::usage(format!("the argument is not JSON: {error}")))?;
    if value.is_null() {
        // Nothing, as gob has it: a struct without fields, which is read as whatever takes nothing.
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
    // The system's own patience with a silent host is minutes; the thread is left behind to it.
    thread::spawn(move || {
        // A late result has no receiver, which is no error.
        let _ = send.send(Direct::connect(&address));
    });
    let mut client = match connected.recv_timeout(timeout) {
        Ok(outcome) => outcome?,
        Err(_) => {
            return Err(CallError::Connect(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")));
        }
    };
    // Nothing left is no time at all, which the first call says; `None` would be for ever.
    client.set_timeout(Some(until.saturating_duration_since(Instant::now())));
    Ok(client)
}

fn connect_shared(address: &str, timeout: Option<Duration>) -> Result<Client, CallError> {
    let builder = Client::builder(address);
    let Some(timeout) = timeout else { return builder.connect() };
    let until = Instant::now() + timeout;
    let connect_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1);
    let client = builder.configure(|config| config.connect_timeout_ms = connect_ms).connect()?;
    Ok(client.with_deadline(until))
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
