//! Traits that cannot be contracts, and functions that cannot be in one.

use coreloop::{Context, Sink, Status, Stream};

#[coreloop::service]
trait Generic<T> {
    fn keep(&self, cx: &Context, value: T) -> Result<(), Status>;
}

#[coreloop::service]
unsafe trait Unsafe {
    fn run(&self, cx: &Context) -> Result<(), Status>;
}

type Answer<T> = Result<T, Status>;

#[coreloop::service]
trait Mistakes {
    type Value;

    fn of_self(&self, cx: &Context, value: Self::Value) -> Result<(), Status>;

    fn to_self(&self, cx: &Context) -> Result<Box<Self>, Status>;

    #[rpc(argument = Self::describe)]
    fn by_self(&self, cx: &Context, value: u8) -> Result<(), Status>;

    fn describe();

    fn without_receiver(cx: &Context, value: u8) -> Result<(), Status>;

    fn without_context(&self, value: u8) -> Result<u8, Status>;

    fn context_by_value(&self, cx: Context<'_>) -> Result<(), Status>;

    fn by_mutable_reference(&mut self, cx: &Context) -> Result<(), Status>;

    fn by_value(self, cx: &Context) -> Result<(), Status>;

    fn without_result(&self, cx: &Context) -> u8;

    fn alias(&self, cx: &Context) -> Answer<u8>;

    fn generic<T>(&self, cx: &Context, value: T) -> Result<(), Status>;

    fn lifetime<'a>(&'a self, cx: &Context) -> Result<(), Status>;

    fn borrowed_text(&self, cx: &Context, text: &str) -> Result<(), Status>;

    fn mutable_argument(&self, cx: &Context, value: &mut u8) -> Result<(), Status>;

    #[rpc(fast)]
    fn unknown_option(&self, cx: &Context) -> Result<(), Status>;

    fn once(&self, cx: &Context) -> Result<(), Status>;

    #[rpc(name = "Once")]
    fn again(&self, cx: &Context) -> Result<(), Status>;

    fn sink_first(&self, cx: &Context, sink: Sink<u8>, value: u8) -> Result<(), Status>;

    fn sink_returned(&self, cx: &Context) -> Result<Sink<u8>, Status>;

    fn stream_and_arguments(&self, cx: &Context, a: u8, b: u8, rows: Stream<u8>) -> Result<(), Status>;

    #[rpc(inline)]
    const LIMIT: u8;

    fn connect(&self, cx: &Context) -> Result<(), Status>;
}

fn main() {}
