//! A service that calls a service that calls a service, on one budget: `nested [BUDGET_MS]`.
//!
//! Each passes on what is left of the time by calling through `cx.client`; so a call that is given up at the top
//! ends at the bottom, and no one in between has done anything for it.

use std::error::Error;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use coreloop::client::Client;
use coreloop::{Context, Server, Status};

/// Prints how much time a service has left.
fn say(who: &str, cx: &Context<'_>) {
    match cx.time_left() {
        Some(left) => println!("{who}: {} us left", left.as_micros()),
        None => println!("{who}: as long as it takes"),
    }
}

struct Bottom {
    told: Sender<&'static str>,
}

#[coreloop::service]
impl Bottom {
    fn find(&self, cx: &Context, number: u32) -> Result<u32, Status> {
        say("bottom", cx);
        Ok(number + 1)
    }

    /// Searches until nobody wants to know.
    #[rpc(blocking)]
    fn search(&self, cx: &Context) -> Result<u32, Status> {
        say("bottom", cx);
        let _ = self.told.send("the bottom searches");
        let result = cx.sleep(Duration::from_secs(60));
        let _ = self.told.send("the bottom was told that nobody waits");
        result.map(|()| 0)
    }
}

struct Middle {
    bottom: Client,
}

// Who waits for others belongs to the blocking pool.
#[coreloop::service]
impl Middle {
    #[rpc(blocking)]
    fn find(&self, cx: &Context, number: u32) -> Result<u32, Status> {
        say("middle", cx);
        Ok(BottomClient::new(cx.client(&self.bottom)).find(&(number + 1))?)
    }

    #[rpc(blocking)]
    fn search(&self, cx: &Context) -> Result<u32, Status> {
        say("middle", cx);
        Ok(BottomClient::new(cx.client(&self.bottom)).search()?)
    }
}

struct Top {
    middle: Client,
}

#[coreloop::service]
impl Top {
    #[rpc(blocking)]
    fn find(&self, cx: &Context, number: u32) -> Result<u32, Status> {
        say("top", cx);
        Ok(MiddleClient::new(cx.client(&self.middle)).find(&(number + 1))?)
    }

    #[rpc(blocking)]
    fn search(&self, cx: &Context) -> Result<u32, Status> {
        say("top", cx);
        Ok(MiddleClient::new(cx.client(&self.middle)).search()?)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let budget_ms = std::env::args().nth(1).map_or(Ok(50), |text| text.parse())?;
    let (told, hears) = mpsc::channel();
    let start = |builder: coreloop::server::ServerBuilder| builder.cores(1).listen("127.0.0.1:0").start();
    let reach = |server: &Server| Client::connect(&server.addresses()[0].to_string());

    let bottom = start(Server::builder().service(Bottom { told }))?;
    let middle = start(Server::builder().service(Middle { bottom: reach(&bottom)? }))?;
    let top = start(Server::builder().service(Top { middle: reach(&middle)? }))?;
    println!("listening on {}", top.addresses()[0]);
    let client = reach(&top)?;

    let hurried = TopClient::new(client.with_timeout(Duration::from_millis(budget_ms)));
    match hurried.find(&0) {
        Ok(number) => println!("found {number}"),
        // On a busy machine: wherever the time ran out, the whole chain has ended.
        Err(error) => println!("not found: {error}"),
    }

    let patient = TopClient::new(client);
    let search = patient.search_start();
    println!("{}", hears.recv()?);
    drop(search);
    println!("{}", hears.recv()?);

    for server in [top, middle, bottom] {
        server.shutdown();
    }
    Ok(())
}
