//! A chain of three services that call each other within one time budget: `nested [BUDGET_MS]`.
//!
//! Each service passes on the remaining time by calling through `cx.client`; so a call that is cancelled at the top
//! ends at the bottom, without any code in between. The connections of a service to the next one run on the reactor of
//! its own server: no further thread.

use std::error::Error;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use coreloop::client::{Client, Driver};
use coreloop::server::ServerBuilder;
use coreloop::{Context, Server, Status};

/// Prints how much time a service has left.
fn print_time_left(service: &str, cx: &Context<'_>) {
    match cx.time_left() {
        Some(left) => println!("{service}: {} us left", left.as_micros()),
        None => println!("{service}: as long as it takes"),
    }
}

struct Bottom {
    events: Sender<&'static str>,
}

#[coreloop::service]
impl Bottom {
    fn find(&self, cx: &Context, number: u32) -> Result<u32, Status> {
        print_time_left("bottom", cx);
        Ok(number + 1)
    }

    /// Searches until the call is cancelled.
    #[rpc(blocking)]
    fn search(&self, cx: &Context) -> Result<u32, Status> {
        print_time_left("bottom", cx);
        let _ = self.events.send("the bottom searches");
        let result = cx.sleep(Duration::from_secs(60));
        let _ = self.events.send("the bottom is cancelled");
        result.map(|()| 0)
    }
}

struct Middle {
    bottom: Client,
}

// A method that waits for another service must run on the blocking pool.
#[coreloop::service]
impl Middle {
    #[rpc(blocking)]
    fn find(&self, cx: &Context, number: u32) -> Result<u32, Status> {
        print_time_left("middle", cx);
        Ok(BottomClient::new(cx.client(&self.bottom)).find(&(number + 1))?)
    }

    #[rpc(blocking)]
    fn search(&self, cx: &Context) -> Result<u32, Status> {
        print_time_left("middle", cx);
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
        print_time_left("top", cx);
        Ok(MiddleClient::new(cx.client(&self.middle)).find(&(number + 1))?)
    }

    #[rpc(blocking)]
    fn search(&self, cx: &Context) -> Result<u32, Status> {
        print_time_left("top", cx);
        Ok(MiddleClient::new(cx.client(&self.middle)).search()?)
    }
}

fn builder() -> ServerBuilder {
    Server::builder().cores(1).listen("127.0.0.1:0")
}

/// Creates a client of `to` that the reactor of `from`, which is not started yet, will drive.
fn client_on(from: &mut ServerBuilder, to: &Server) -> Result<Client, Box<dyn Error>> {
    let driver = Driver::on(&from.reactor(0)?)?;
    Ok(Client::builder(to.addresses()[0].to_string()).on(&driver).build()?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let budget_ms = std::env::args().nth(1).map_or(Ok(50), |text| text.parse())?;
    let (events, received) = mpsc::channel();

    let bottom = builder().service(Bottom { events }).start()?;
    let mut next = builder();
    let to_bottom = client_on(&mut next, &bottom)?;
    let middle = next.service(Middle { bottom: to_bottom }).start()?;
    let mut next = builder();
    let to_middle = client_on(&mut next, &middle)?;
    let top = next.service(Top { middle: to_middle }).start()?;
    println!("listening on {}", top.addresses()[0]);
    let client = Client::connect(top.addresses()[0].to_string())?;

    let hurried = TopClient::new(client.with_timeout(Duration::from_millis(budget_ms)));
    match hurried.find(&0) {
        Ok(number) => println!("found {number}"),
        // On a busy machine: wherever the time runs out, the whole chain ends.
        Err(error) => println!("not found: {error}"),
    }

    let patient = TopClient::new(client);
    let search = patient.search_start();
    println!("{}", received.recv()?);
    drop(search);
    println!("{}", received.recv()?);

    for server in [top, middle, bottom] {
        server.shutdown();
    }
    Ok(())
}
