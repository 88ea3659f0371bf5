//! Types that serde cannot read or write: one error for each.

use coreloop::{Context, Sink, Status, Stream};
use serde::{Deserialize, Serialize};

struct Neither;

#[derive(Serialize)]
struct OnlyWritten;

#[derive(Deserialize)]
struct OnlyRead;

struct Reply;

struct Sent;

struct Received;

struct OneOfSeveral;

#[coreloop::service]
trait Contract {
    fn neither(&self, cx: &Context, value: Neither) -> Result<(), Status>;

    fn only_written(&self, cx: &Context, value: OnlyWritten) -> Result<(), Status>;

    fn only_read(&self, cx: &Context, value: OnlyRead) -> Result<(), Status>;

    fn reply(&self, cx: &Context) -> Result<Reply, Status>;

    fn sent(&self, cx: &Context, messages: Sink<Sent>) -> Result<(), Status>;

    fn received(&self, cx: &Context, messages: Stream<Received>) -> Result<(), Status>;

    fn several(&self, cx: &Context, number: u8, value: OneOfSeveral) -> Result<(), Status>;
}

fn main() {}
