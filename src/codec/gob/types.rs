//! Converts a type's description to gob types: a graph of kinds, with ids that are unique in the process.
//!
//! Options vanish (Go flattens pointers), and so do newtypes. The same structural type with the same names has the
//! same id wherever it occurs: indistinguishable places of the graph are merged, and a type is identified by the ids
//! of its parts, or, if it is recursive, by the text of the cycle.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use super::fault::GobFault;
use super::number::{put_bytes, put_int, put_uint};
use super::wire::{BOOL, BYTES, FIRST_USER_ID, FLOAT, INT, STRING, UINT};
use super::{shape, time};
use crate::codec::Description;

/// The maximum number of user-defined types in one description: the default limit of definitions on a connection.
const TYPES_MAX: usize = 1024;
/// The number of ids that the process assigns in total.
pub(super) const IDS_MAX: i32 = 1 << 16;

/// A gob type; its parts are indexes into [`GobType::nodes`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum GobNode {
    Bool,
    Int,
    Uint,
    Float,
    Bytes,
    String,
    Array {
        elem: usize,
        len: usize,
    },
    Slice {
        elem: usize,
    },
    Map {
        key: usize,
        elem: usize,
    },
    Struct {
        name: String,
        fields: Vec<(String, usize)>,
    },
    /// `time.Time`.
    Time,
}

impl GobNode {
    pub(super) fn parts(&self) -> Vec<usize> {
        match self {
            GobNode::Array { elem, .. } | GobNode::Slice { elem } => vec![*elem],
            GobNode::Map { key, elem } => vec![*key, *elem],
            GobNode::Struct { fields, .. } => fields.iter().map(|(_, at)| *at).collect(),
            _ => Vec::new(),
        }
    }

    /// Returns a copy with other parts.
    pub(super) fn with_parts(&self, mut turn: impl FnMut(usize) -> usize) -> GobNode {
        let mut node = self.clone();
        match &mut node {
            GobNode::Array { elem, .. } | GobNode::Slice { elem } => *elem = turn(*elem),
            GobNode::Map { key, elem } => (*key, *elem) = (turn(*key), turn(*elem)),
            GobNode::Struct { fields, .. } => fields.iter_mut().for_each(|(_, at)| *at = turn(*at)),
            _ => {}
        }
        node
    }

    fn built_in(&self) -> Option<i32> {
        Some(match self {
            GobNode::Bool => BOOL,
            GobNode::Int => INT,
            GobNode::Uint => UINT,
            GobNode::Float => FLOAT,
            GobNode::Bytes => BYTES,
            GobNode::String => STRING,
            _ => return None,
        })
    }
}

/// The encoding plan of a type: its types, their definitions as messages, and the id of the value.
///
/// Made from a description, once for each Rust type; also for types that are described by hand.
#[derive(Debug)]
pub struct GobType {
    pub(super) nodes: Vec<GobNode>,
    pub(super) root: usize,
    pub(super) id: i32,
    pub(super) definitions: Vec<u8>,
}

impl GobType {
    /// Returns the gob types of a description. Types that are new to the process get ids.
    pub(super) fn new(description: &Description) -> Result<GobType, GobFault> {
        let (nodes, root) = shape::graph(description.shape())?;
        GobType::of_graph(&nodes, root)
    }

    /// Returns the gob types of a graph that was found in another way; `root` is the place of the value's own type.
    pub(super) fn of_graph(nodes: &[GobNode], root: usize) -> Result<GobType, GobFault> {
        let (nodes, root) = merge(nodes, root);
        if nodes.iter().filter(|node| node.built_in().is_none()).count() > TYPES_MAX {
            return Err(GobFault::said(format_args!("it consists of more than {TYPES_MAX} types")));
        }
        let mut registry = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
        let mut naming = TypeNames { nodes: &nodes, ids: vec![0; nodes.len()], registry: &mut registry };
        for at in 0..nodes.len() {
            naming.id(at)?;
        }
        let ids = naming.ids;
        let mut definitions = Vec::new();
        // In Go's order, from the outermost type inwards.
        let (mut seen, mut open) = (vec![false; nodes.len()], vec![root]);
        while let Some(at) = open.pop() {
            if std::mem::replace(&mut seen[at], true) || nodes[at].built_in().is_some() {
                continue;
            }
            put_definition(&mut definitions, &nodes, &ids, at);
            open.extend(nodes[at].parts().into_iter().rev());
        }
        Ok(GobType { id: ids[root], nodes, root, definitions })
    }
}

