//! The generated code as text: the forms of methods, and the errors.
//!
//! The tests with the server, in the root crate, check that it compiles and works.

use proc_macro2::TokenStream;

use crate::expand;

fn tokens(text: &str) -> TokenStream {
    text.parse().expect("the test's own tokens")
}

/// The expansion, without spaces, and without the questions about the types that markers are made of.
fn expanded(options: &str, functions: &str) -> String {
    expanded_item(options, &format!("impl Arith {{ {functions} }}"))
}

fn expanded_item(options: &str, item: &str) -> String {
    let item = tokens(item);
    let mut text = expand(tokens(options), item).to_string().replace(char::is_whitespace, "");
    let begin = "{#[allow(unused_imports)]use";
    while let Some(start) = text.find(begin) {
        let ends = [".protobuf_form()}", ".transmitted()}", ".all_transmitted()}", ".converts()}"];
        let end = ends.iter().filter_map(|end| Some(text[start..].find(end)? + end.len())).min();
        text.replace_range(start..start + end.expect("a question has an end"), "?");
    }
    // The marker of a type that is checked first, as that of one that is not.
    let text =
        text.replace("?.one(::coreloop::macro_support::types::<", "::coreloop::macro_support::plain::<");
    text.replace(">(),?)", ">").replace(",(),(", ",_,(").replace("(?)", "")
}

const MULTIPLY: &str =
    "fn multiply(&self, cx: &Context, args: Args) -> Result<i64, Status> { Ok(args.a * args.b) }";

#[track_caller]
fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(&part.replace(' ', "")), "no {part} in {text}");
    }
}

#[test]
fn a_method_has_its_name_its_markers_and_its_client() {
    let text = expanded("", MULTIPLY);
    assert_has(
        &text,
        &[
            "impl ::coreloop::macro_support::Service for Arith",
            "(::coreloop::macro_support::plain::<Args, _, ()>, ::coreloop::macro_support::plain::<i64, _, ()>)",
            "::coreloop::macro_support::method(argument_marker, reply_marker, \"Arith.Multiply\", handler)",
            "\"Arith.Multiply\"",
            "Kind::Pooled",
            "::coreloop::macro_support::server_items! {",
            "::coreloop::macro_support::client_items! {",
            "pub struct ArithClient<C = ::coreloop::macro_support::Client>",
            "pub fn multiply(&self, argument: &Args)",
            "pub fn multiply_start(&self, argument: &Args) -> ::coreloop::macro_support::InFlight<i64>",
            "pub fn multiply_then(&self, argument: &Args, then: impl",
            "pub fn multiply_one_way(&self, argument: &Args)",
        ],
    );
    assert!(!text.contains("deferring") && !text.contains(".docs") && !text.contains("#[rpc"));
}

#[test]
fn the_options_say_name_client_and_path() {
    let text = expanded("name = \"Sums\", client_vis = \"pub(crate)\", crate = crate::own", MULTIPLY);
    assert_has(
        &text,
        &["\"Sums.Multiply\"", "pub(crate) struct ArithClient", "impl crate::own::macro_support::Service"],
    );
    assert!(!text.contains("::coreloop"), "{text}");
    assert!(!expanded("client = false", MULTIPLY).contains("Client"));
}

#[test]
fn the_parameter_decides_how_argument_and_reply_travel() {
    for (argument, reply, markers) in [
        ("", "i64", "plain::<(), _, ()>, S::plain::<i64, _, ()>"),
        (", x: &Pair", "i64", "fixed::<Pair, _, ()>, S::fixed::<i64, _, ()>"),
        (", x: &[u8]", "Vec<u8>", "Raw, S::Raw"),
        (", x: &[u8]", "Bytes", "Raw, S::RawBytes"),
        (", x: coreloop::Bytes", "Bytes", "RawBytes, S::RawBytes"),
        (", x: Bytes", "std::vec::Vec<u8>", "RawBytes, S::Raw"),
        (", x: &[u8]", "u64", "Raw, S::plain::<u64, _, ()>"),
        (", x: String", "Bytes", "plain::<String, _, ()>, S::plain::<Bytes, _, ()>"),
        (", x: Vec<u8>", "Vec<u8>", "plain::<Vec<u8>, _, ()>, S::plain::<Vec<u8>, _, ()>"),
    ] {
        let text = expanded(
            "client = false",
            &format!("fn f(&self, _: &Context{argument}) -> Result<{reply}, Status> {{}}"),
        );
        let markers = format!("(argument_marker, reply_marker) = (S::{markers})")
            .replace("S::", "::coreloop::macro_support::");
        assert_has(&text, &[&markers]);
        assert_eq!(
            text.contains("sharing_body"),
            markers.contains("(::coreloop::macro_support::RawBytes"),
            "{text}"
        );
    }
}

