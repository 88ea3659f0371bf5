//! The contract: what the server and its callers agree on.

use coreloop::{Code, Context, Sink, Status, Stream};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    pub item: String,
    pub count: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fill {
    pub count: u32,
    pub cents: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ShopError {
    UnknownItem(String),
    SoldOut,
}

impl From<ShopError> for Status {
    fn from(error: ShopError) -> Status {
        match error {
            ShopError::UnknownItem(item) => Status::not_found(format!("no item {item:?}")),
            ShopError::SoldOut => Status::new(Code::FailedPrecondition, "sold out"),
        }
    }
}

#[coreloop::service(package = "shop.v1")]
pub trait Orders {
    /// Price of an order, in cents.
    #[rpc(idempotent)]
    fn price(&self, cx: &Context, order: Order) -> Result<u64, ShopError>;

    /// Places an order for an account. Returns the number of the order.
    fn place(&self, cx: &Context, account: u64, order: Order) -> Result<u64, ShopError>;

    /// What was delivered to an account so far.
    #[rpc(blocking)]
    fn fills(&self, cx: &Context, account: u64, fills: Sink<Fill>) -> Result<(), Status>;

    /// Adds to the stock. Returns how many pieces there are now.
    #[rpc(blocking)]
    fn restock(&self, cx: &Context, pieces: Stream<u32>) -> Result<u32, Status>;

    /// Answers each item with its price.
    #[rpc(blocking)]
    fn quotes(&self, cx: &Context, items: Stream<String>, prices: Sink<u64>) -> Result<(), Status>;
}
