//! Answers that are none.

use coreloop::{Context, Reply, Status};

type Answer<T> = Result<T, Status>;
type Result1<T> = std::result::Result<T, Status>;

struct A;

#[coreloop::service(client = false)]
impl A {
    fn nothing(&self, _cx: &Context) {}

    fn unit(&self, _cx: &Context, _n: i64) -> () {}

    fn no_result(&self, _cx: &Context) -> i64 {
        1
    }

    fn alias(&self, _cx: &Context) -> Answer<i64> {
        Ok(1)
    }

    async fn asynchronous(&self, _cx: &Context<'_>) -> Result<i64, Status> {
        Ok(1)
    }

    unsafe fn not_safe(&self, _cx: &Context) -> Result<i64, Status> {
        Ok(1)
    }

    fn both(&self, _cx: &Context, reply: Reply<i64>) -> Result<i64, Status> {
        reply.send(Ok(1));
        Ok(1)
    }

    fn reply_first(&self, _cx: &Context, reply: Reply<i64>, n: i64) {
        reply.send(Ok(n));
    }

    fn reply_of_what(&self, _cx: &Context, _reply: Reply) {}
}

mod aliased {
    use coreloop::{Context, Status};

    type Result<T> = std::result::Result<T, Status>;

    struct B;

    #[coreloop::service(client = false)]
    impl B {
        fn alias(&self, _cx: &Context) -> Result<i64> {
            Ok(1)
        }
    }
}

fn main() {
    let _: Result1<()> = Ok(());
}