#[test]
fn a_reply_as_the_last_parameter_defers() {
    let text = expanded("", "fn f(&self, _: &Context, x: u8, reply: Reply<String>) {}");
    assert_has(&text, &[".deferring()", "::coreloop::macro_support::take_reply(reply_marker, cx, codec)"]);
    assert_has(&text, &["pub fn f(&self, argument: &u8) -> ::coreloop::macro_support::Result<String,"]);
}

#[test]
fn streams_and_sinks_decide_the_shape() {
    for (rest, shape, handler, markers) in [
        (
            ", n: i64, users: Sink<User>) -> Result<(), Status>",
            "ServerStream",
            "server_stream(argument_marker, reply_marker, move |cx, argument, answer| \
             Self::f(&service, cx, argument, answer))",
            "plain::<i64, _, ()>, S::plain::<User, _, ()>",
        ),
        (
            ", sink: coreloop::Sink<User>) -> Result<(), Status>",
            "ServerStream",
            "server_stream(argument_marker, reply_marker, move |cx, (), answer| \
             Self::f(&service, cx, answer))",
            "plain::<(), _, ()>, S::plain::<User, _, ()>",
        ),
        (
            ", n: &Pair, users: Sink<Pair>) -> Result<(), Status>",
            "ServerStream",
            "server_stream(argument_marker, reply_marker, move |cx, argument, answer| \
             Self::f(&service, cx, &argument, answer))",
            "fixed::<Pair, _, ()>, S::fixed::<Pair, _, ()>",
        ),
        (
            ", n: Bytes, parts: Sink<Bytes>) -> Result<(), Status>",
            "ServerStream",
            "server_stream(argument_marker, reply_marker, move |cx, argument, answer| \
             Self::f(&service, cx, argument, answer))",
            "RawBytes, S::plain::<Bytes, _, ()>",
        ),
        (
            ", users: Stream<User>) -> Result<i64, Status>",
            "ClientStream",
            "client_stream(argument_marker, reply_marker, move |cx, argument| \
             Self::f(&service, cx, argument))",
            "plain::<User, _, ()>, S::plain::<i64, _, ()>",
        ),
        (
            ", users: Stream<User>, reply: Reply<i64>)",
            "ClientStream",
            "client_stream_deferring(argument_marker, reply_marker, move |cx, argument, answer| \
             Self::f(&service, cx, argument, answer))",
            "plain::<User, _, ()>, S::plain::<i64, _, ()>",
        ),
        (
            ", texts: Stream<String>, sink: Sink<Vec<u8>>) -> Result<(), Status>",
            "Bidirectional",
            "bidirectional(argument_marker, reply_marker, move |cx, argument, answer| \
             Self::f(&service, cx, argument, answer))",
            "plain::<String, _, ()>, S::plain::<Vec<u8>, _, ()>",
        ),
    ] {
        let text =
            expanded("client = false", &format!("#[rpc(blocking)] fn f(&self, _: &Context{rest} {{}}"));
        let support = "::coreloop::macro_support::";
        let markers = format!("(argument_marker, reply_marker) = (S::{markers})").replace("S::", support);
        let handler = format!("let handler = {support}{handler}");
        let shape = format!(", {support}CallShape::{shape}).kind({support}Kind::Blocking)");
        assert_has(&text, &[&markers, &handler, &shape]);
        assert_eq!(text.contains("sharing_body"), rest.contains("n: Bytes"), "{text}");
    }
}

