//! Many calls in one write, and one-way calls: `batch`.

use std::error::Error;
use std::sync::mpsc::{self, Sender};

use coreloop::client::{CallError, Client};
use coreloop::{Context, Server, Status};

struct Meter {
    seen: Sender<u32>,
}

#[coreloop::service]
impl Meter {
    /// Returns the square of a reading.
    #[rpc(inline)]
    fn square(&self, _cx: &Context, reading: u32) -> Result<u64, Status> {
        Ok(u64::from(reading).pow(2))
    }

    /// Stores a reading; the sender does not wait for an answer.
    #[rpc(inline)]
    fn note(&self, _cx: &Context, reading: u32) -> Result<(), Status> {
        let _ = self.seen.send(reading);
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let (seen, readings) = mpsc::channel();
    let server = Server::builder().cores(1).service(Meter { seen }).listen("127.0.0.1:0").start()?;
    let address = server.addresses()[0].to_string();
    println!("listening on {address}");
    let client = Client::connect(&address)?;

    // The typed client works on a batch as it does on a client.
    let meter = MeterClient::new(client.batch());
    let calls: Vec<_> = (1..=64).map(|reading| meter.square_start(&reading)).collect();
    for reading in [20, 21, 22] {
        meter.note_one_way(&reading)?;
    }
    println!("{} calls wait, {} have left", meter.caller().len(), client.stats().sent);

    let reads_before = server.stats().reactors[0].reads;
    meter.into_caller().send();
    let sum: u64 = calls.into_iter().map(|call| call.wait()).sum::<Result<_, CallError>>()?;
    // The answers to one read are written together, too.
    let reads = server.stats().reactors[0].reads - reads_before;
    println!("sum of the squares: {sum}; the server has read {reads} time");

    let noted: Vec<u32> = readings.iter().take(3).collect();
    println!("noted: {noted:?}");

    // A one-way call outside a batch is sent at once. `Ok` only means that it was handed over.
    MeterClient::new(client.clone()).note_one_way(&23)?;
    println!("noted: {}", readings.recv()?);

    drop(client);
    server.shutdown();
    Ok(())
}
