//! `/methods`: what can be called, with a form for each.

use super::{Console, Page, Params};
use crate::admin::view::{Block, Cell, Table, View};
use crate::status::Status;

pub(super) fn page(console: &Console, params: &Params) -> Result<Page, Status> {
    let data = console.inspector.described_methods();
    // The script shows the same as forms.
    let is_wanted = |name: &str| params.get("method").is_none_or(|wanted| wanted == name);
    let mut table = Table::new("", "There is no such method.")
        .text("method")
        .wide("types")
        .text("runs")
        .text("")
        .text("documentation");
    for method in
        console.inspector.methods().iter().filter(|method| !method.is_route() && is_wanted(method.name()))
    {
        table.row(vec![
            Cell::code(method.name()),
            Cell::code(method.signature()),
            Cell::text(method.runs().name()),
            Cell::text(""),
            Cell::text(method.documentation().lines().next().unwrap_or_default()),
        ]);
    }
    let address = console.http_address().unwrap_or_default();
    let data = serde_json::json!({
        "methods": data["methods"],
        "schemas": data["schemas"],
        "http_address": address,
        "native_address": console.native_address().unwrap_or_default(),
    });
    let view = View {
        title: "Methods",
        lead: "Each method with its types and its documentation. A call from here goes through the run queue, the limits and \
               the interceptors, as any other."
            .to_owned(),
        blocks: vec![Block::Widget("methods", String::new()), Block::Table(table)],
    };
    Ok(Page { view, data })
}
