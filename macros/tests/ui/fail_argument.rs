//! Arguments that cannot travel.

use coreloop::{Context, Status};

struct A;

#[coreloop::service(client = false)]
impl A {
    fn by_mutable_reference(&self, _cx: &Context, _n: &mut u8) -> Result<(), Status> {
        Ok(())
    }

    fn with_lifetime(&self, _cx: &Context, _n: &'static u8) -> Result<(), Status> {
        Ok(())
    }

    fn two(&self, _cx: &Context, a: i64, b: i64) -> Result<i64, Status> {
        Ok(a + b)
    }

    fn text(&self, _cx: &Context, _text: &str) -> Result<(), Status> {
        Ok(())
    }

    fn slice(&self, _cx: &Context, _list: &[u16]) -> Result<(), Status> {
        Ok(())
    }

    fn any(&self, _cx: &Context, _any: &dyn ToString) -> Result<(), Status> {
        Ok(())
    }

    fn some(&self, _cx: &Context, _some: impl ToString) -> Result<(), Status> {
        Ok(())
    }

    fn generic<T>(&self, _cx: &Context, _t: T) -> Result<(), Status> {
        Ok(())
    }
}

fn main() {}
