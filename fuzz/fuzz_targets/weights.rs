//! Any bytes as a file of weights: safetensors, PyTorch's archives, both HDF5 layouts of Keras and
//! archives around them; read for the tensors of the files that the corpus begins with.

#![no_main]

use candle_core::Device;
use libfuzzer_sys::fuzz_target;
use xp::weights;
use xp_fuzz::Scratch;

static SCRATCH: Scratch = Scratch::new();

type Tensors = &'static [(&'static str, &'static [usize])];

const WANTED: [Tensors; 2] = [
    &[
        ("conv.weight", &[4, 2, 3, 3]),
        ("bn.weight", &[4]),
        ("bn.bias", &[4]),
        ("bn.running_mean", &[4]),
        ("bn.running_var", &[4]),
        ("fc.weight", &[2, 4]),
        ("fc.bias", &[2]),
    ],
    &[
        ("conv2d/kernel", &[4, 2, 3, 3]),
        ("batch_normalization/beta", &[4]),
        ("batch_normalization/moving_mean", &[4]),
        ("batch_normalization/moving_variance", &[4]),
        ("depth/kernel", &[4, 1, 3, 3]),
        ("depth/bias", &[4]),
        ("separable/kernel", &[4, 1, 3, 3]),
        ("separable_pointwise/kernel", &[3, 4, 1, 1]),
        ("separable_pointwise/bias", &[3]),
        ("fc/kernel", &[2, 12]),
        ("fc/bias", &[2]),
    ],
];

fuzz_target!(|bytes: &[u8]| {
    let path = SCRATCH.write("weights.h5", bytes);
    let source = path.to_string_lossy();
    drop(weights::flavour_of(&source));
    for tensors in WANTED {
        let wanted = tensors.iter();
        let wanted: Vec<_> = wanted
            .map(|&(name, dims)| (name.to_owned(), dims.to_vec()))
            .collect();
        match weights::load(&source, "any", &wanted, &Device::Cpu) {
            Ok(loaded) => {
                let found = loaded.tensors.iter();
                for ((name, tensor), (expected, dims)) in found.zip(tensors) {
                    assert_eq!((name.as_str(), tensor.dims()), (*expected, *dims));
                }
            }
            Err(error) => drop((error.to_string(), error.help())),
        }
    }
});
