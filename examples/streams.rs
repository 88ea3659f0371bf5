//! A service whose methods send and receive streams, and its typed client: `streams`.
//!
//! Sensors report readings; every caller that watches gets each of them.

use std::error::Error;
use std::thread;

use coreloop::client::Client;
use coreloop::stream::{Broadcast, SinkError, SlowSubscriber};
use coreloop::{Context, Server, Sink, Status, Stream};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Reading {
    sensor: String,
    celsius: f64,
}

struct Sensors {
    watchers: Broadcast<Reading>,
}

#[coreloop::service]
impl Sensors {
    /// Takes readings until the sensor ends its stream; returns how many there were.
    ///
    /// The iterator waits for the next message, so the method is blocking.
    #[rpc(blocking)]
    fn report(&self, _cx: &Context, readings: Stream<Reading>) -> Result<u64, Status> {
        let mut count = 0;
        for reading in readings {
            self.watchers.send(&reading?)?;
            count += 1;
        }
        Ok(count)
    }

    /// Sends each reading from now on. The sink outlives the method; an idle watcher costs no thread.
    #[rpc(inline)]
    fn watch(&self, _cx: &Context, readings: Sink<Reading>) -> Result<(), Status> {
        self.watchers.subscribe(readings);
        Ok(())
    }

    /// Sends each temperature back in degrees Fahrenheit.
    #[rpc(blocking)]
    fn convert(&self, _cx: &Context, celsius: Stream<f64>, fahrenheit: Sink<f64>) -> Result<(), Status> {
        for degrees in celsius {
            fahrenheit.send(&(degrees? * 1.8 + 32.0))?;
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let sensors = Sensors { watchers: Broadcast::new(SlowSubscriber::DropOldest(100)) };
    let server = Server::builder().service(sensors).listen("127.0.0.1:0").start()?;
    let address = server.addresses()[0].to_string();
    println!("listening on {address}");
    let sensors = SensorsClient::new(Client::connect(&address)?);

    // The calls of one connection begin in the order in which they were made: this one comes before the readings.
    let mut watched = sensors.watch()?;
    let report = sensors.report()?;
    for celsius in [21.5, 22.0] {
        report.messages().send(&Reading { sensor: "roof".to_owned(), celsius })?;
        // Waits for the reading to come back.
        let Reading { sensor, celsius } = watched.next().ok_or("the watch has ended")??;
        println!("{sensor}: {celsius} °C");
    }
    println!("{} readings were reported", report.finish()?);
    // Cancels the call.
    drop(watched);

    let (celsius, fahrenheit) = sensors.convert()?.split();
    // Either end may be used on another thread.
    let sending = thread::spawn(move || -> Result<(), SinkError> {
        for degrees in [0.0, 100.0] {
            celsius.send(&degrees)?;
        }
        celsius.finish(Ok(()));
        Ok(())
    });
    for degrees in fahrenheit {
        println!("{} °F", degrees?);
    }
    sending.join().expect("it does not panic")?;

    server.shutdown();
    Ok(())
}
