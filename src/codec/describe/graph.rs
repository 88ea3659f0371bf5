//! What is known of a type while it is traced: places, named types, and what is still to explore.
//!
//! A graph rather than a tree, since a type may hold itself; [`ShapeGraph::shape`] unfolds it. It reads nothing itself:
//! `tracer.rs` does.

use super::{FieldShape, Shape, VariantShape};

/// Places that an unfolded description may have.
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

/// What tells named types apart: the name alone does not, two types may share it.
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
    /// By variant: what it holds, once that is known.
    Enum(Vec<Option<NamedTypeContent>>),
}

impl NamedTypeContent {
    /// The places in it, with the names of fields; `None` for an enum.
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
    /// Variants that are being read further out.
    busy: Vec<usize>,
}

pub(super) struct ShapeGraph {
    nodes: Vec<ShapeNode>,
    named: Vec<NamedType>,
    /// Options, lists and maps that are being read further out.
    busy: Vec<ShapeNodeId>,
    /// Grows with everything learnt: a round in which it does not will not end otherwise.
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

    /// The places in a variant, which is noted if it is new.
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

    /// Whether an option, list or map should be read with something in it; if so it is busy until [`ShapeGraph::end`].
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

    /// Which variant of an enum to read: one still to explore, or the one that ends soonest. It is busy until
    /// [`ShapeGraph::end_variant`]. `None` if none would end.
    pub(super) fn begin_variant(&mut self, id: usize) -> Option<usize> {
        let named = &self.named[id];
        let NamedTypeContent::Enum(variants) = &named.content else { return None };
        let untraced = (0..variants.len()).find(|at| variants[*at].is_none() && !named.busy.contains(at));
        let pick = if named.busy.is_empty() {
            // What leads back here is not what is missing: with this enum taken as known, is the variant?
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

    /// Whether nothing is left to explore from here, other than in enums that are being read further out.
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

    /// The variant that ends after the fewest named types, options and lists taken as empty.
    fn shortest_variant(&self, id: usize) -> Option<usize> {
        // By named type, how many there are on the shortest way out; found from the shortest up.
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

    /// The tree of what is known; `None` if that would be too large, or not everything is known.
    pub(super) fn shape(&self, root: ShapeNodeId) -> Option<Shape> {
        Unfolding { graph: self, open: Vec::new(), left: SHAPES_MAX }.node(root, 0)
    }
}

struct Unfolding<'g> {
    graph: &'g ShapeGraph,
    /// Named types around this place, with the level of the shape that stands for each.
    open: Vec<(usize, usize)>,
    left: usize,
}

impl Unfolding<'_> {
    /// The shape of a place that has `level` enclosing shapes.
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
                    // A newtype that holds itself and nothing around it has no value, so it is never traced.
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
