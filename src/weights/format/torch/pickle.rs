//! Pickles as data. A pickle is a program for a stack machine; this machine builds tuples, lists
//! and dictionaries and only notes which functions would be called. It calls none, and it refuses
//! a pickle that would call anything but what state dictionaries are made of.
//!
//! Values live in one arena and refer to each other by position, so that neither deep nesting nor
//! a value that contains itself many times over costs more than the pickle is long. (Candle's own
//! reader copies what the memo holds, and nested tuples overflow its stack.)

use super::super::Fault;
use super::machine::Machine;

/// Longest pickle that is read; names and dimensions of 100 000 tensors take less.
const MOST_BYTES: usize = 16 << 20;

/// A value, or where it is in the arena.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    /// A whole number.
    Int(i64),
    /// What state dictionaries do not need: `None`, truth values, fractions.
    Plain,
    /// Position in the arena.
    Node(usize),
}

/// A value in the arena.
#[derive(Debug)]
pub(super) enum Node<'a> {
    /// Text.
    Text(&'a str),
    /// A tuple or list.
    Items(Vec<Value>),
    /// Pairs in order.
    Dict(Vec<(Value, Value)>),
    /// A class or function by module and name.
    Global(&'a str, &'a str),
    /// What would be the result of a call: function and arguments.
    Call(Value, Value),
    /// What the archive holds under this key.
    Persistent(Value),
    /// An object that is of no interest.
    Opaque,
}

/// The values of a pickle.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    nodes: Vec<Node<'a>>,
    root: Value,
}

impl<'a> Pickle<'a> {
    /// Reads a pickle of protocols 1 to 5.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Fault> {
        if bytes.len() > MOST_BYTES {
            return Err(Fault::damaged("its pickle is too long"));
        }
        let mut machine = Machine::new(bytes);
        let root = loop {
            if let Some(root) = machine.step()? {
                break root;
            }
        };
        Ok(Self {
            nodes: machine.nodes,
            root,
        })
    }

    /// The value that the pickle is of.
    pub(super) fn root(&self) -> Value {
        self.root
    }

    fn node(&self, value: Value) -> Option<&Node<'a>> {
        match value {
            Value::Node(at) => self.nodes.get(at),
            _ => None,
        }
    }

    pub(super) fn text(&self, value: Value) -> Option<&'a str> {
        match self.node(value)? {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn items(&self, value: Value) -> Option<&[Value]> {
        match self.node(value)? {
            Node::Items(items) => Some(items),
            _ => None,
        }
    }

    pub(super) fn dict(&self, value: Value) -> Option<&[(Value, Value)]> {
        match self.node(value)? {
            Node::Dict(pairs) => Some(pairs),
            _ => None,
        }
    }

    pub(super) fn global(&self, value: Value) -> Option<(&'a str, &'a str)> {
        match self.node(value)? {
            Node::Global(module, name) => Some((module, name)),
            _ => None,
        }
    }

    /// Function and arguments of a call.
    pub(super) fn call(&self, value: Value) -> Option<((&'a str, &'a str), &[Value])> {
        match self.node(value)? {
            Node::Call(function, arguments) => {
                Some((self.global(*function)?, self.items(*arguments)?))
            }
            _ => None,
        }
    }

    pub(super) fn persistent(&self, value: Value) -> Option<&[Value]> {
        match self.node(value)? {
            Node::Persistent(key) => self.items(*key),
            _ => None,
        }
    }
}
