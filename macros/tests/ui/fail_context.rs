//! The context is missing, or is not taken by reference.

use coreloop::{Context, Status};

struct A;

#[coreloop::service(client = false)]
impl A {
    fn no_parameter(&self) -> Result<(), Status> {
        Ok(())
    }

    fn no_context(&self, number: i64) -> Result<i64, Status> {
        Ok(number)
    }

    fn context_last(&self, number: i64, _cx: &Context) -> Result<i64, Status> {
        Ok(number)
    }

    fn context_by_value(&self, _cx: Context<'_>) -> Result<(), Status> {
        Ok(())
    }

    fn context_by_mutable_reference(&self, _cx: &mut Context) -> Result<(), Status> {
        Ok(())
    }
}

fn main() {}
