//! The stack machine that a pickle is a program for. It calls nothing.

use std::collections::HashMap;

use super::super::Fault;
use super::pickle::{Node, Value};

/// Instructions still to run, and what the ones before have made.
pub(super) struct Machine<'a> {
    input: &'a [u8],
    pub(super) nodes: Vec<Node<'a>>,
    stack: Vec<Value>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<usize, Value>,
    /// How many more pairs ordered dictionaries may be given; see [`Machine::given_pairs`].
    pairs_left: usize,
}

fn cut() -> Fault {
    Fault::damaged("its pickle is cut short")
}

fn broken(what: &str) -> Fault {
    Fault::damaged(format!("its pickle is broken: {what}"))
}

impl<'a> Machine<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self {
            input,
            nodes: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            pairs_left: input.len(),
        }
    }

    /// Runs one instruction; the last one gives the result.
    pub(super) fn step(&mut self) -> Result<Option<Value>, Fault> {
        match self.byte()? {
            0x80 => drop(self.byte()?),
            0x95 => drop(self.take(8)?),
            b'.' => return self.pop().map(Some),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => self.stack.push(self.top()?),
            b'N' | 0x88 | 0x89 => self.stack.push(Value::Plain),
            b'K' => self.int(1)?,
            b'M' => self.int(2)?,
            b'J' => {
                let value = self.number(4)? as u32 as i32;
                self.stack.push(Value::Int(value.into()));
            }
            0x8a => {
                let size = self.number(1)?;
                self.long(size)?;
            }
            0x8b => {
                let size = self.number(4)?;
                self.long(size)?;
            }
            b'G' => {
                self.take(8)?;
                self.stack.push(Value::Plain);
            }
            b'X' | b'T' => self.sized_text(4)?,
            b'U' | 0x8c => self.sized_text(1)?,
            0x8d => self.sized_text(8)?,
            b'B' => self.sized_opaque(4)?,
            b'C' => self.sized_opaque(1)?,
            0x8e | 0x96 => self.sized_opaque(8)?,
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.make(Node::Global(module, name));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let global = match (self.text(module), self.text(name)) {
                    (Some(module), Some(name)) => Node::Global(module, name),
                    _ => return Err(broken("a global without a name")),
                };
                self.make(global);
            }
            b')' | b']' | 0x8f => self.make(Node::Items(Vec::new())),
            b'}' => self.make(Node::Dict(Vec::new())),
            b't' | b'l' | 0x91 => {
                let items = self.pop_mark()?;
                self.make(Node::Items(items));
            }
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b'd' => {
                let items = self.pop_mark()?;
                self.make(Node::Dict(pairs(&items)?));
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(&[item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_mark()?;
                self.extend(&items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.insert(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.insert(&items)?;
            }
            b'q' => {
                let key = self.number(1)?;
                self.remember(key)?;
            }
            b'r' => {
                let key = self.number(4)?;
                self.remember(key)?;
            }
            0x94 => self.remember(self.memo.len())?,
            b'h' => {
                let key = self.number(1)?;
                self.recall(key)?;
            }
            b'j' => {
                let key = self.number(4)?;
                self.recall(key)?;
            }
            b'Q' => {
                let key = self.pop()?;
                self.make(Node::Persistent(key));
            }
            b'R' | 0x81 => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                self.call(function, arguments)?;
            }
            0x92 => {
                let (_, arguments, function) = (self.pop()?, self.pop()?, self.pop()?);
                self.call(function, arguments)?;
            }
            b'o' => {
                let items = self.pop_mark()?;
                let function = items.first().copied().ok_or_else(cut)?;
                self.call(function, Value::Plain)?;
            }
            b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                self.pop_mark()?;
                self.make(Node::Global(module, name));
                let function = self.pop()?;
                self.call(function, Value::Plain)?;
            }
            // The state of an object: attributes of an ordered dictionary, and the like.
            b'b' => {
                self.pop()?;
                self.top()?;
            }
            other => return Err(broken(&format!("unknown instruction {other:#04x}"))),
        }
        Ok(None)
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        let (&first, rest) = self.input.split_first().ok_or_else(cut)?;
        self.input = rest;
        Ok(first)
    }

    fn take(&mut self, size: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.input.split_at_checked(size).ok_or_else(cut)?;
        self.input = rest;
        Ok(taken)
    }

    /// A little-endian number without sign.
    fn number(&mut self, size: usize) -> Result<usize, Fault> {
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(self.take(size)?);
        usize::try_from(u64::from_le_bytes(bytes)).map_err(|_| cut())
    }

    fn int(&mut self, size: usize) -> Result<(), Fault> {
        let value = self.number(size)?;
        self.stack.push(Value::Int(value as i64));
        Ok(())
    }

    /// A signed number of any length; long ones are of no interest.
    fn long(&mut self, size: usize) -> Result<(), Fault> {
        let bytes = self.take(size)?;
        let value = match bytes.last() {
            _ if size > 8 => Value::Plain,
            None => Value::Int(0),
            Some(last) => {
                let mut all = [if last & 0x80 == 0 { 0 } else { 0xff }; 8];
                all[..size].copy_from_slice(bytes);
                Value::Int(i64::from_le_bytes(all))
            }
        };
        self.stack.push(value);
        Ok(())
    }

    fn line(&mut self) -> Result<&'a str, Fault> {
        let end = memchr::memchr(b'\n', self.input).ok_or_else(cut)?;
        let line = self.take(end)?;
        self.byte()?;
        std::str::from_utf8(line).map_err(|_| broken("a name that is no text"))
    }

    fn sized_text(&mut self, size: usize) -> Result<(), Fault> {
        let size = self.number(size)?;
        // Byte strings of Python 2 need not be text.
        let node = std::str::from_utf8(self.take(size)?).map_or(Node::Opaque, Node::Text);
        self.make(node);
        Ok(())
    }

    fn sized_opaque(&mut self, size: usize) -> Result<(), Fault> {
        let size = self.number(size)?;
        self.take(size)?;
        self.make(Node::Opaque);
        Ok(())
    }

    fn make(&mut self, node: Node<'a>) {
        self.stack.push(Value::Node(self.nodes.len()));
        self.nodes.push(node);
    }

    /// The lowest position that may be popped: what lies under the last mark stays.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Value, Fault> {
        match self.stack.len() > self.floor() {
            true => self.stack.pop().ok_or_else(|| broken("an empty stack")),
            false => Err(broken("an empty stack")),
        }
    }

    fn top(&self) -> Result<Value, Fault> {
        match self.stack.last() {
            Some(&value) if self.stack.len() > self.floor() => Ok(value),
            _ => Err(broken("an empty stack")),
        }
    }

    fn pop_mark(&mut self) -> Result<Vec<Value>, Fault> {
        let mark = self.marks.pop().ok_or_else(|| broken("no mark"))?;
        Ok(self.stack.split_off(mark))
    }

    fn tuple(&mut self, size: usize) -> Result<(), Fault> {
        let from = self.stack.len().checked_sub(size);
        let from = from.filter(|&from| from >= self.floor());
        let items = self
            .stack
            .split_off(from.ok_or_else(|| broken("an empty stack"))?);
        self.make(Node::Items(items));
        Ok(())
    }

    fn text(&self, value: Value) -> Option<&'a str> {
        match value {
            Value::Node(at) => match self.nodes[at] {
                Node::Text(text) => Some(text),
                _ => None,
            },
            _ => None,
        }
    }

    fn top_node(&mut self) -> Result<Option<&mut Node<'a>>, Fault> {
        Ok(match self.top()? {
            Value::Node(at) => self.nodes.get_mut(at),
            _ => None,
        })
    }

    fn extend(&mut self, items: &[Value]) -> Result<(), Fault> {
        if let Some(Node::Items(list)) = self.top_node()? {
            list.extend_from_slice(items);
        }
        Ok(())
    }

    fn insert(&mut self, items: &[Value]) -> Result<(), Fault> {
        if let Some(Node::Dict(dict)) = self.top_node()? {
            dict.extend(pairs(items)?);
        }
        Ok(())
    }

    fn remember(&mut self, key: usize) -> Result<(), Fault> {
        let value = self.top()?;
        self.memo.insert(key, value);
        Ok(())
    }

    fn recall(&mut self, key: usize) -> Result<(), Fault> {
        let value = self.memo.get(&key).copied();
        self.stack
            .push(value.ok_or_else(|| broken("no such memo"))?);
        Ok(())
    }

    /// Notes a call, or refuses it.
    fn call(&mut self, function: Value, arguments: Value) -> Result<(), Fault> {
        let (module, name) = match function {
            Value::Node(at) => match self.nodes[at] {
                Node::Global(module, name) => (module, name),
                _ => return Err(broken("a call of what is no function")),
            },
            _ => return Err(broken("a call of what is no function")),
        };
        let node = match (module, name) {
            ("collections", "OrderedDict") => Node::Dict(self.given_pairs(arguments)?),
            ("collections", "defaultdict") => Node::Dict(Vec::new()),
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_parameter")
            | ("torch._tensor", "_rebuild_from_type_v2") => Node::Call(function, arguments),
            _ if is_harmless(module, name) => Node::Opaque,
            _ => {
                return Err(Fault::refused(
                    format!(
                        "is a pickle that would call `{}.{}`; xp runs no code from files",
                        printable(module),
                        printable(name)
                    ),
                    "if you trust it, load it in PyTorch and save its state dictionary alone: \
                     torch.save(model.state_dict(), 'weights.pth')",
                ));
            }
        };
        self.make(node);
        Ok(())
    }

    /// The pairs that an ordered dictionary is made of at once, as Python 2 writes it. It writes a
    /// list for each dictionary; one list from the memo again and again would cost far more than
    /// the pickle is long.
    fn given_pairs(&mut self, arguments: Value) -> Result<Vec<(Value, Value)>, Fault> {
        let nodes = &self.nodes;
        let items = |value: Value| match value {
            Value::Node(at) => match &nodes[at] {
                Node::Items(items) => Some(items.as_slice()),
                _ => None,
            },
            _ => None,
        };
        let list = items(arguments).and_then(|arguments| items(*arguments.first()?));
        let list = list.unwrap_or_default();
        let left = self.pairs_left.checked_sub(list.len());
        self.pairs_left =
            left.ok_or_else(|| broken("it gives its dictionaries more pairs than it holds"))?;
        let pairs = list
            .iter()
            .filter_map(|&pair| match items(pair)? {
                &[key, value] => Some((key, value)),
                _ => None,
            })
            .collect();
        Ok(pairs)
    }
}

