//! Maps shapes to gob types; the table is in the documentation of `mod.rs`.

use super::fault::GobFault;
use super::time;
use super::types::GobNode;
use crate::codec::describe::{Shape, VariantShape};

/// The maximum depth of a description, to protect the stack; the same as the tracer's.
const DEPTH_MAX: usize = 128;

/// Returns the types of a shape as a graph, and the outermost place.
pub(super) fn graph(shape: &Shape) -> Result<(Vec<GobNode>, usize), GobFault> {
    let mut building = ShapeBuilder { places: Vec::new(), open: Vec::new() };
    let root = building.place(shape)?;
    // Options have no type of their own: places that are aliases of others are resolved.
    let mut ends = Vec::new();
    for at in 0..building.places.len() {
        ends.push(building.end(at)?);
    }
    let mut numbers = vec![0; ends.len()];
    let mut nodes = Vec::new();
    for (at, place) in building.places.iter().enumerate() {
        if let ShapePlace::Node(_) = place {
            numbers[at] = nodes.len();
            nodes.push(at);
        }
    }
    let turn = |at: usize| numbers[ends[at]];
    let nodes = nodes
        .into_iter()
        .filter_map(|at| match &building.places[at] {
            ShapePlace::Node(node) => Some(node.with_parts(turn)),
            ShapePlace::Same(_) => None,
        })
        .collect();
    Ok((nodes, turn(root)))
}

enum ShapePlace {
    Node(GobNode),
    /// An alias of another place, once that is known.
    Same(Option<usize>),
}

struct ShapeBuilder {
    places: Vec<ShapePlace>,
    /// The places of the enclosing shapes, outermost first.
    open: Vec<usize>,
}

impl ShapeBuilder {
    fn new_place(&mut self, place: ShapePlace) -> usize {
        self.places.push(place);
        self.places.len() - 1
    }

    /// Returns the place that this one is an alias of.
    fn end(&self, mut at: usize) -> Result<usize, GobFault> {
        for _ in 0..=self.places.len() {
            match &self.places[at] {
                ShapePlace::Node(_) => return Ok(at),
                ShapePlace::Same(Some(other)) => at = *other,
                ShapePlace::Same(None) => break,
            }
        }
        Err(GobFault::text("the type contains only itself, which gob cannot express"))
    }

    fn leaf(&mut self, node: GobNode) -> Result<usize, GobFault> {
        Ok(self.new_place(ShapePlace::Node(node)))
    }

    fn place(&mut self, shape: &Shape) -> Result<usize, GobFault> {
        match shape {
            Shape::Bool => self.leaf(GobNode::Bool),
            // Go's widest integers have 64 bits; wider ones are sent as decimal text.
            Shape::Int { bits: 128, .. } | Shape::String => self.leaf(GobNode::String),
            Shape::Int { signed: true, .. } | Shape::Char => self.leaf(GobNode::Int),
            Shape::Int { signed: false, .. } => self.leaf(GobNode::Uint),
            Shape::Float { .. } => self.leaf(GobNode::Float),
            Shape::Bytes => self.leaf(GobNode::Bytes),
            Shape::Any => Err(GobFault::text("a value of any shape has no type in gob")),
            Shape::Unit => self.leaf(GobNode::Struct { name: String::new(), fields: Vec::new() }),
            Shape::Recursive { levels } => {
                let at = self.open.len().checked_sub(levels + 1).map(|at| self.open[at]);
                at.ok_or_else(|| GobFault::text("the description leads back to more levels than it has"))
            }
            time if time::is_time(time) => self.leaf(GobNode::Time),
            Shape::Option(inner) => {
                self.enclosing(|building| Ok(ShapePlace::Same(Some(building.place(inner)?))))
            }
            Shape::Sequence(inner) if **inner == Shape::uint(8) => self.leaf(GobNode::Bytes),
            Shape::Sequence(inner) => self.enclosing(|building| {
                let elem = building.place(inner)?;
                Ok(ShapePlace::Node(GobNode::Slice { elem }))
            }),
            Shape::Map { key, value } => self.enclosing(|building| {
                let (key, elem) = (building.place(key)?, building.place(value)?);
                Ok(ShapePlace::Node(GobNode::Map { key, elem }))
            }),
            Shape::Tuple(elements) => self.enclosing(|building| building.tuple(elements)),
            Shape::Struct { name, fields } => self.enclosing(|building| {
                let fields = fields
                    .iter()
                    .map(|field| Ok((field.name.clone(), building.place(&field.shape)?)))
                    .collect::<Result<_, GobFault>>()?;
                Ok(ShapePlace::Node(GobNode::Struct { name: name.clone(), fields }))
            }),
            Shape::Enum { name, variants } => self.enclosing(|building| building.variants(name, variants)),
        }
    }

    /// Builds a shape that inner shapes may refer to: its place is allocated first.
    fn enclosing(
        &mut self,
        build: impl FnOnce(&mut ShapeBuilder) -> Result<ShapePlace, GobFault>,
    ) -> Result<usize, GobFault> {
        if self.open.len() >= DEPTH_MAX {
            return Err(GobFault::text("the description nests too deep"));
        }
        let at = self.new_place(ShapePlace::Same(None));
        self.open.push(at);
        self.places[at] = build(self)?;
        self.open.pop();
        Ok(at)
    }

    /// Returns an array if all elements are alike, otherwise a struct. Elements of an array cannot be none, fields
    /// can.
    fn tuple(&mut self, elements: &[Shape]) -> Result<ShapePlace, GobFault> {
        match elements {
            [first, rest @ ..]
                if !matches!(first, Shape::Option(_)) && rest.iter().all(|other| other == first) =>
            {
                let elem = self.place(first)?;
                Ok(ShapePlace::Node(GobNode::Array { elem, len: elements.len() }))
            }
            _ => {
                let fields = elements
                    .iter()
                    .enumerate()
                    .map(|(at, shape)| Ok((format!("F{at}"), self.place(shape)?)))
                    .collect::<Result<_, GobFault>>()?;
                Ok(ShapePlace::Node(GobNode::Struct { name: String::new(), fields }))
            }
        }
    }

    /// Returns a string if no variant has content, otherwise a struct with a field for each variant.
    fn variants(&mut self, name: &str, variants: &[VariantShape]) -> Result<ShapePlace, GobFault> {
        if variants.iter().all(|variant| variant.content.is_none()) {
            return Ok(ShapePlace::Node(GobNode::String));
        }
        let fields = variants
            .iter()
            .map(|variant| {
                let at = match &variant.content {
                    None => self.leaf(GobNode::Bool)?,
                    Some(shape) => self.place(shape)?,
                };
                Ok((variant.name.clone(), at))
            })
            .collect::<Result<_, GobFault>>()?;
        Ok(ShapePlace::Node(GobNode::Struct { name: name.to_string(), fields }))
    }
}
