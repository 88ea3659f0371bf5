//! The pages. Each makes a model from what the server says at that moment, which is its JSON form, and a view of the model,
//! which is its HTML and its text.

mod calls;
mod config;
mod connections;
mod endpoints;
mod methods;
mod overview;
mod profiles;
mod queues;
mod reactors;
mod traces;

use super::Console;
use super::respond::{Page, Params};
use crate::status::Status;

/// A page of the console.
pub(super) struct PageEntry {
    pub(super) path: &'static str,
    pub(super) title: &'static str,
    /// It changes by itself: browsers receive events.
    pub(super) is_live: bool,
    pub(super) make: fn(&Console, &Params) -> Result<Page, Status>,
}

/// All pages, in the order of the navigation.
pub(super) const PAGES: [PageEntry; 10] = [
    PageEntry { path: "/", title: "Overview", is_live: true, make: overview::page },
    PageEntry { path: "/methods", title: "Methods", is_live: false, make: methods::page },
    PageEntry { path: "/calls", title: "Calls", is_live: true, make: calls::page },
    PageEntry { path: "/traces", title: "Traces", is_live: true, make: traces::page },
    PageEntry { path: "/connections", title: "Connections", is_live: true, make: connections::page },
    PageEntry { path: "/reactors", title: "Reactors", is_live: true, make: reactors::page },
    PageEntry { path: "/queues", title: "Queues", is_live: true, make: queues::page },
    PageEntry { path: "/endpoints", title: "Endpoints", is_live: true, make: endpoints::page },
    PageEntry { path: "/config", title: "Config", is_live: false, make: config::page },
    PageEntry { path: "/profiles", title: "Profiles", is_live: false, make: profiles::page },
];

/// The most rows of a table.
const ROWS_MAX: usize = 1000;

/// Returns the page at a path.
pub(super) fn at(path: &str) -> Option<&'static PageEntry> {
    PAGES.iter().find(|page| page.path == path)
}

/// Returns the remark about rows that are left out.
fn left_out(shown: usize, all: usize, is_cut: bool) -> Option<String> {
    match (shown < all, is_cut) {
        (false, false) => None,
        (true, false) => Some(format!("{shown} of {all} are shown.")),
        (_, true) => Some(format!("{shown} are shown. There are more: each reactor lists at most 1,000.")),
    }
}

/// Returns the remark about reactors that have not answered.
fn silent_reactors(silent: &[usize]) -> Option<String> {
    if silent.is_empty() {
        return None;
    }
    let names: Vec<String> = silent.iter().map(usize::to_string).collect();
    Some(format!(
        "Not answered within 1 s: reactor {}. It is busy in one turn, or has ended.",
        names.join(", ")
    ))
}
