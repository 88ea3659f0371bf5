//! Cached results of decoding: the tables of types by the bytes of their definitions, and the mapping of fields
//! between each struct on the wire and each Rust struct. The required fields of Rust types are cached in
//! `codec/needs.rs`.
//!
//! Both caches are per thread and bounded; entries that do not fit are made again each time. Bytes are compared and
//! not hashed, since peers choose them. The reading itself is in `decode.rs`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::fault::GobFault;
use super::number::GobReader;
use super::stream;
use super::wire::{Definition, TypeIndex, TypeTable, WireType};
use crate::codec::needs::{RustType, needs, note_need};

/// The limits of a thread's plan cache: the number of plans, and the total bytes of their definitions.
const PLANS_MAX: usize = 64;
const PLAN_BYTES_MAX: usize = 256 << 10;
/// The maximum number of Rust types that are cached for one struct on the wire.
const PAIRS_MAX: usize = 16;

/// The mapping between the fields of a struct on the wire and those of a Rust struct.
#[derive(Clone)]
pub(super) struct StructMatch {
    rust: RustType,
    /// For each field on the wire, the Rust field of that name.
    pub(super) names: Box<[Option<&'static str>]>,
    /// Required fields of the Rust type that the type on the wire lacks.
    pub(super) absent: Vec<&'static str>,
    /// Whether both have fields but share no name: nothing that was sent could be read.
    pub(super) is_disjoint: bool,
    /// Fields that were filled with a zero although the body had them under another name (duplicates).
    refused: Vec<&'static str>,
}

thread_local! {
    static PLANS: RefCell<Vec<CachedPlan>> = const { RefCell::new(Vec::new()) };
}

struct CachedPlan {
    definitions: Box<[u8]>,
    plan: Rc<Plan>,
}

/// Returns the plan at this index, and moves it one place forward, so that the most used plans are found first.
#[inline]
fn use_kept(plans: &mut [CachedPlan], at: usize) -> &CachedPlan {
    let before = at.saturating_sub(1);
    if before != at {
        plans.swap(at, before);
    }
    &plans[before]
}

/// The types of a set of definitions, with cached results for them.
pub(super) struct Plan {
    table: TypeTable,
    /// By index in the table.
    pairs: RefCell<Vec<Vec<Rc<StructMatch>>>>,
    /// The types of values that were examined, with whether they may contain interfaces.
    roots: RefCell<Vec<(i32, TypeIndex, bool)>>,
    /// The last requested entry of `roots`; 0 is not an id.
    root: Cell<(i32, TypeIndex, bool)>,
}

impl Plan {
    fn new(table: TypeTable) -> Plan {
        let pairs = RefCell::new(vec![Vec::new(); table.len()]);
        Plan { table, pairs, roots: RefCell::default(), root: Cell::new((0, 0, false)) }
    }

    /// Returns the plan for these definition messages, cached or new.
    pub(super) fn of(definitions: &[u8]) -> Result<Rc<Plan>, GobFault> {
        let kept = PLANS.with_borrow_mut(|plans| {
            let at = plans.iter().position(|kept| *kept.definitions == *definitions)?;
            Some(use_kept(plans, at).plan.clone())
        });
        if let Some(plan) = kept {
            return Ok(plan);
        }
        let plan = Rc::new(Plan::new(read_table(definitions)?));
        if definitions.len() <= PLAN_BYTES_MAX / 4 {
            PLANS.with_borrow_mut(|plans| {
                let bytes =
                    |plans: &[CachedPlan]| plans.iter().map(|kept| kept.definitions.len()).sum::<usize>();
                while plans.len() >= PLANS_MAX || bytes(plans) + definitions.len() > PLAN_BYTES_MAX {
                    plans.pop();
                }
                plans.push(CachedPlan { definitions: definitions.into(), plan: plan.clone() });
            });
        }
        Ok(plan)
    }

    /// Returns the cached plan for the definitions at the start of a body, and their length in bytes. Comparing bytes
    /// is faster than finding the end of the definitions. Returns `None` if the plan is not cached.
    #[inline]
    pub(super) fn in_front_of(body: &[u8]) -> Option<(Rc<Plan>, usize)> {
        // The definitions of one plan may be a prefix of those of another.
        let is_whole = |kept: &CachedPlan| {
            let value = body.strip_prefix(&*kept.definitions);
            value.is_some_and(|value| !stream::begins_with_definition(value))
        };
        PLANS.with_borrow_mut(|plans| {
            let at = plans.iter().position(is_whole)?;
            let kept = use_kept(plans, at);
            Some((kept.plan.clone(), kept.definitions.len()))
        })
    }

    /// Returns the plan of a value that contains definitions.
    pub(super) fn with(definitions: &[u8], more: &[(i32, Definition)]) -> Result<Rc<Plan>, GobFault> {
        let mut table = read_table(definitions)?;
        for (id, definition) in more {
            table.define(*id, definition)?;
        }
        Ok(Rc::new(Plan::new(table)))
    }

