//! Stacks as a tree of calls, for pages.

use std::collections::BTreeMap;

use crate::symbols::Symbols;

/// A function, and those that it has called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallTree {
    /// The function, or the thread. The root has no name.
    pub name: String,
    /// Its own part: without the functions that it has called.
    pub own: u64,
    /// With them.
    pub total: u64,
    /// The functions that it has called, the largest first.
    pub children: Vec<CallTree>,
}

#[derive(Default)]
pub(crate) struct TreeBuilder {
    root: Node,
    symbols: Symbols,
}

#[derive(Default)]
struct Node {
    own: u64,
    children: BTreeMap<String, Node>,
}

impl TreeBuilder {
    /// Adds a stack below a name.
    pub(crate) fn add(&mut self, name: &str, stack: &[usize], count: u64) {
        let mut node = self.root.children.entry(name.to_owned()).or_default();
        for (at, address) in stack.iter().enumerate().rev() {
            for frame in self.symbols.of(*address, at > 0).iter().rev() {
                node = node.children.entry(frame.function.clone()).or_default();
            }
        }
        node.own += count;
    }

    pub(crate) fn finish(self) -> CallTree {
        self.root.into_tree(String::new())
    }
}

impl Node {
    fn into_tree(self, name: String) -> CallTree {
        let mut children: Vec<CallTree> =
            self.children.into_iter().map(|(name, node)| node.into_tree(name)).collect();
        children.sort_by_key(|child| std::cmp::Reverse(child.total));
        let total = self.own + children.iter().map(|child| child.total).sum::<u64>();
        CallTree { name, own: self.own, total, children }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_with_a_common_beginning_share_it() {
        let mut tree = TreeBuilder::default();
        // Addresses without names.
        tree.add("main", &[2, 1], 3);
        tree.add("main", &[3, 1], 5);
        tree.add("main", &[1], 1);
        let root = tree.finish();
        let main = &root.children[0];
        assert_eq!((main.name.as_str(), main.own, main.total), ("main", 0, 9));
        let outer = main.children.iter().map(|call| (call.own, call.total)).collect::<Vec<_>>();
        assert_eq!(outer, [(1, 9)]);
        let inner: Vec<_> =
            main.children[0].children.iter().map(|call| (call.name.as_str(), call.own)).collect();
        assert_eq!(inner, [("0x3", 5), ("0x2", 3)]);
    }
}
