//! A service with a configuration of its own: sections beside the keys of the server, from a file, the environment and
//! flags, with the origin of each value.
//!
//! Run `cargo run --example config --all-features -- --print-config --set orders.limit=5`, or with `--config FILE`.

use std::path::PathBuf;

use clap::Parser;
use coreloop::config::{Layers, Resolved};
use coreloop::{Context, Server, Status};
use serde::{Deserialize, Serialize};

/// The section `[orders]` of the file; `SHOP_ORDERS_LIMIT` in the environment.
#[derive(Serialize, Deserialize)]
struct OrdersConfig {
    /// The most items of an order.
    limit: u32,
    /// The currency of prices.
    currency: String,
    /// The password of the database. It is not printed.
    password: Option<String>,
}

impl Default for OrdersConfig {
    fn default() -> OrdersConfig {
        OrdersConfig { limit: 100, currency: "EUR".into(), password: None }
    }
}

/// The flags that the program has in any case; `--set` reaches every key.
#[derive(Parser)]
struct Args {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Addresses to listen on.
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
    /// Set any key, such as orders.limit=5 or server.cores=2.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print the configuration, with the origin of each value, and exit.
    #[arg(long)]
    print_config: bool,
}

struct Orders(OrdersConfig);

#[coreloop::service]
impl Orders {
    /// The price of this number of items, as text.
    fn price(&self, _cx: &Context, items: u32) -> Result<String, Status> {
        let OrdersConfig { limit, currency, .. } = &self.0;
        match items <= *limit {
            true => Ok(format!("{} {currency}", u64::from(items) * 25)),
            false => {
                Err(Status::out_of_range(format!("{items} items, over the limit of {limit} (orders.limit)")))
            }
        }
    }
}

fn resolve(args: &Args) -> Result<Resolved, coreloop::config::ConfigError> {
    let mut layers =
        Layers::of_program("SHOP").section::<OrdersConfig>("orders")?.secret("orders.password")?;
    if let Some(path) = &args.config {
        layers = layers.file(path)?;
    }
    layers = layers.process_env()?;
    for address in &args.listen {
        layers = layers.flag("server.listen", address)?;
    }
    args.set.iter().try_fold(layers, |layers, pair| layers.set(pair))?.resolve()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let resolved = resolve(&args)?;
    for warning in &resolved.warnings {
        eprintln!("warning: {warning}");
    }
    if args.print_config {
        let mut text = String::new();
        resolved.print(&mut text)?;
        print!("{text}");
        return Ok(());
    }
    let orders = Orders(resolved.section("orders")?);
    let server = Server::builder().service(orders).config(resolved.config).start()?;
    for address in server.addresses() {
        println!("listening on {address}");
    }
    // As `ServerBuilder::run`, which prints nothing: the server drains on SIGTERM and SIGINT.
    let stopper = server.stopper();
    let _signals = coreloop::signals::on_stop(move |_signal| stopper.stop())?;
    server.wait()?;
    Ok(())
}
