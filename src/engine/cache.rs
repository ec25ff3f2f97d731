//! Frozen features, computed once a picture and gathered into batches.

use candle_core::{Device, Result, Tensor, bail};
use rayon::prelude::*;

use super::memory;

/// The frontier's stored tensors for a set of pictures, in main memory.
#[derive(Debug)]
pub struct FeatureCache {
    pictures: usize,
    stored: Vec<Stored>,
    /// Where features came from, and where batches of them go back to.
    device: Device,
}

/// One stored tensor: `[pictures, elements]`.
#[derive(Debug)]
struct Stored {
    dims: Vec<usize>,
    elements: usize,
    values: Vec<f32>,
}

impl FeatureCache {
    /// Bytes that caching `pictures` pictures of these per-picture element counts takes.
    pub fn bytes(pictures: usize, elements: &[usize]) -> usize {
        pictures * elements.iter().sum::<usize>() * size_of::<f32>()
    }

    /// Room for `pictures` pictures whose stored tensors have these per-picture dimensions.
    pub fn with_capacity(pictures: usize, dims: &[Vec<usize>]) -> Self {
        let room = |dims: &Vec<usize>| {
            let elements = dims.iter().product();
            Stored {
                dims: dims.clone(),
                elements,
                values: vec![0.0; pictures * elements],
            }
        };
        Self {
            pictures,
            stored: dims.iter().map(room).collect(),
            device: Device::Cpu,
        }
    }

    /// Number of pictures that there is room for.
    pub fn pictures(&self) -> usize {
        self.pictures
    }

    /// Stores the features of the pictures `first..first + batch`, one tensor a stored node.
    pub fn store(&mut self, first: usize, features: &[Tensor]) -> Result<()> {
        if features.len() != self.stored.len() {
            bail!(
                "the cache stores {} tensors a picture, not {}",
                self.stored.len(),
                features.len()
            );
        }
        for (stored, tensor) in self.stored.iter_mut().zip(features) {
            let Some((&batch, dims)) = tensor.dims().split_first() else {
                bail!("features need a batch dimension");
            };
            if dims != stored.dims || first + batch > self.pictures {
                bail!(
                    "features {:?} do not fit picture {first} of {} pictures of {:?}",
                    tensor.dims(),
                    self.pictures,
                    stored.dims
                );
            }
            self.device = tensor.device().clone();
            let host = memory::to_host(tensor)?;
            let values = memory::Slice::of(&host)?;
            let start = first * stored.elements;
            let room = &mut stored.values[start..start + values.len()];
            let elements = stored.elements.max(1);
            room.par_chunks_mut(elements)
                .zip(values.par_chunks(elements))
                .for_each(|(to, from)| to.copy_from_slice(from));
        }
        Ok(())
    }

    /// Features of the given pictures as a batch, one tensor a stored node.
    pub fn gather(&self, pictures: &[usize]) -> Result<Vec<Tensor>> {
        if let Some(picture) = pictures.iter().find(|&&picture| picture >= self.pictures) {
            bail!(
                "picture {picture} is not among the {} cached ones",
                self.pictures
            );
        }
        self.stored
            .iter()
            .map(|stored| {
                let elements = stored.elements;
                let mut batch = vec![0.0; pictures.len() * elements];
                batch
                    .par_chunks_mut(elements.max(1))
                    .zip(pictures)
                    .for_each(|(to, &picture)| {
                        let start = picture * elements;
                        to.copy_from_slice(&stored.values[start..start + elements]);
                    });
                let mut dims = vec![pictures.len()];
                dims.extend(&stored.dims);
                Tensor::from_vec(batch, dims, &self.device)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gathers_what_was_stored_in_any_order() {
        let dims = [vec![2, 1, 2], vec![3]];
        let mut cache = FeatureCache::with_capacity(3, &dims);
        let maps = Tensor::arange(0f32, 12.0, &Device::Cpu).unwrap();
        let maps = maps.reshape((3, 2, 1, 2)).unwrap();
        let vectors = Tensor::arange(0f32, 9.0, &Device::Cpu).unwrap();
        let vectors = vectors.reshape((3, 3)).unwrap();
        for (first, count) in [(0, 2), (2, 1)] {
            let part = |t: &Tensor| t.narrow(0, first, count).unwrap();
            cache.store(first, &[part(&maps), part(&vectors)]).unwrap();
        }
        let batch = cache.gather(&[2, 0]).unwrap();
        assert_eq!(batch[0].dims(), [2, 2, 1, 2]);
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(
            values(&batch[0]),
            [8.0, 9.0, 10.0, 11.0, 0.0, 1.0, 2.0, 3.0]
        );
        assert_eq!(values(&batch[1]), [6.0, 7.0, 8.0, 0.0, 1.0, 2.0]);
        assert!(cache.gather(&[3]).is_err());
        assert!(cache.store(2, &[maps, vectors]).is_err());
        assert_eq!(FeatureCache::bytes(3, &[4, 3]), 84);
    }
}
