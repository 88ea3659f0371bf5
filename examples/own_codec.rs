//! A user codec: bodies that end in a checksum, so that a changed byte is never taken for another value.
//!
//! The codec is a serde format with a number from 64 to 127. The service names it in its attribute; callers choose it.

use std::error::Error;
use std::fmt;

use coreloop::client::{Client, Direct};
use coreloop::codec::{UserCodec, UserCodecNumber, fnv1a32};
use coreloop::{Context, Server, Status};
use serde::{Deserialize, Serialize};

/// postcard's format, and after it a hash of these bytes.
struct Checked;

impl UserCodec for Checked {
    const NUMBER: UserCodecNumber = UserCodecNumber::N64;
    const NAME: &'static str = "checked";
    type Error = CheckedError;

    fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), CheckedError> {
        let bytes = postcard::to_allocvec(value).map_err(CheckedError::Format)?;
        out.extend(&bytes);
        out.extend(fnv1a32(&bytes).to_le_bytes());
        Ok(())
    }

    fn decode<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, CheckedError> {
        let (bytes, sum) = body.split_last_chunk().ok_or(CheckedError::NoSum)?;
        if fnv1a32(bytes) != u32::from_le_bytes(*sum) {
            return Err(CheckedError::WrongSum);
        }
        match postcard::take_from_bytes(bytes).map_err(CheckedError::Format)? {
            (value, []) => Ok(value),
            (_, _) => Err(CheckedError::TrailingBytes),
        }
    }
}

/// Why a body is refused. The text is sent to the caller.
enum CheckedError {
    NoSum,
    WrongSum,
    TrailingBytes,
    Format(postcard::Error),
}

impl fmt::Display for CheckedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CheckedError::NoSum => f.write_str("the body is shorter than its checksum"),
            CheckedError::WrongSum => f.write_str("the checksum does not match"),
            CheckedError::TrailingBytes => f.write_str("the body continues after the value"),
            CheckedError::Format(error) => error.fmt(f),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Transfer {
    from: u64,
    to: u64,
    cents: u64,
}

struct Bank;

#[coreloop::service(codecs(Checked))]
impl Bank {
    /// Transfers an amount; returns the receipt.
    fn transfer(&self, _cx: &Context, transfer: Transfer) -> Result<String, Status> {
        let Transfer { from, to, cents } = transfer;
        Ok(format!("{cents} cents from {from} to {to}"))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::builder().service(Bank).listen("127.0.0.1:0").start()?;
    let address = server.addresses()[0].to_string();
    println!("listening on {address}");
    let transfer = Transfer { from: 1, to: 2, cents: 500 };

    // The typed clients, with their codec set.
    let client = Client::connect(&address)?.with_codec(Checked::CODEC);
    println!("client: {}", BankClient::new(client).transfer(&transfer)?);
    let mut direct = Direct::connect(&address)?;
    direct.set_codec(Checked::CODEC);
    let bank = BankClient::new(direct);
    println!("direct: {}", bank.transfer(&transfer)?);

    // A body with a changed byte.
    let mut body = Vec::new();
    Checked::encode(&transfer, &mut body).map_err(|error| error.to_string())?;
    body[2] ^= 1;
    match bank.caller().call_bytes("Bank.Transfer", Checked::CODEC, &body) {
        Err(error) => println!("changed: {error}"),
        Ok(reply) => return Err(format!("a changed body was taken: {reply:?}").into()),
    }

    server.shutdown();
    Ok(())
}