#[test]
fn the_client_has_one_function_for_a_method_with_streams() {
    for (rest, function, call) in [
        (
            ", n: i64, users: Sink<User>) -> Result<(), Status>",
            "f(&self, argument: &i64) -> S::Result<S::Stream<User>, S::CallError>",
            "start_server_stream",
        ),
        (
            ", n: Bytes, users: Sink<User>) -> Result<(), Status>",
            "f(&self, argument: &[u8]) -> S::Result<S::Stream<User>, S::CallError>",
            "start_server_stream",
        ),
        (
            ", users: Sink<User>) -> Result<(), Status>",
            "f(&self) -> S::Result<S::Stream<User>, S::CallError>",
            "start_server_stream",
        ),
        (
            ", users: Stream<User>) -> Result<i64, Status>",
            "f(&self) -> S::Result<S::Upload<User, i64>, S::CallError>",
            "start_client_stream",
        ),
        (
            ", users: Stream<User>, reply: Reply<i64>)",
            "f(&self) -> S::Result<S::Upload<User, i64>, S::CallError>",
            "start_client_stream",
        ),
        (
            ", users: Stream<User>, names: Sink<String>) -> Result<(), Status>",
            "f(&self) -> S::Result<S::Chat<User, String>, S::CallError>",
            "start_bidirectional",
        ),
    ] {
        let text = expanded("", &format!("fn f(&self, _: &Context{rest} {{}}"));
        let function = format!("pub fn {function}").replace("S::", "::coreloop::macro_support::");
        let call = format!("::coreloop::macro_support::{call}(&self.caller, ");
        let bound = "impl<C: ::coreloop::macro_support::StreamCaller> ArithClient<C>";
        assert_has(&text, &[&function, &call, bound]);
        assert!(!text.contains("f_start") && !text.contains("f_one_way"), "{text}");
    }
    assert!(!expanded("", MULTIPLY).contains("StreamCaller"));
}

#[test]
fn a_name_without_a_message_type_is_a_type_of_the_users() {
    let text = expanded("", "fn f(&self, _: &Context, river: Stream) -> Result<Sink, Status> {}");
    assert_has(&text, &["plain::<Stream, _, ()>, ::coreloop::macro_support::plain::<Sink, _, ()>"]);
    assert!(!text.contains("CallShape"), "{text}");
}

#[test]
fn the_codecs_of_a_service_are_in_each_marker() {
    let text = expanded("codecs(Lines, own::Table)", MULTIPLY);
    assert_has(
        &text,
        &["plain::<Args, _, (Lines, (own::Table, ()))>", "plain::<i64, _, (Lines, (own::Table, ()))>"],
    );
    for wrong in ["codecs", "codecs()", "codecs = Lines", "codecs(Lines), codecs(Lines)"] {
        assert!(expanded(wrong, MULTIPLY).contains("compile_error"), "{wrong}");
    }
}

