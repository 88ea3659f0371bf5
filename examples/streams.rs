//! A service whose methods send and receive streams: `streams [ADDR]`. It serves until SIGTERM or Ctrl-C.
//!
//! Sensors report readings; every caller that watches gets each of them. Streams travel in native frames.

use std::error::Error;

use coreloop::poller::signals;
use coreloop::stream::{Broadcast, SlowSubscriber};
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
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let sensors = Sensors { watchers: Broadcast::new(SlowSubscriber::DropOldest(100)) };
    let server = Server::builder().service(sensors).listen(&address).start()?;
    let stopper = server.stopper();
    let _signals = signals::on_stop(move |_signal| stopper.stop())?;
    println!("listening on {}", server.addresses()[0]);
    server.wait()?;
    Ok(())
}
