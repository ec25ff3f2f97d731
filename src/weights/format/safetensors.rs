//! safetensors: a JSON header with types, dimensions and offsets, then the values.

use candle_core::{DType, Tensor};
use safetensors::{Dtype, SafeTensors};

use super::{Bytes, Entry, Fault, Format, Layout, Metadata, decode};

/// A checked file.
pub(super) struct File {
    bytes: Bytes,
    entries: Vec<Entry>,
    /// Where each tensor's values are.
    ranges: Vec<std::ops::Range<usize>>,
    metadata: Option<Metadata>,
}

impl File {
    /// Checks header, offsets and sizes.
    pub(super) fn open(bytes: &Bytes) -> Result<Self, Fault> {
        let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(Fault::damaged)?;
        let start = size_of::<u64>() + header;
        let (mut entries, mut ranges) = (Vec::new(), Vec::new());
        for name in metadata.offset_keys() {
            let Some(info) = metadata.info(&name) else {
                continue;
            };
            let (from, to) = info.data_offsets;
            ranges.push(start + from..start + to);
            entries.push(Entry {
                dtype: float(info.dtype),
                dims: info.shape.clone(),
                layout: Layout::Torch,
                name,
            });
        }
        Ok(Self {
            bytes: bytes.clone(),
            entries,
            ranges,
            metadata: metadata.metadata().clone(),
        })
    }
}

fn float(dtype: Dtype) -> Result<DType, String> {
    match dtype {
        Dtype::F16 => Ok(DType::F16),
        Dtype::BF16 => Ok(DType::BF16),
        Dtype::F32 => Ok(DType::F32),
        Dtype::F64 => Ok(DType::F64),
        other => Err(format!("{other:?}")),
    }
}

impl Format for File {
    fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn read(&self, index: usize) -> Result<Tensor, Fault> {
        let entry = &self.entries[index];
        let data = self.bytes.get(self.ranges[index].clone());
        let data = data.ok_or_else(|| Fault::damaged("a tensor lies beyond the end"))?;
        let dtype = entry.dtype.clone().map_err(Fault::damaged)?;
        decode(data, dtype, &entry.dims)
    }

    fn metadata(&self) -> Option<&Metadata> {
        self.metadata.as_ref()
    }
}
