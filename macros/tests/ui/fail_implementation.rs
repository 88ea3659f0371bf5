//! Implementations that do not fit their contract.

use coreloop::{Context, Server, Status};

#[coreloop::service]
trait Contract {
    fn price(&self, cx: &Context, item: String) -> Result<u64, Status>;
}

struct NoImplementation;

struct Incomplete;

impl Contract for Incomplete {}

struct NotShared(std::rc::Rc<u8>);

impl Contract for NotShared {
    fn price(&self, _cx: &Context, _item: String) -> Result<u64, Status> {
        Ok(u64::from(*self.0))
    }
}

enum NoStatus {}

#[coreloop::service]
trait OtherError {
    fn price(&self, cx: &Context) -> Result<u64, NoStatus>;
}

fn main() {
    let _ = Server::builder().service(ContractServer::new(NoImplementation));
    let _ = Server::builder().service(ContractServer::new(NotShared(std::rc::Rc::new(1))));
    let _ = Server::builder().service(Incomplete);
}
