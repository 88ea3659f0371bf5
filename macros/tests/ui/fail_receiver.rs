//! Receivers that a method cannot have.

use std::sync::Arc;

use coreloop::{Context, Status};

struct A;

#[coreloop::service(client = false)]
impl A {
    fn by_mutable_reference(&mut self, _cx: &Context) -> Result<(), Status> {
        Ok(())
    }

    fn by_value(self, _cx: &Context) -> Result<(), Status> {
        Ok(())
    }

    fn by_arc(self: Arc<Self>, _cx: &Context) -> Result<(), Status> {
        Ok(())
    }

    #[rpc(inline)]
    fn none(_cx: &Context) -> Result<(), Status> {
        Ok(())
    }

    #[rpc(inline)]
    const NUMBER: u8 = 1;
}

fn main() {}