/// Merges places that are indistinguishable at any depth.
fn merge(nodes: &[GobNode], root: usize) -> (Vec<GobNode>, usize) {
    let mut classes = vec![0; nodes.len()];
    let mut count = 1;
    loop {
        let mut seen = HashMap::new();
        let next: Vec<usize> = nodes
            .iter()
            .zip(&classes)
            .map(|(node, class)| {
                let fresh = seen.len();
                *seen.entry((*class, node.with_parts(|part| classes[part]))).or_insert(fresh)
            })
            .collect();
        let is_stable = seen.len() == count;
        count = seen.len();
        classes = next;
        if is_stable {
            break;
        }
    }
    let mut merged = vec![None; count];
    for (node, class) in nodes.iter().zip(&classes) {
        merged[*class].get_or_insert_with(|| node.with_parts(|part| classes[part]));
    }
    (merged.into_iter().flatten().collect(), classes[root])
}

/// The assigned ids, by the structure of the types.
static REGISTRY: Mutex<GobTypeRegistry> = Mutex::new(GobTypeRegistry { ids: None });

struct GobTypeRegistry {
    ids: Option<HashMap<String, i32>>,
}

struct TypeNames<'n> {
    nodes: &'n [GobNode],
    /// By place; 0 where no id is known so far.
    ids: Vec<i32>,
    registry: &'n mut GobTypeRegistry,
}

