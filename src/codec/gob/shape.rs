//! Which gob type stands for which shape; the table is in the head of `mod.rs`.

use super::fault::Fault;
use super::time;
use super::types::Node;
use crate::codec::describe::{Shape, Variant};

/// Levels of a description, for the sake of the stack; the tracer stops at as many.
const DEPTH_MAX: usize = 128;

/// The types of a shape as a graph, and the place of the outermost.
pub(super) fn graph(shape: &Shape) -> Result<(Vec<Node>, usize), Fault> {
    let mut building = Building { places: Vec::new(), open: Vec::new() };
    let root = building.place(shape)?;
    // Options are no types of their own: places that stand for others are passed over.
    let mut ends = Vec::new();
    for at in 0..building.places.len() {
        ends.push(building.end(at)?);
    }
    let mut numbers = vec![0; ends.len()];
    let mut nodes = Vec::new();
    for (at, place) in building.places.iter().enumerate() {
        if let Place::Node(_) = place {
            numbers[at] = nodes.len();
            nodes.push(at);
        }
    }
    let turn = |at: usize| numbers[ends[at]];
    let nodes = nodes
        .into_iter()
        .filter_map(|at| match &building.places[at] {
            Place::Node(node) => Some(node.with_parts(turn)),
            Place::Same(_) => None,
        })
        .collect();
    Ok((nodes, turn(root)))
}

enum Place {
    Node(Node),
    /// The same as that place, once that is known.
    Same(Option<usize>),
}

struct Building {
    places: Vec<Place>,
    /// The places of the enclosing shapes, the outermost first.
    open: Vec<usize>,
}

impl Building {
    fn new_place(&mut self, place: Place) -> usize {
        self.places.push(place);
        self.places.len() - 1
    }

    /// The place that this one stands for.
    fn end(&self, mut at: usize) -> Result<usize, Fault> {
        for _ in 0..=self.places.len() {
            match &self.places[at] {
                Place::Node(_) => return Ok(at),
                Place::Same(Some(other)) => at = *other,
                Place::Same(None) => break,
            }
        }
        Err(Fault::text("the type contains only itself, which gob cannot express"))
    }

    fn leaf(&mut self, node: Node) -> Result<usize, Fault> {
        Ok(self.new_place(Place::Node(node)))
    }

    fn place(&mut self, shape: &Shape) -> Result<usize, Fault> {
        match shape {
            Shape::Bool => self.leaf(Node::Bool),
            // Go's 64 bits are the widest; wider ones travel as decimal text.
            Shape::Int { bits: 128, .. } | Shape::String => self.leaf(Node::String),
            Shape::Int { signed: true, .. } | Shape::Char => self.leaf(Node::Int),
            Shape::Int { signed: false, .. } => self.leaf(Node::Uint),
            Shape::Float { .. } => self.leaf(Node::Float),
            Shape::Bytes => self.leaf(Node::Bytes),
            Shape::Any => Err(Fault::text("a value of any shape has no type in gob")),
            Shape::Unit => self.leaf(Node::Struct { name: String::new(), fields: Vec::new() }),
            Shape::Recursive { levels } => {
                let at = self.open.len().checked_sub(levels + 1).map(|at| self.open[at]);
                at.ok_or_else(|| Fault::text("the description leads back to more levels than it has"))
            }
            time if time::is_time(time) => self.leaf(Node::Time),
            Shape::Option(inner) => self.enclosing(|building| Ok(Place::Same(Some(building.place(inner)?)))),
            Shape::Sequence(inner) if **inner == Shape::uint(8) => self.leaf(Node::Bytes),
            Shape::Sequence(inner) => self.enclosing(|building| {
                let elem = building.place(inner)?;
                Ok(Place::Node(Node::Slice { elem }))
            }),
            Shape::Map { key, value } => self.enclosing(|building| {
                let (key, elem) = (building.place(key)?, building.place(value)?);
                Ok(Place::Node(Node::Map { key, elem }))
            }),
            Shape::Tuple(elements) => self.enclosing(|building| building.tuple(elements)),
            Shape::Struct { name, fields } => self.enclosing(|building| {
                let fields = fields
                    .iter()
                    .map(|field| Ok((field.name.clone(), building.place(&field.shape)?)))
                    .collect::<Result<_, Fault>>()?;
                Ok(Place::Node(Node::Struct { name: name.clone(), fields }))
            }),
            Shape::Enum { name, variants } => self.enclosing(|building| building.variants(name, variants)),
        }
    }

    /// Builds a shape that others may lead back to, with its place known beforehand.
    fn enclosing(
        &mut self,
        build: impl FnOnce(&mut Building) -> Result<Place, Fault>,
    ) -> Result<usize, Fault> {
        if self.open.len() >= DEPTH_MAX {
            return Err(Fault::text("the description nests too deep"));
        }
        let at = self.new_place(Place::Same(None));
        self.open.push(at);
        self.places[at] = build(self)?;
        self.open.pop();
        Ok(at)
    }

    /// An array if all elements are alike, otherwise a struct. Elements of an array cannot be none, fields can.
    fn tuple(&mut self, elements: &[Shape]) -> Result<Place, Fault> {
        match elements {
            [first, rest @ ..]
                if !matches!(first, Shape::Option(_)) && rest.iter().all(|other| other == first) =>
            {
                let elem = self.place(first)?;
                Ok(Place::Node(Node::Array { elem, len: elements.len() }))
            }
            _ => {
                let fields = elements
                    .iter()
                    .enumerate()
                    .map(|(at, shape)| Ok((format!("F{at}"), self.place(shape)?)))
                    .collect::<Result<_, Fault>>()?;
                Ok(Place::Node(Node::Struct { name: String::new(), fields }))
            }
        }
    }

    /// A string if no variant holds anything, otherwise a struct with a field for each.
    fn variants(&mut self, name: &str, variants: &[Variant]) -> Result<Place, Fault> {
        if variants.iter().all(|variant| variant.content.is_none()) {
            return Ok(Place::Node(Node::String));
        }
        let fields = variants
            .iter()
            .map(|variant| {
                let at = match &variant.content {
                    None => self.leaf(Node::Bool)?,
                    Some(shape) => self.place(shape)?,
                };
                Ok((variant.name.clone(), at))
            })
            .collect::<Result<_, Fault>>()?;
        Ok(Place::Node(Node::Struct { name: name.to_string(), fields }))
    }
}
