//! PyTorch's files since version 1.6: a zip archive with one pickle, which says what tensors there
//! are, and the storages that they are views of.

mod machine;
mod pickle;

use std::collections::HashMap;

use candle_core::{DType, Tensor};

use super::archive::Archive;
use super::{Bytes, Entry, Fault, Format, Layout, decode, elements};
use pickle::{Pickle, Value};

const PICKLE: &str = "data.pkl";

/// Where checkpoints keep the state dictionary, the plain one before others.
const WRAPPERS: [&str; 3] = ["state_dict", "model", "model_state_dict"];

/// Most dimensions of a tensor; weights have five at most.
const MOST_DIMS: usize = 8;

/// Most values of a tensor that has more than its storage, by repeating them.
const MOST_REPEATED: usize = 1 << 24;

/// A checked file.
pub(super) struct File {
    entries: Vec<Entry>,
    views: Vec<View>,
}

/// A tensor as a part of a storage, in values.
struct View {
    storage: Bytes,
    offset: usize,
    strides: Vec<usize>,
}

impl File {
    /// Reads the pickle and finds the storages of its tensors.
    pub(super) fn open(archive: &Archive) -> Result<Self, Fault> {
        let mut pickles = archive
            .names()
            .filter_map(|name| name.strip_suffix(PICKLE))
            .filter(|folder| folder.is_empty() || folder.ends_with('/'));
        let folder = match (pickles.next(), pickles.next()) {
            (Some(folder), None) => folder,
            _ => {
                return Err(Fault::refused(
                    "is a zip archive, but neither PyTorch's nor Keras'",
                    "name a `.safetensors`, `.pth` or `.h5` file; unpack it first if it holds one",
                ));
            }
        };
        let index: HashMap<&str, usize> = archive.names().zip(0..).collect();
        let entry = |name: &str| match index.get(format!("{folder}{name}").as_str()) {
            Some(&index) => archive.entry(index),
            None => Err(Fault::damaged(format!("its entry `{name}` is missing"))),
        };
        if let Ok(order) = entry("byteorder")
            && order.trim_ascii() != b"little"
        {
            return Err(Fault::refused(
                "was saved on a big-endian machine",
                "load it in PyTorch and save it again",
            ));
        }
        let bytes = entry(PICKLE)?;
        let pickle = Pickle::parse(&bytes)?;
        let mut file = Self {
            entries: Vec::new(),
            views: Vec::new(),
        };
        // Names of a dictionary differ, so the pickle holds each of them.
        let mut names_left = bytes.len();
        for &(name, value) in state_dict(&pickle)? {
            let Some(name) = pickle.text(name) else {
                continue;
            };
            let Some(tensor) = rebuilt(&pickle, value) else {
                continue;
            };
            names_left = names_left
                .checked_sub(name.len())
                .ok_or_else(|| Fault::damaged("its pickle repeats the names of tensors"))?;
            let malformed = || Fault::damaged(format!("its tensor `{name}` is malformed"));
            let tensor = tensor.and_then(|arguments| describe(&pickle, arguments));
            let tensor = tensor.ok_or_else(malformed)?;
            let storage = entry(&format!("data/{}", tensor.key))?;
            if let Ok(dtype) = &tensor.dtype
                && !tensor.lies_in(storage.len() / dtype.size_in_bytes())
            {
                let reason = format!("its tensor `{name}` is larger than its storage");
                return Err(Fault::damaged(reason));
            }
            file.entries.push(Entry {
                name: name.into(),
                dtype: tensor.dtype,
                dims: tensor.dims,
                layout: Layout::Torch,
            });
            file.views.push(View {
                storage,
                offset: tensor.offset,
                strides: tensor.strides,
            });
        }
        Ok(file)
    }
}

impl Format for File {
    fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn read(&self, index: usize) -> Result<Tensor, Fault> {
        let (entry, view) = (&self.entries[index], &self.views[index]);
        let dtype = entry.dtype.clone().map_err(Fault::damaged)?;
        let size = dtype.size_in_bytes();
        let beyond = || Fault::damaged("a tensor lies beyond its storage");
        let count = elements(&entry.dims).ok_or_else(beyond)?;
        if view.strides == contiguous(&entry.dims) || count == 0 {
            let from = if count == 0 { 0 } else { view.offset * size };
            let data = view.storage.get(from..from + count * size);
            return decode(data.ok_or_else(beyond)?, dtype, &entry.dims);
        }
        // PyTorch repeats values by strides of 0, and a file may ask for any number of them.
        let held = view.storage.len() / size;
        if count > held.max(MOST_REPEATED) {
            return Err(Fault::refused(
                format!(
                    "has a tensor `{}` of {count} values that repeats the {held} of its storage",
                    entry.name
                ),
                "load it in PyTorch and save what `contiguous()` makes of the tensor",
            ));
        }
        let mut data = Vec::with_capacity(count * size);
        for at in 0..count {
            let mut rest = at;
            let mut from = view.offset;
            for (&dim, &stride) in entry.dims.iter().zip(&view.strides).rev() {
                from += rest % dim * stride;
                rest /= dim;
            }
            let value = view.storage.get(from * size..(from + 1) * size);
            data.extend_from_slice(value.ok_or_else(beyond)?);
        }
        decode(&data, dtype, &entry.dims)
    }
}

