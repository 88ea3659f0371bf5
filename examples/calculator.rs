//! A service defined with the attribute, and its typed client: `calculator [--once] [ADDR]`.
//!
//! With `--once` it ends after its own client has received its answers; otherwise at SIGTERM or Ctrl-C.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};

use coreloop::client::{CallError, Direct};
use coreloop::signals;
use coreloop::{Code, Context, Server, Status};
use serde::{Deserialize, Serialize};

/// Two numbers; in JSON `{"A": …, "B": …}`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Args {
    a: i64,
    b: i64,
}

#[derive(Default)]
struct Calculator {
    divided: AtomicU64,
}

#[coreloop::service]
impl Calculator {
    /// Returns the sum of the two. It takes almost no time, so it runs on the reactor's thread.
    #[rpc(inline)]
    fn add(&self, _cx: &Context, args: Args) -> Result<i64, Status> {
        args.a.checked_add(args.b).ok_or_else(|| Status::out_of_range("the sum does not fit"))
    }

    /// Returns A divided by B.
    fn divide(&self, _cx: &Context, args: Args) -> Result<i64, Status> {
        self.divided.fetch_add(1, Ordering::Relaxed);
        args.a.checked_div(args.b).ok_or_else(|| Status::invalid_argument("cannot divide"))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut address = "127.0.0.1:0".to_owned();
    let mut once = false;
    for arg in std::env::args().skip(1) {
        match arg.as_str() {
            "--once" => once = true,
            _ => address = arg,
        }
    }

    let server = Server::builder().service(Calculator::default()).listen(&address).start()?;
    let stopper = server.stopper();
    let _signals = signals::on_stop(move |_signal| stopper.stop())?;
    let address = server.addresses()[0].to_string();
    println!("listening on {address}");

    let client = CalculatorClient::new(Direct::connect(&address)?);
    println!("6 + 7 = {}", client.add(&Args { a: 6, b: 7 })?);
    println!("42 / 6 = {}", client.divide(&Args { a: 42, b: 6 })?);
    match client.divide(&Args { a: 42, b: 0 }) {
        Err(CallError::Status(status)) if status.code == Code::InvalidArgument => {
            println!("42 / 0: {status}")
        }
        other => return Err(format!("not what was expected: {other:?}").into()),
    }

    if once {
        server.shutdown();
    } else {
        server.wait()?;
    }
    Ok(())
}
