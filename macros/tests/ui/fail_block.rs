//! What the attribute cannot stand on.

use coreloop::{Context, Status};

struct A;

trait Can {
    fn can(&self, cx: &Context) -> Result<(), Status>;
}

#[coreloop::service]
impl Can for A {
    fn can(&self, _cx: &Context) -> Result<(), Status> {
        Ok(())
    }
}

#[coreloop::service]
struct B;

#[coreloop::service]
impl (u8, u8) {
}

fn main() {}
