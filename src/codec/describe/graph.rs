//! The knowledge about a type while it is traced: places, named types, and what is still to explore.
//!
//! It is a graph and not a tree, since a type may contain itself; [`ShapeGraph::shape`] unfolds it. `tracer.rs` reads
//! the type and fills the graph.

use super::{FieldShape, Shape, VariantShape};

/// The maximum number of places in an unfolded description.
const SHAPES_MAX: usize = 1 << 16;

pub(super) type ShapeNodeId = usize;

/// A place in the type.
pub(super) enum ShapeNode {
    Unknown,
    Leaf(Shape),
    Option(ShapeNodeId),
    Sequence(ShapeNodeId),
    Map(ShapeNodeId, ShapeNodeId),
    Tuple(Vec<ShapeNodeId>),
    Named(usize),
}

/// The identity of a named type: the name is not enough, since two types may share it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct NamedTypeKey {
    pub(super) type_name: &'static str,
    pub(super) name: &'static str,
    pub(super) members: &'static [&'static str],
}

pub(super) enum NamedTypeContent {
    Unit,
    Newtype(ShapeNodeId),
    Tuple(Vec<ShapeNodeId>),
    Struct(Vec<(&'static str, ShapeNodeId)>),
    /// The content of each variant, once it is known.
    Enum(Vec<Option<NamedTypeContent>>),
}

impl NamedTypeContent {
    /// Returns the places in it, with the names of fields; `None` for an enum.
    pub(super) fn elements(&self) -> Option<Vec<(Option<&'static str>, ShapeNodeId)>> {
        Some(match self {
            NamedTypeContent::Unit => Vec::new(),
            NamedTypeContent::Newtype(inner) => vec![(None, *inner)],
            NamedTypeContent::Tuple(ids) => ids.iter().map(|&id| (None, id)).collect(),
            NamedTypeContent::Struct(fields) => fields.iter().map(|&(name, id)| (Some(name), id)).collect(),
            NamedTypeContent::Enum(_) => return None,
        })
    }
}

pub(super) struct NamedType {
    pub(super) key: NamedTypeKey,
    pub(super) content: NamedTypeContent,
    /// The variants that are being read at enclosing places.
    busy: Vec<usize>,
}

pub(super) struct ShapeGraph {
    nodes: Vec<ShapeNode>,
    named: Vec<NamedType>,
    /// The options, lists and maps that are being read at enclosing places.
    busy: Vec<ShapeNodeId>,
    /// Grows with every new fact: tracing stops with an error after a round in which it does not grow.
    known: usize,
}

impl ShapeGraph {
    pub(super) fn new() -> ShapeGraph {
        ShapeGraph { nodes: Vec::new(), named: Vec::new(), busy: Vec::new(), known: 0 }
    }

    pub(super) fn known(&self) -> usize {
        self.known
    }

    pub(super) fn unknown(&mut self) -> ShapeNodeId {
        self.nodes.push(ShapeNode::Unknown);
        self.nodes.len() - 1
    }

    pub(super) fn node(&self, id: ShapeNodeId) -> &ShapeNode {
        &self.nodes[id]
    }

    pub(super) fn set(&mut self, id: ShapeNodeId, node: ShapeNode) {
        self.known += 1;
        self.nodes[id] = node;
    }

    pub(super) fn named(&self, id: usize) -> &NamedType {
        &self.named[id]
    }

    pub(super) fn named_or_insert(
        &mut self,
        key: &NamedTypeKey,
        make: impl FnOnce(&mut ShapeGraph) -> NamedTypeContent,
    ) -> usize {
        if let Some(id) = self.named.iter().position(|named| named.key == *key) {
            return id;
        }
        let content = make(self);
        self.named.push(NamedType { key: *key, content, busy: Vec::new() });
        self.named.len() - 1
    }

    /// Returns the places in a variant; records the variant if it is new.
    pub(super) fn variant_or_insert(
        &mut self,
        id: usize,
        variant: usize,
        make: impl FnOnce(&mut ShapeGraph) -> NamedTypeContent,
    ) -> Vec<(Option<&'static str>, ShapeNodeId)> {
        let is_new = matches!(&self.named[id].content, NamedTypeContent::Enum(variants) if variants[variant].is_none());
        if is_new {
            let content = make(self);
            self.known += 1;
            if let NamedTypeContent::Enum(variants) = &mut self.named[id].content {
                variants[variant] = Some(content);
            }
        }
        match &self.named[id].content {
            NamedTypeContent::Enum(variants) => {
                variants[variant].as_ref().and_then(NamedTypeContent::elements).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    /// Returns whether an option, list or map is to be read with content. If so, it is busy until
    /// [`ShapeGraph::end`].
    pub(super) fn begin(&mut self, at: ShapeNodeId, inner: &[ShapeNodeId]) -> bool {
        if self.busy.contains(&at) || inner.iter().all(|&id| self.is_complete(id)) {
            return false;
        }
        self.busy.push(at);
        true
    }

    pub(super) fn end(&mut self, at: ShapeNodeId) {
        self.busy.retain(|&busy| busy != at);
    }

    /// Returns the variant of an enum to read next: an unexplored one, or else the one that ends soonest.
    ///
    /// The variant is busy until [`ShapeGraph::end_variant`]. Returns `None` if no variant would end.
    pub(super) fn begin_variant(&mut self, id: usize) -> Option<usize> {
        let named = &self.named[id];
        let NamedTypeContent::Enum(variants) = &named.content else { return None };
        let untraced = (0..variants.len()).find(|at| variants[*at].is_none() && !named.busy.contains(at));
        let pick = if named.busy.is_empty() {
            // This enum counts as explored here, so that a variant is not incomplete only because it contains the
            // enum.
            let mut seen = self.seen_busy();
            seen[id] = true;
            let incomplete =
                |content: &NamedTypeContent| !self.is_content_complete(content, &mut seen.clone());
            untraced
                .or_else(|| variants.iter().position(|content| content.as_ref().is_some_and(incomplete)))
                .or_else(|| self.shortest_variant(id))
        } else {
            self.shortest_variant(id).or(untraced)
        }?;
        self.named[id].busy.push(pick);
        Some(pick)
    }

    pub(super) fn end_variant(&mut self, id: usize, pick: usize) {
        let busy = &mut self.named[id].busy;
        if let Some(at) = busy.iter().rposition(|&busy| busy == pick) {
            busy.remove(at);
        }
    }

    /// Returns whether nothing is left to explore from here, except in enums that are being read at enclosing places.
    pub(super) fn is_complete(&self, id: ShapeNodeId) -> bool {
        self.is_node_complete(id, &mut self.seen_busy())
    }

    fn seen_busy(&self) -> Vec<bool> {
        self.named.iter().map(|named| !named.busy.is_empty()).collect()
    }

    fn is_node_complete(&self, id: ShapeNodeId, seen: &mut [bool]) -> bool {
        match &self.nodes[id] {
            ShapeNode::Unknown => false,
            ShapeNode::Leaf(_) => true,
            ShapeNode::Option(inner) | ShapeNode::Sequence(inner) => self.is_node_complete(*inner, seen),
            ShapeNode::Map(key, value) => {
                self.is_node_complete(*key, seen) && self.is_node_complete(*value, seen)
            }
            ShapeNode::Tuple(ids) => ids.iter().all(|&id| self.is_node_complete(id, seen)),
            ShapeNode::Named(id) => {
                std::mem::replace(&mut seen[*id], true)
                    || self.is_content_complete(&self.named[*id].content, seen)
            }
        }
    }

    fn is_content_complete(&self, content: &NamedTypeContent, seen: &mut [bool]) -> bool {
        match content {
            NamedTypeContent::Enum(variants) => variants.iter().all(|content| {
                content.as_ref().is_some_and(|content| self.is_content_complete(content, seen))
            }),
            other => other
                .elements()
                .is_some_and(|elements| elements.iter().all(|&(_, id)| self.is_node_complete(id, seen))),
        }
    }

    /// Returns the variant that ends after the fewest named types, with options and lists taken as empty.
    fn shortest_variant(&self, id: usize) -> Option<usize> {
        // The number of named types on the shortest path to an end, by named type; computed from the shortest up.
        let mut lengths: Vec<Option<usize>> = vec![None; self.named.len()];
        for _ in 0..=self.named.len() {
            let next: Vec<_> =
                self.named.iter().map(|named| self.content_length(&named.content, &lengths)).collect();
            if next == lengths {
                break;
            }
            lengths = next;
        }
        let NamedTypeContent::Enum(variants) = &self.named[id].content else { return None };
        let length = |content: &Option<NamedTypeContent>| {
            content.as_ref().and_then(|content| self.content_length(content, &lengths))
        };
        variants
            .iter()
            .enumerate()
            .filter_map(|(at, content)| Some((length(content)?, at)))
            .min()
            .map(|(_, at)| at)
    }

    fn content_length(&self, content: &NamedTypeContent, lengths: &[Option<usize>]) -> Option<usize> {
        match content {
            NamedTypeContent::Enum(variants) => {
                variants.iter().filter_map(|content| self.content_length(content.as_ref()?, lengths)).min()
            }
            other => other
                .elements()?
                .iter()
                .map(|&(_, id)| self.node_length(id, lengths))
                .try_fold(0, |most, length| length.map(|length| most.max(length))),
        }
    }

    fn node_length(&self, id: ShapeNodeId, lengths: &[Option<usize>]) -> Option<usize> {
        match &self.nodes[id] {
            ShapeNode::Unknown => None,
            ShapeNode::Leaf(_) | ShapeNode::Option(_) | ShapeNode::Sequence(_) | ShapeNode::Map(..) => {
                Some(0)
            }
            ShapeNode::Tuple(ids) => ids
                .iter()
                .map(|&id| self.node_length(id, lengths))
                .try_fold(0, |most, length| length.map(|length| most.max(length))),
            ShapeNode::Named(id) => lengths[*id].map(|length| length + 1),
        }
    }

    /// Unfolds the graph to a tree. Returns `None` if the tree would be too large, or if a part is still unknown.
    pub(super) fn shape(&self, root: ShapeNodeId) -> Option<Shape> {
        Unfolding { graph: self, open: Vec::new(), left: SHAPES_MAX }.node(root, 0)
    }
}

struct Unfolding<'g> {
    graph: &'g ShapeGraph,
    /// The named types around this place, each with the level of its shape.
    open: Vec<(usize, usize)>,
    left: usize,
}

impl Unfolding<'_> {
    /// Unfolds a place that has `level` enclosing shapes.
    fn node(&mut self, id: ShapeNodeId, level: usize) -> Option<Shape> {
        self.left = self.left.checked_sub(1)?;
        match &self.graph.nodes[id] {
            ShapeNode::Unknown => None,
            ShapeNode::Leaf(shape) => Some(shape.clone()),
            ShapeNode::Option(inner) => Some(Shape::option(self.node(*inner, level + 1)?)),
            ShapeNode::Sequence(inner) => Some(Shape::sequence(self.node(*inner, level + 1)?)),
            ShapeNode::Map(key, value) => {
                Some(Shape::map(self.node(*key, level + 1)?, self.node(*value, level + 1)?))
            }
            ShapeNode::Tuple(ids) => self.tuple(ids, level),
            ShapeNode::Named(id) => {
                if let Some(&(_, at)) = self.open.iter().find(|(open, _)| open == id) {
                    // A newtype that contains only itself has no value, so it is never traced.
                    return level.checked_sub(at + 1).map(Shape::recursive);
                }
                self.open.push((*id, level));
                let named = &self.graph.named[*id];
                let shape = match &named.content {
                    NamedTypeContent::Enum(variants) => {
                        let variants = named.key.members.iter().zip(variants).map(|(name, content)| {
                            let content = match content.as_ref()? {
                                NamedTypeContent::Unit => None,
                                holding => Some(self.content(name, holding, level + 1)?),
                            };
                            Some(VariantShape { name: name.to_string(), content })
                        });
                        Shape::Enum {
                            name: named.key.name.into(),
                            variants: variants.collect::<Option<_>>()?,
                        }
                    }
                    other => self.content(named.key.name, other, level)?,
                };
                self.open.pop();
                Some(shape)
            }
        }
    }

    fn content(&mut self, name: &str, content: &NamedTypeContent, level: usize) -> Option<Shape> {
        match content {
            NamedTypeContent::Unit => Some(Shape::Unit),
            NamedTypeContent::Newtype(inner) => self.node(*inner, level),
            NamedTypeContent::Tuple(ids) => self.tuple(ids, level),
            NamedTypeContent::Struct(fields) => {
                let fields = fields.iter().map(|&(name, id)| {
                    Some(FieldShape { name: name.into(), shape: self.node(id, level + 1)? })
                });
                Some(Shape::Struct { name: name.into(), fields: fields.collect::<Option<_>>()? })
            }
            NamedTypeContent::Enum(_) => None,
        }
    }

    fn tuple(&mut self, ids: &[ShapeNodeId], level: usize) -> Option<Shape> {
        ids.iter().map(|&id| self.node(id, level + 1)).collect::<Option<_>>().map(Shape::Tuple)
    }
}