#[test]
fn attributes_say_where_it_runs_and_what_it_is() {
    let function =
        format!("/// One.\n///  Two.\n #[rpc(inline, idempotent, name = \"X\")] #[cfg(unix)] {MULTIPLY}");
    let text = expanded("", &function);
    assert_has(&text, &["\"Arith.X\"", "Kind::Inline", ".idempotent()", "#[cfg(unix)] methods.push"]);
    assert_has(&text, &[r#".docs("One.\nTwo.")"#, "#[cfg(unix)] #[doc"]);
}

#[test]
fn what_is_no_method_is_left_alone() {
    let text = expanded(
        "client = false",
        "const N: u8 = 1; fn new() -> Self { Self } #[rpc(skip)] fn help(&self) {}",
    );
    assert!(!text.contains("push") && !text.contains("rpc") && !text.contains("compile_error"), "{text}");
}

#[test]
fn mistakes_leave_the_block_as_it_was() {
    let text = expanded("", &format!("{MULTIPLY} #[rpc(inline)] fn wrong(&self) {{}}"));
    assert_has(&text, &["fn multiply(&self", "fn wrong(&self)", "compile_error!"]);
    assert!(!text.contains("#[rpc(inline"));
    assert_eq!(text.matches("compile_error").count(), 1);
    let two = expanded("", "fn wrong(&self) {} fn none(&self, cx: &Context) {} ");
    assert_eq!(two.matches("compile_error").count(), 2, "all mistakes at once");
}

const PRICE: &str =
    "/// Docs.\n #[rpc(inline)] fn price(&self, cx: &Context, order: Order) -> Result<u64, ShopError>;";

#[test]
fn a_contract_has_a_server_of_any_implementation_and_a_client() {
    let text =
        expanded_item("package = \"shop.v1\"", &format!("pub(crate) trait Orders: Debug {{ {PRICE} }}"));
    assert_has(
        &text,
        &[
            "pub(crate) trait Orders: Debug {",
            "pub(crate) struct OrdersServer<T> { implementation: T, }",
            "impl<T: Orders + ::core::marker::Send + ::core::marker::Sync + 'static> OrdersServer<T>",
            "::coreloop::macro_support::Service for OrdersServer<T> {",
            "{ ::coreloop::macro_support::check_error::<ShopError>(); \
             ?.result(<T as Orders>::price(&service.implementation, cx, argument)) }",
            "\"shop.v1.Orders.Price\"",
            "Kind::Inline",
            "pub(crate) struct OrdersClient<C = ::coreloop::macro_support::Client>",
            "impl OrdersClient<::coreloop::macro_support::Client>",
            "pub fn connect(address: impl ::coreloop::macro_support::ToAddress",
            "pub fn price_with(&self, argument: &Order, options: impl ::core::borrow::Borrow<",
            "pub fn price_start_with(",
            "pub fn price_then_with(",
            "pub fn price_one_way_with(",
            "pub fn price(&self, argument: &Order) -> ::coreloop::macro_support::Result<u64,",
        ],
    );
    assert!(!text.contains("#[rpc") && !text.contains("compile_error"), "{text}");
}

#[test]
fn type_parameters_of_generated_types_are_not_names_of_the_user() {
    let text = expanded_item("", "trait T { fn f(&self, cx: &Context, value: C) -> Result<T, Status>; }");
    assert_has(&text, &["struct TServer<Implementation>", "struct TClient<Via ="]);
}

#[test]
fn several_arguments_are_fields_of_a_struct() {
    let function = "fn f(&self, _: &Context, unit_price: u64, #[rpc(rename = \"n\")] _count: u8) \
                    -> Result<u64, Status> {}";
    let text = expanded("rename_all = \"camelCase\"", function);
    assert_has(
        &text,
        &[
            "const FIELDS: &'static[&'static str] = &[\"unitPrice\", \"n\"];",
            "several(::coreloop::macro_support::types::<(u64, u8,), FieldNames, ()>(), (?, ?,))",
            "several_given(::coreloop::macro_support::types::<(u64, u8,), FieldNames, ()>(), (?, ?,), &arguments)",
            "Ok((argument_0, argument_1,)) =>",
            "Self::f(&service, cx, argument_0, argument_1)",
            "pub fn f(&self, unit_price: &u64, _count: &u8)",
            "let arguments = (unit_price, _count,);",
            "with_several_arguments(",
        ],
    );
    assert!(!text.contains("#[rpc"), "{text}");
}

const QUOTE: &str = "async fn quote(&self, cx: OwnedContext, symbol: String) -> Result<u64, Status>";

#[test]
fn an_async_method_of_a_contract_returns_a_future_that_can_be_sent() {
    let text = expanded_item(
        "",
        &format!("trait Market {{ {QUOTE}; {} {{ Ok(1) }} }}", QUOTE.replace("quote", "last")),
    );
    assert_has(
        &text,
        &[
            "fn quote(&self, cx: OwnedContext, symbol: String) -> impl ::core::future::Future<Output = \
             Result<u64, Status>> + ::core::marker::Send;",
            "Result<u64, Status>> + ::core::marker::Send { async move { Ok(1) } }",
            "::coreloop::macro_support::async_method(argument_marker, reply_marker, \"Market.Quote\", handler)",
            "async_unary(argument_marker, reply_marker, move |cx, argument| {",
            "async move { <T as Market>::quote(&service.implementation, cx, argument).await }",
        ],
    );
    assert!(!text.contains("asyncfn") && !text.contains(".kind("), "{text}");
    let block = expanded("", &format!("{QUOTE} {{ Ok(1) }}"));
    assert_has(
        &block,
        &["async fn quote(&self", "async_unary(", "Self::quote(&service, cx, argument).await"],
    );
    for wrong in [
        "async fn f(&self, cx: &Context) -> Result<(), Status> {}",
        "async fn f(&self, cx: OwnedContext, x: &u8) -> Result<u8, Status> {}",
        "async fn f(&self, cx: OwnedContext, reply: Reply<u8>) {}",
        "#[rpc(blocking)] async fn f(&self, cx: OwnedContext) -> Result<(), Status> {}",
        "fn f(&self, cx: OwnedContext) -> Result<(), Status> {}",
    ] {
        assert!(expanded("", wrong).contains("compile_error"), "{wrong}");
    }
}