/// The dictionary of tensors: the pickle itself, or what a checkpoint wraps.
fn state_dict<'p>(pickle: &'p Pickle<'_>) -> Result<&'p [(Value, Value)], Fault> {
    let save = "load it in PyTorch and save the state dictionary alone: \
                torch.save(model.state_dict(), 'weights.pth')";
    let Some(root) = pickle.dict(pickle.root()) else {
        return Err(Fault::refused("holds no state dictionary", save));
    };
    let has_tensors = |pairs: &[(Value, Value)]| {
        let mut values = pairs.iter().map(|&(_, value)| value);
        values.any(|value| rebuilt(pickle, value).is_some())
    };
    if has_tensors(root) {
        return Ok(root);
    }
    let inner = |key: &str| {
        root.iter()
            .rev()
            .find(|&&(name, _)| pickle.text(name) == Some(key))
            .and_then(|&(_, value)| pickle.dict(value))
            .filter(|pairs| has_tensors(pairs))
    };
    if let Some(pairs) = WRAPPERS.into_iter().find_map(inner) {
        return Ok(pairs);
    }
    let mut keys: Vec<&str> = root
        .iter()
        .filter_map(|&(name, _)| pickle.text(name))
        .collect();
    keys.truncate(6);
    Err(Fault::refused(
        format!(
            "is a checkpoint without a state dictionary under `state_dict`, `model` or \
             `model_state_dict`; it has `{}`",
            keys.join("`, `")
        ),
        "load it in PyTorch and save the one that you want alone, for example: \
         torch.save(checkpoint['model_ema'], 'weights.pth')",
    ))
}

/// Arguments of `_rebuild_tensor_v2`, found through what wraps it; `None` for another value,
/// `Some(None)` for a wrapper around nothing.
fn rebuilt<'p>(pickle: &'p Pickle<'_>, mut value: Value) -> Option<Option<&'p [Value]>> {
    // A parameter around a tensor of a subclass is the deepest that PyTorch writes.
    for _ in 0..3 {
        let ((_, function), arguments) = pickle.call(value)?;
        value = match function {
            "_rebuild_tensor_v2" => return Some(Some(arguments)),
            "_rebuild_from_type_v2" => {
                let &[function, _, inner, ..] = arguments else {
                    return Some(None);
                };
                return match pickle.global(function) {
                    Some((_, "_rebuild_tensor_v2")) => Some(pickle.items(inner)),
                    _ => Some(None),
                };
            }
            _ => match arguments.first() {
                Some(&inner) => inner,
                None => return Some(None),
            },
        };
    }
    Some(None)
}

struct Described<'a> {
    key: &'a str,
    dtype: Result<DType, String>,
    offset: usize,
    dims: Vec<usize>,
    strides: Vec<usize>,
}

/// Arguments: storage, offset, size, stride and more that does not matter.
fn describe<'a>(pickle: &Pickle<'a>, arguments: &[Value]) -> Option<Described<'a>> {
    let &[storage, offset, dims, strides, ..] = arguments else {
        return None;
    };
    let &[_, class, key, ..] = pickle.persistent(storage)? else {
        return None;
    };
    let count = |value: Value| match value {
        Value::Int(value) => usize::try_from(value).ok(),
        _ => None,
    };
    let counts = |value: Value| {
        // One long tuple in the memo may be that of any number of tensors.
        let items = pickle.items(value).filter(|it| it.len() <= MOST_DIMS)?;
        items
            .iter()
            .map(|&item| count(item))
            .collect::<Option<Vec<usize>>>()
    };
    let dtype = match pickle.global(class)?.1 {
        "HalfStorage" => Ok(DType::F16),
        "BFloat16Storage" => Ok(DType::BF16),
        "FloatStorage" => Ok(DType::F32),
        "DoubleStorage" => Ok(DType::F64),
        other => Err(other.trim_end_matches("Storage").to_lowercase()),
    };
    let (dims, strides) = (counts(dims)?, counts(strides)?);
    (dims.len() == strides.len()).then_some(Described {
        key: pickle.text(key)?,
        dtype,
        offset: count(offset)?,
        dims,
        strides,
    })
}

impl Described<'_> {
    /// Whether a storage of so many values holds the last value of the tensor.
    fn lies_in(&self, storage: usize) -> bool {
        let Some(count) = elements(&self.dims) else {
            return false;
        };
        let last = self
            .dims
            .iter()
            .zip(&self.strides)
            .try_fold(self.offset, |last, (&dim, &stride)| {
                last.checked_add(dim.saturating_sub(1).checked_mul(stride)?)
            });
        count == 0 || last.is_some_and(|last| last < storage)
    }
}

/// Strides of a tensor whose values lie one after the other.
fn contiguous(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; dims.len()];
    for at in (1..dims.len()).rev() {
        strides[at - 1] = strides[at].saturating_mul(dims[at]);
    }
    strides
}
