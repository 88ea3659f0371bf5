//! The attribute `#[coreloop::service]`: makes a service and its typed client of a trait, or of an impl block.
//!
//! The input is documented at [`macro@service`]. `item.rs` parses it, `options.rs` reads the attributes, `signature.rs`
//! determines the form of a function (or its error), `model.rs` combines the three; `server.rs` and `client.rs` generate
//! the code. Nothing here depends on protocols: the generated code refers to `coreloop::macro_support`.
#![forbid(unsafe_code)]

mod arguments;
mod checks;
mod client;
mod item;
mod markers;
mod model;
mod options;
mod rename;
mod server;
mod signature;
#[cfg(test)]
mod tests;
mod tokens;
mod types;

use proc_macro2::TokenStream;
use quote::quote;

use item::ServiceItem;

/// Makes a service of a trait, its contract, and generates a typed client.
///
/// ```ignore
/// #[coreloop::service]
/// pub trait Arith {
///     /// Product of the two.
///     fn multiply(&self, cx: &Context, a: i64, b: i64) -> Result<i64, Status>;
///
///     #[rpc(inline, name = "Plus")]
///     fn add(&self, cx: &Context, args: Args) -> Result<i64, ArithError>;
/// }
///
/// impl Arith for Machine { /* … */ }
///
/// let server = Server::builder().service(ArithServer::new(Machine)).listen("127.0.0.1:6550").start()?;
/// assert_eq!(ArithClient::connect("127.0.0.1:6550")?.multiply(&6, &7)?, 42);
/// ```
///
/// On an `impl` block, `impl Arith { … }`, it makes a service of that type: the short form for one crate, without
/// `ArithServer`.
///
/// Every function with a `&self` receiver becomes a method `Service.Method`, the names in PascalCase; it takes
/// `&Context` and its arguments, and returns `Result<R, E>`, where `E` is `Status` or converts to it, or takes or sends
/// a [stream](#streams). Several arguments are sent as a struct with a field for each. Doc comments become the
/// documentation that `Meta.Methods` and the OpenAPI document have. A trait may have default methods. In an `impl`
/// block, items without a receiver are unchanged; a type can have one such block.
///
/// # On the trait or block: `#[coreloop::service(…)]`
///
/// | option | meaning |
/// |---|---|
/// | `name = "…"`, `rename = "…"` | the service's name instead of the trait's or the type's |
/// | `package = "…"` | the package before the name: `shop.v1` |
/// | `rename_all = "…"` | how the fields of [several arguments](#how-the-argument-is-encoded) are named: `"PascalCase"`, `"camelCase"`, `"kebab-case"` and serde's other rules; as written by default |
/// | `client = false` | no typed client; then arguments need only `Deserialize` |
/// | `client_vis = "pub(crate)"` | the client's visibility; by default that of the trait, or `pub` |
/// | `crate = path` | the path of coreloop, if not `::coreloop` |
/// | `missing_fields = "zero"` | the rule for missing fields of arguments, instead of the server's: `"by_protocol"`, `"zero"`, `"error"` |
/// | `codecs(Lines, …)` | types that implement `coreloop::codec::UserCodec`: the methods accept them beside the codecs of the crate |
///
/// # On a function: `#[rpc(…)]`
///
/// | option | meaning |
/// |---|---|
/// | `name = "…"`, `rename = "…"` | the method's name, the part after the dot |
/// | `inline` | it runs on the reactor's thread: it must never block |
/// | `pooled` | it runs on the worker pool, which is the default |
/// | `blocking` | it runs on the elastic pool: it may block |
/// | `idempotent` | it changes nothing: it may be called with GET, and retried |
/// | `argument = path`, `reply = path` | functions `fn() -> Description`, for types that serde cannot describe; of a stream they describe a message |
/// | `skip` | not a method |
///
/// # How the argument is encoded
///
/// | parameter | encoding | reply |
/// |---|---|---|
/// | none | the unit type | any serde type |
/// | `T` | any serde type | any serde type |
/// | `&T` | fixed layout (zerocopy, feature `fixed`): a reference into the body | fixed layout too |
/// | `&[u8]` | a byte string, borrowed | `Vec<u8>` or `Bytes` as a byte string, others as serde types |
/// | `Bytes` | a byte string, shared with the body | the same |
/// | several, by value | a struct with a field for each, any serde types | any serde type |
///
/// The fields are named as the parameters, without leading underscores, and by the service's `rename_all`;
/// `#[rpc(rename = "…")]` before a parameter sets the name of its field. There are eight arguments at most. JSON-RPC's
/// `params` may have them in a list.
///
/// A function whose last parameter is `Reply<R>` and that returns nothing answers later, through that parameter.
///
/// # Streams
///
/// A parameter `Stream<M>` in place of the argument receives messages, and a last parameter `Sink<M>` sends them. Both
/// are recognized as written, by the last part of the path and one type argument, and passed by value.
///
/// | parameters after the context | result | shape |
/// |---|---|---|
/// | the arguments or none, `Sink<M>` | `Result<(), E>` | server streaming |
/// | `Stream<M>` | `Result<R, E>` | client streaming |
/// | `Stream<M>`, `Reply<R>` | nothing | client streaming, answered later |
/// | `Stream<M>`, `Sink<N>` | `Result<(), E>` | bidirectional |
///
/// Messages are of any serde type, with both `Serialize` and `Deserialize`. Beside an argument `&T` the messages of
/// the sink have a fixed layout too; beside an argument of bytes they are serde types.
///
/// # The client
///
/// `ArithClient<C = Client>` has `connect` (for `Client`), `new`, `caller`, `caller_mut`, `into_caller`, and each method
/// with its arguments by reference: `fn multiply(&self, a: &i64, b: &i64) -> Result<i64, CallError>`. For a caller that can start calls without
/// waiting for them (`coreloop::client::Client`, a batch), each method has three more functions:
///
/// | function | result |
/// |---|---|
/// | `multiply_start(&self, …)` | `InFlight<i64>`: a handle to wait for, or to await |
/// | `multiply_then(&self, …, then)` | nothing: the answer is passed to the function `then` |
/// | `multiply_one_way(&self, …)` | whether the call could be handed over: the server sends no answer |
///
/// Each of these four has a form with settings of its own, `multiply_with(&self, …, &options)`, `multiply_start_with`,
/// `multiply_then_with` and `multiply_one_way_with`, if the caller is a `Client`; the options are
/// `coreloop::client::CallOptions`. A function whose name another method of the service has is left out.
///
/// Methods with [streams](#streams) have one function each, and one with options, for a caller that implements
/// `coreloop::client::StreamCaller`, as `coreloop::client::Client` does:
///
/// | shape | function |
/// |---|---|
/// | server streaming | `watch(&self, …) -> Result<Stream<M>, CallError>` |
/// | client streaming | `import(&self) -> Result<Upload<M, R>, CallError>` |
/// | bidirectional | `chat(&self) -> Result<Chat<M, N>, CallError>` |
///
/// Serde types then need both `Serialize` and
/// `Deserialize`. A generic service has a client if no method's types name its parameters.
#[proc_macro_attribute]
pub fn service(options: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand(options.into(), item.into()).into()
}

/// Returns the item without the `rpc` attributes, followed by the generated code or by the errors.
fn expand(options: TokenStream, item: TokenStream) -> TokenStream {
    let mut service = match ServiceItem::parse(item.clone()) {
        Ok(service) => service,
        Err(error) => return with_error(&item, &error),
    };
    let model = model::Model::of(options, &service);
    service.rewrite();
    match model {
        Ok(model) => {
            let support = model.support();
            let server = server::service_impl(&model);
            let client = client::client(&model).map(|client| quote!(#support::client_items! { #client }));
            quote! { #service #support::server_items! { #server } #client }
        }
        Err(error) => with_error(&quote!(#service), &error),
    }
}

/// The item stays, so that the mistake does not cause errors wherever the item is used.
fn with_error(item: &TokenStream, error: &syn::Error) -> TokenStream {
    let error = error.to_compile_error();
    quote! { #item #error }
}
