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

    fn two_references(&self, _cx: &Context, _a: i64, _b: &i64) -> Result<(), Status> {
        Ok(())
    }

    fn two_mutable(&self, _cx: &Context, _a: &mut i64, _b: i64) -> Result<(), Status> {
        Ok(())
    }

    fn pattern(&self, _cx: &Context, (_a, _b): (i64, i64), _c: i64) -> Result<(), Status> {
        Ok(())
    }

    fn nameless(&self, _cx: &Context, _: i64, _c: i64) -> Result<(), Status> {
        Ok(())
    }

    fn underscores(&self, _cx: &Context, __: i64, _c: i64) -> Result<(), Status> {
        Ok(())
    }

    fn same_name(&self, _cx: &Context, _a: i64, #[rpc(rename = "a")] _b: i64) -> Result<(), Status> {
        Ok(())
    }

    fn renamed_alone(&self, _cx: &Context, #[rpc(rename = "a")] _a: i64) -> Result<(), Status> {
        Ok(())
    }

    fn other_option(&self, _cx: &Context, #[rpc(name = "b")] _a: i64, _b: i64) -> Result<(), Status> {
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    fn nine(
        &self,
        _cx: &Context,
        _a: u8,
        _b: u8,
        _c: u8,
        _d: u8,
        _e: u8,
        _f: u8,
        _g: u8,
        _h: u8,
        _i: u8,
    ) -> Result<(), Status> {
        Ok(())
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
