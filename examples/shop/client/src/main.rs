//! Calls each method of the shop once: `shop-client ADDRESS`.

use coreloop::client::CallError;
use shop_api::{Fill, Order, OrdersClient};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).ok_or("expected the address of the server")?;
    let orders = OrdersClient::connect(&address)?;
    let order = |item: &str, count| Order { item: item.to_owned(), count };

    assert_eq!(orders.price(&order("book", 2))?, 4_000);
    let unknown = orders.price(&order("cup", 1)).unwrap_err();
    assert!(matches!(&unknown, CallError::Status(status) if status.message == "no item \"cup\""), "{unknown}");

    let restock = orders.restock()?;
    for pieces in [3, 4] {
        restock.send(&pieces)?;
    }
    assert_eq!(restock.finish()?, 7);

    assert_eq!(orders.place(&1, &order("book", 5))?, 1);
    assert_eq!(orders.place_start(&1, &order("pen", 2)).wait()?, 2);
    assert!(orders.place(&1, &order("pen", 1)).unwrap_err().to_string().contains("sold out"));

    let fills = orders.fills(&1)?.collect::<Result<Vec<Fill>, _>>()?;
    assert_eq!(fills, [Fill { count: 5, cents: 10_000 }, Fill { count: 2, cents: 300 }]);

    let (items, mut prices) = orders.quotes()?.split();
    for (item, price) in [("pen", 150), ("book", 2_000)] {
        items.send(&item.to_owned())?;
        assert_eq!(prices.next().transpose()?, Some(price));
    }
    items.finish(Ok(()));
    assert_eq!(prices.next().transpose()?, None);

    println!("every method answered as expected");
    Ok(())
}
