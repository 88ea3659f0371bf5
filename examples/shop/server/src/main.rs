//! Serves the shop: `shop-server [ADDRESS]`.

use std::sync::Mutex;

use coreloop::{Context, Server, Sink, Status, Stream};
use shop_api::{Fill, Order, Orders, OrdersServer, ShopError};

#[derive(Default)]
struct Shop {
    stock: Mutex<u32>,
    fills: Mutex<Vec<(u64, Fill)>>,
}

impl Orders for Shop {
    fn price(&self, _cx: &Context, order: Order) -> Result<u64, ShopError> {
        match &*order.item {
            "book" => Ok(2_000 * u64::from(order.count)),
            "pen" => Ok(150 * u64::from(order.count)),
            _ => Err(ShopError::UnknownItem(order.item)),
        }
    }

    fn place(&self, cx: &Context, account: u64, order: Order) -> Result<u64, ShopError> {
        let count = order.count;
        let cents = self.price(cx, order)?;
        let mut stock = self.stock.lock().unwrap();
        *stock = stock.checked_sub(count).ok_or(ShopError::SoldOut)?;
        let mut fills = self.fills.lock().unwrap();
        fills.push((account, Fill { count, cents }));
        Ok(fills.len() as u64)
    }

    fn fills(&self, _cx: &Context, account: u64, fills: Sink<Fill>) -> Result<(), Status> {
        let all = self.fills.lock().unwrap().clone();
        for (_, fill) in all.iter().filter(|(owner, _)| *owner == account) {
            fills.send(fill)?;
        }
        Ok(())
    }

    fn restock(&self, _cx: &Context, pieces: Stream<u32>) -> Result<u32, Status> {
        for more in pieces {
            *self.stock.lock().unwrap() += more?;
        }
        Ok(*self.stock.lock().unwrap())
    }

    fn quotes(&self, cx: &Context, items: Stream<String>, prices: Sink<u64>) -> Result<(), Status> {
        for item in items {
            prices.send(&self.price(cx, Order { item: item?, count: 1 })?)?;
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:6550".to_owned());
    let server = Server::builder().service(OrdersServer::new(Shop::default())).listen(&address).start()?;
    println!("listening on {}", server.addresses()[0]);
    server.wait()?;
    Ok(())
}