    pub(super) fn table(&self) -> &TypeTable {
        &self.table
    }

    /// Returns the index of a value's type, and whether the value may contain interfaces.
    #[inline]
    pub(super) fn root(&self, id: i32) -> Result<(TypeIndex, bool), GobFault> {
        match self.root.get() {
            (last, at, holds) if last == id => Ok((at, holds)),
            _ => {
                let (at, holds) = self.other_root(id)?;
                self.root.set((id, at, holds));
                Ok((at, holds))
            }
        }
    }

    #[inline(never)]
    fn other_root(&self, id: i32) -> Result<(TypeIndex, bool), GobFault> {
        if let Some((_, at, holds)) = self.roots.borrow().iter().find(|(known, ..)| *known == id) {
            return Ok((*at, *holds));
        }
        let at =
            self.table.find(id).ok_or_else(|| GobFault::said(format_args!("type {id} is not defined")))?;
        let holds = self.table.holds_interfaces(at)?;
        let mut roots = self.roots.borrow_mut();
        if roots.len() < PAIRS_MAX {
            roots.push((id, at, holds));
        }
        Ok((at, holds))
    }

    /// Returns the mapping between the struct at this index and a Rust struct.
    pub(super) fn pair<T>(&self, at: TypeIndex, fields: &'static [&'static str]) -> Rc<StructMatch> {
        let rust = RustType::of::<T>(fields);
        if let Some(pair) = self.pairs.borrow()[at as usize].iter().find(|pair| pair.rust == rust) {
            return pair.clone();
        }
        let wire: &[_] = if let WireType::Struct(fields) = self.table.kind(at) { fields } else { &[] };
        let names: Box<[_]> =
            wire.iter().map(|(name, _)| fields.iter().find(|field| ***field == **name).copied()).collect();
        let is_absent = |field: &&'static str| !names.contains(&Some(*field));
        let absent = needs(rust).iter().flat_map(|needs| needs.iter().copied()).filter(is_absent).collect();
        let is_disjoint = !fields.is_empty() && !names.is_empty() && names.iter().all(Option::is_none);
        let pair = Rc::new(StructMatch { rust, names, absent, is_disjoint, refused: Vec::new() });
        let pairs = &mut self.pairs.borrow_mut()[at as usize];
        if pairs.len() < PAIRS_MAX {
            pairs.push(pair.clone());
        }
        pair
    }

    /// Learns from a fault. Returns whether a second reading can do better.
    pub(super) fn learns_from(
        &self,
        fault: &GobFault,
        at: TypeIndex,
        pair: &StructMatch,
        fields: &[&'static str],
    ) -> bool {
        let (mut next, mut is_new) = (pair.clone(), false);
        match fault {
            GobFault::MissingField(name)
                if fields.contains(name) && !pair.absent.contains(name) && !pair.refused.contains(name) =>
            {
                is_new = note_need(pair.rust, name);
                next.absent.push(name);
            }
            GobFault::DuplicateField(name) if pair.absent.contains(name) => {
                next.absent.retain(|absent| absent != name);
                next.refused.push(name);
            }
            _ => return false,
        }
        let pairs = &mut self.pairs.borrow_mut()[at as usize];
        match pairs.iter_mut().find(|kept| kept.rust == pair.rust) {
            Some(kept) => {
                *kept = Rc::new(next);
                true
            }
            // A mapping that is not cached would learn the same fact without end.
            None => is_new,
        }
    }
}

/// Collects the definitions that a value contains, in a first pass over it.
pub(super) struct Collector {
    table: TypeTable,
    found: Vec<(i32, Definition)>,
}

impl Collector {
    pub(super) fn new(definitions: &[u8]) -> Result<Collector, GobFault> {
        Ok(Collector { table: read_table(definitions)?, found: Vec::new() })
    }

    pub(super) fn found(self) -> Vec<(i32, Definition)> {
        self.found
    }
}

impl super::skip::ValueTypes for Collector {
    fn table(&self) -> &TypeTable {
        &self.table
    }

    fn on_definition(&mut self, id: i32, definition: Definition, _raw: &[u8]) -> Result<(), GobFault> {
        self.table.define(id, &definition)?;
        self.found.push((id, definition));
        Ok(())
    }
}

fn read_table(mut definitions: &[u8]) -> Result<TypeTable, GobFault> {
    let mut table = TypeTable::new();
    while !definitions.is_empty() {
        let (payload, rest) = stream::next_of(definitions)?;
        let mut reader = GobReader::new(payload, &[]);
        let id = reader.id()?;
        if id > 0 {
            return Err(GobFault::text("expected a definition, a value came"));
        }
        let definition = Definition::read(&mut reader)?;
        if !reader.left().is_empty() {
            return Err(GobFault::text("a definition with more behind it"));
        }
        table.define(-id, &definition)?;
        definitions = rest;
    }
    Ok(table)
}
