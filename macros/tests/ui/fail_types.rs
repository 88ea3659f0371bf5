//! Mistakes that only the compiler can see: it shows them at the user's types.

use coreloop::{Context, Status};

struct Opaque;

struct A;

#[coreloop::service(client = false)]
impl A {
    fn opaque(&self, _cx: &Context, _argument: Opaque) -> Result<(), Status> {
        Ok(())
    }

    fn other_error(&self, _cx: &Context) -> Result<(), String> {
        Ok(())
    }

    fn aligned(&self, _cx: &Context, n: &u32) -> Result<u32, Status> {
        Ok(*n)
    }
}

fn main() {}
