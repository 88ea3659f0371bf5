//! What a typed client cannot have, and names that are taken.

use coreloop::{Context, Status};

struct A;

#[coreloop::service]
impl A {
    fn new(&self, _cx: &Context) -> Result<(), Status> {
        Ok(())
    }

    fn caller(&self, _cx: &Context) -> Result<(), Status> {
        Ok(())
    }

    fn add_one(&self, _cx: &Context, n: i64) -> Result<i64, Status> {
        Ok(n + 1)
    }

    #[rpc(name = "AddOne")]
    fn increment(&self, _cx: &Context, n: i64) -> Result<i64, Status> {
        Ok(n + 1)
    }
}

struct Keeper<T>(T);

#[coreloop::service]
impl<T: Send + Sync + 'static> Keeper<T> {
    fn keep(&self, _cx: &Context, _values: Vec<T>) -> Result<(), Status> {
        Ok(())
    }
}

fn main() {}