fn pairs(items: &[Value]) -> Result<Vec<(Value, Value)>, Fault> {
    match items.as_chunks() {
        (pairs, []) => Ok(pairs.iter().map(|&[key, value]| (key, value)).collect()),
        _ => Err(broken("a key without a value")),
    }
}

/// What training scripts keep beside the weights, and what of it is data alone.
fn is_harmless(module: &str, name: &str) -> bool {
    match module {
        "torch" => matches!(name, "Size" | "device" | "Tensor"),
        "torch._utils" => name.starts_with("_rebuild_"),
        "argparse" => name == "Namespace",
        "types" => name == "SimpleNamespace",
        "collections" => name == "Counter",
        "copyreg" | "copy_reg" => name == "_reconstructor",
        "_codecs" => name == "encode",
        "numpy" => matches!(name, "dtype" | "ndarray"),
        "numpy.core.multiarray" | "numpy._core.multiarray" => {
            matches!(name, "scalar" | "_reconstruct")
        }
        "builtins" | "__builtin__" => {
            matches!(
                name,
                "set" | "frozenset" | "complex" | "slice" | "bytearray" | "range"
            )
        }
        "pathlib" => matches!(
            name,
            "Path" | "PosixPath" | "PurePath" | "PurePosixPath" | "WindowsPath" | "PureWindowsPath"
        ),
        "datetime" => matches!(
            name,
            "date" | "datetime" | "time" | "timedelta" | "timezone"
        ),
        _ => false,
    }
}

/// A name from the file as it may be shown.
fn printable(name: &str) -> String {
    let plain = |c: char| if c.is_control() { '?' } else { c };
    name.chars().take(60).map(plain).collect()
}
