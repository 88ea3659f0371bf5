//! `/profiles`: where the CPU's time goes, on demand.

use serde::Serialize;

use super::{Console, Page, Params};
use crate::admin::view::{Block, Cell, Table, View};
use crate::status::Status;

#[derive(Serialize)]
struct ProfilesModel {
    profiles: Vec<ShownProfile>,
}

#[derive(Serialize)]
struct ShownProfile {
    path: &'static str,
    what: &'static str,
}

pub(super) fn page(_console: &Console, _params: &Params) -> Result<Page, Status> {
    let profile = |path, what| ShownProfile { path, what };
    let model = ProfilesModel {
        profiles: vec![
            profile("/debug/pprof/profile?seconds=10", "CPU time by function, over the next seconds"),
            profile(
                "/debug/pprof/heap",
                "Memory by the function that allocated it, if the program samples its heap",
            ),
            profile("/debug/pprof/threads", "What each thread does now"),
        ],
    };
    let mut table = Table::new("Files for go tool pprof", "").wide("profile").text("what it shows");
    for profile in &model.profiles {
        table.row(vec![
            Cell::Link { href: profile.path.to_owned(), text: profile.path.to_owned() },
            Cell::text(profile.what),
        ]);
    }
    let view = View {
        title: "Profiles",
        lead: "Nothing is sampled until it is asked for. A profile has a bounded length, and one runs at a time.".to_owned(),
        blocks: vec![Block::Widget("profiles", String::new()), Block::Table(table)],
    };
    Page::of(&model, view)
}
