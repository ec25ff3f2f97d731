//! A safetensors file whose bytes depend on its content alone.

use candle_core::Result;
use serde_json::{Map, Value, json};

use super::Entry;

/// Header and tensors, in their order, but integers first: each lies at a multiple of its size.
pub(super) fn encode(entries: &[(String, Entry)], metadata: &[(&str, String)]) -> Result<Vec<u8>> {
    let pairs = metadata.iter();
    let pairs = pairs.map(|(key, value)| ((*key).to_owned(), json!(value)));
    let mut header = Map::new();
    header.insert("__metadata__".into(), Value::Object(pairs.collect()));
    let is_integer = |entry: &Entry| matches!(entry, Entry::Batches);
    let (integers, floats): (Vec<_>, Vec<_>) = entries.iter().partition(|it| is_integer(&it.1));
    let sorted: Vec<_> = integers.into_iter().chain(floats).collect();
    let mut end = 0;
    for (name, entry) in &sorted {
        let (dtype, dims, bytes) = match entry {
            Entry::Floats(tensor) => ("F32", tensor.dims(), 4 * tensor.elem_count()),
            Entry::Batches => ("I64", &[][..], 8),
        };
        let offsets = [end, end + bytes];
        let about = json!({ "dtype": dtype, "shape": dims, "data_offsets": offsets });
        header.insert(name.clone(), about);
        end += bytes;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = Vec::with_capacity(8 + header.len() + end);
    file.extend((header.len() as u64).to_le_bytes());
    file.extend(header);
    for (_, entry) in sorted {
        match entry {
            Entry::Floats(tensor) => {
                let values = tensor.flatten_all()?.to_vec1::<f32>()?;
                file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
            Entry::Batches => file.extend(0i64.to_le_bytes()),
        }
    }
    Ok(file)
}
