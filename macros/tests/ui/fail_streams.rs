//! Streams and sinks in the wrong place, and messages that cannot travel.

use coreloop::{Context, Reply, Sink, Status, Stream};

struct A;

#[coreloop::service(client = false)]
impl A {
    fn two_sinks(&self, _cx: &Context, _a: Sink<i64>, _b: Sink<i64>) -> Result<(), Status> {
        Ok(())
    }

    fn two_streams(&self, _cx: &Context, _a: Stream<i64>, _b: Stream<i64>) -> Result<(), Status> {
        Ok(())
    }

    fn sink_before_argument(&self, _cx: &Context, _sink: Sink<i64>, _n: i64) -> Result<(), Status> {
        Ok(())
    }

    fn sink_before_stream(&self, _cx: &Context, _b: Sink<i64>, _a: Stream<i64>) -> Result<(), Status> {
        Ok(())
    }

    fn sink_before_context(&self, _sink: Sink<i64>, _cx: &Context) -> Result<(), Status> {
        Ok(())
    }

    fn sink_by_reference(&self, _cx: &Context, _sink: &Sink<i64>) -> Result<(), Status> {
        Ok(())
    }

    fn stream_by_reference(&self, _cx: &Context, _stream: &mut Stream<i64>) -> Result<(), Status> {
        Ok(())
    }

    fn stream_and_argument(&self, _cx: &Context, _stream: Stream<i64>, _n: i64) -> Result<(), Status> {
        Ok(())
    }

    fn argument_and_stream(&self, _cx: &Context, _n: i64, _stream: Stream<i64>) -> Result<(), Status> {
        Ok(())
    }

    fn all(&self, _cx: &Context, _n: i64, _stream: Stream<i64>, _sink: Sink<i64>) -> Result<(), Status> {
        Ok(())
    }

    fn reply_and_sink(&self, _cx: &Context, _n: i64, _reply: Reply<i64>, _sink: Sink<i64>) {}

    fn sink_and_reply(&self, _cx: &Context, _stream: Stream<i64>, _sink: Sink<i64>, _reply: Reply<()>) {}

    fn reply_before_stream(&self, _cx: &Context, _reply: Reply<i64>, _stream: Stream<i64>) {}

    fn sink_and_result(&self, _cx: &Context, _sink: Sink<i64>) -> Result<i64, Status> {
        Ok(1)
    }

    fn sink_and_nothing(&self, _cx: &Context, _sink: Sink<i64>) {}

    fn sink_and_unit(&self, _cx: &Context, _sink: Sink<i64>) -> () {}

    fn sink_and_alias(&self, _cx: &Context, _sink: Sink<i64>) -> std::fmt::Result {
        Ok(())
    }

    fn generic_sink(&self, _cx: &Context, _sink: Sink<impl ToString>) -> Result<(), Status> {
        Ok(())
    }

    fn any_sink(&self, _cx: &Context, _sink: Sink<dyn ToString>) -> Result<(), Status> {
        Ok(())
    }

    fn inferred_stream(&self, _cx: &Context, _stream: Stream<_>) -> Result<(), Status> {
        Ok(())
    }

    fn borrowed_messages(&self, _cx: &Context, _stream: Stream<&'static str>) -> Result<(), Status> {
        Ok(())
    }

    fn returned_stream(&self, _cx: &Context) -> Result<Stream<i64>, Status> {
        Err(Status::not_found("none"))
    }

    fn stream_in_reply(&self, _cx: &Context, _reply: Reply<Stream<i64>>) {}

    #[rpc(argument = describe)]
    fn nothing_to_describe(&self, _cx: &Context, _sink: Sink<i64>) -> Result<(), Status> {
        Ok(())
    }
}

mod types {
    //! Mistakes that only the compiler can see.

    use super::*;

    struct Argument;

    struct Sent;

    struct Received;

    struct B;

    #[coreloop::service(client = false)]
    impl B {
        fn opaque_argument(&self, _cx: &Context, _n: Argument, _sink: Sink<i64>) -> Result<(), Status> {
            Ok(())
        }

        fn opaque_sink(&self, _cx: &Context, _sink: Sink<Sent>) -> Result<(), Status> {
            Ok(())
        }

        fn opaque_stream(&self, _cx: &Context, _stream: Stream<Received>) -> Result<(), Status> {
            Ok(())
        }

        fn other_error(&self, _cx: &Context, _sink: Sink<i64>) -> Result<(), String> {
            Ok(())
        }
    }
}

fn main() {}
