//! Async methods that cannot be.

use coreloop::{Bytes, Context, OwnedContext, Reply, Status};

#[coreloop::service]
trait Mistakes {
    async fn without_context(&self) -> Result<(), Status>;

    async fn borrowed_context(&self, cx: &Context<'_>) -> Result<(), Status>;

    async fn context_by_reference(&self, cx: &OwnedContext) -> Result<(), Status>;

    fn owned_context(&self, cx: OwnedContext) -> Result<(), Status>;

    async fn borrowed_argument(&self, cx: OwnedContext, value: &u8) -> Result<u8, Status>;

    async fn borrowed_bytes(&self, cx: OwnedContext, bytes: &[u8]) -> Result<Bytes, Status>;

    async fn later(&self, cx: OwnedContext, reply: Reply<u8>);

    #[rpc(blocking)]
    async fn on_a_thread(&self, cx: OwnedContext) -> Result<(), Status>;
}

struct A;

#[coreloop::service]
impl A {
    async fn not_sent(&self, _cx: OwnedContext) -> Result<(), Status> {
        let shared = std::rc::Rc::new(1);
        std::future::ready(()).await;
        drop(shared);
        Ok(())
    }
}

fn main() {}