impl TypeNames<'_> {
    fn id(&mut self, at: usize) -> Result<i32, GobFault> {
        if let Some(id) = self.nodes[at].built_in() {
            self.ids[at] = id;
        }
        if self.ids[at] != 0 {
            return Ok(self.ids[at]);
        }
        let mut text = String::new();
        if self.leads_back(at) {
            self.circle(at, &mut Vec::new(), &mut text)?;
        } else {
            self.spell(at, &mut text, |naming, part, text| {
                let id = naming.id(part)?;
                let _ = write!(text, "{id}");
                Ok(())
            })?;
        }
        let ids = self.registry.ids.get_or_insert_default();
        let next = FIRST_USER_ID + 1 + ids.len() as i32;
        let id = match ids.entry(text) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(_) if next >= IDS_MAX => {
                return Err(GobFault::text("the process has used all gob type ids"));
            }
            Entry::Vacant(entry) => *entry.insert(next),
        };
        self.ids[at] = id;
        Ok(id)
    }

    fn leads_back(&self, at: usize) -> bool {
        let (mut seen, mut open) = (vec![false; self.nodes.len()], self.nodes[at].parts());
        while let Some(part) = open.pop() {
            if part == at {
                return true;
            }
            if !std::mem::replace(&mut seen[part], true) {
                open.extend(self.nodes[part].parts());
            }
        }
        false
    }

    /// Writes the text of a recursive type: each type of the cycle is written out once.
    fn circle(&mut self, at: usize, open: &mut Vec<usize>, text: &mut String) -> Result<(), GobFault> {
        if let Some(known) = open.iter().position(|known| *known == at) {
            let _ = write!(text, "^{known}");
            return Ok(());
        }
        if !self.leads_back(at) {
            let id = self.id(at)?;
            let _ = write!(text, "{id}");
            return Ok(());
        }
        open.push(at);
        self.spell(at, text, |naming, part, text| naming.circle(part, open, text))
    }

    fn spell(
        &mut self,
        at: usize,
        text: &mut String,
        mut part: impl FnMut(&mut Self, usize, &mut String) -> Result<(), GobFault>,
    ) -> Result<(), GobFault> {
        let nodes = self.nodes;
        match &nodes[at] {
            GobNode::Array { elem, len } => {
                let _ = write!(text, "[{len}]");
                part(self, *elem, text)
            }
            GobNode::Slice { elem } => {
                text.push_str("[]");
                part(self, *elem, text)
            }
            GobNode::Map { key, elem } => {
                text.push_str("map ");
                part(self, *key, text)?;
                text.push(' ');
                part(self, *elem, text)
            }
            GobNode::Struct { name, fields } => {
                // Names may contain any character, so their lengths precede them.
                let _ = write!(text, "{}:{name}{{", name.len());
                for (name, at) in fields {
                    let _ = write!(text, "{}:{name} ", name.len());
                    part(self, *at, text)?;
                    text.push(';');
                }
                text.push('}');
                Ok(())
            }
            GobNode::Time => {
                text.push_str("time");
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Appends the message that defines a type: Go's wireType with the one field set that matches the kind.
fn put_definition(out: &mut Vec<u8>, nodes: &[GobNode], ids: &[i32], at: usize) {
    let mut message = Vec::new();
    put_int(&mut message, -i64::from(ids[at]));
    let (field, name) = match &nodes[at] {
        GobNode::Array { .. } => (1, name_of(nodes, at, 0)),
        GobNode::Slice { .. } => (2, name_of(nodes, at, 0)),
        GobNode::Struct { name, .. } => (3, name.clone()),
        GobNode::Map { .. } => (4, name_of(nodes, at, 0)),
        _ => (5, time::WIRE_NAME.to_string()),
    };
    put_uint(&mut message, field);
    // CommonType: name and id.
    message.push(1);
    if name.is_empty() {
        message.push(2);
    } else {
        message.push(1);
        put_bytes(&mut message, name.as_bytes());
        message.push(1);
    }
    put_int(&mut message, i64::from(ids[at]));
    message.push(0);
    let put_id = |message: &mut Vec<u8>, at: usize| {
        message.push(1);
        put_int(message, i64::from(ids[at]));
    };
    match &nodes[at] {
        GobNode::Array { elem, len } => {
            put_id(&mut message, *elem);
            message.push(1);
            put_int(&mut message, *len as i64);
        }
        GobNode::Slice { elem } => put_id(&mut message, *elem),
        GobNode::Map { key, elem } => {
            put_id(&mut message, *key);
            put_id(&mut message, *elem);
        }
        GobNode::Struct { fields, .. } if !fields.is_empty() => {
            message.push(1);
            put_uint(&mut message, fields.len() as u64);
            for (name, at) in fields {
                message.push(1);
                put_bytes(&mut message, name.as_bytes());
                put_id(&mut message, *at);
                message.push(0);
            }
        }
        _ => {}
    }
    // The ends of the definition and of wireType.
    message.extend_from_slice(&[0, 0]);
    put_bytes(out, &message);
}

/// Returns a name for a type that has none, in Go's notation; it is only for human readers.
fn name_of(nodes: &[GobNode], at: usize, depth: usize) -> String {
    if depth > 4 {
        return "…".into();
    }
    let of = |part| name_of(nodes, part, depth + 1);
    match &nodes[at] {
        GobNode::Bool => "bool".into(),
        GobNode::Int => "int".into(),
        GobNode::Uint => "uint".into(),
        GobNode::Float => "float64".into(),
        GobNode::Bytes => "[]uint8".into(),
        GobNode::String => "string".into(),
        GobNode::Array { elem, len } => format!("[{len}]{}", of(*elem)),
        GobNode::Slice { elem } => format!("[]{}", of(*elem)),
        GobNode::Map { key, elem } => format!("map[{}]{}", of(*key), of(*elem)),
        GobNode::Struct { name, .. } if name.is_empty() => "struct".into(),
        GobNode::Struct { name, .. } => name.clone(),
        GobNode::Time => "time.Time".into(),
    }
}
