//! Files that PyTorch and Keras wrote (`tests/fixtures/make_weight_files.py`), and what an
//! attacker or a bad disk makes of them.

use std::io::{Cursor, Write};
use std::path::Path;

use candle_core::Device;
use proptest::prelude::*;
use zip::write::{SimpleFileOptions, ZipWriter};

use super::super::checkpoint::Checkpoint;
use super::super::error::WeightsError;
use super::*;

const PTH: &[u8] = include_bytes!("../../../tests/fixtures/tiny.pth");
const KERAS_2: &[u8] = include_bytes!("../../../tests/fixtures/tiny.h5");
const KERAS_3: &[u8] = include_bytes!("../../../tests/fixtures/tiny.weights.h5");
const HOSTILE: &[u8] = include_bytes!("../../../tests/fixtures/hostile.weights.h5");

fn wanted(all: &[(&str, &[usize])]) -> Vec<(String, Vec<usize>)> {
    let owned = |&(name, dims): &(&str, &[usize])| (name.to_string(), dims.to_vec());
    all.iter().map(owned).collect()
}

fn of_torch() -> Vec<(String, Vec<usize>)> {
    wanted(&[
        ("conv.weight", &[4, 2, 3, 3]),
        ("bn.weight", &[4]),
        ("bn.bias", &[4]),
        ("bn.running_mean", &[4]),
        ("bn.running_var", &[4]),
        ("fc.weight", &[2, 4]),
        ("fc.bias", &[2]),
    ])
}

fn of_keras() -> Vec<(String, Vec<usize>)> {
    wanted(&[
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
    ])
}

fn load(
    name: &str,
    bytes: Vec<u8>,
    wanted: &Wanted,
) -> Result<Vec<(String, Tensor)>, WeightsError> {
    let path = Path::new(name);
    let checkpoint = Checkpoint::open(path, &Bytes::owned(bytes), wanted)?;
    let naming = checkpoint.naming("any", wanted)?;
    checkpoint.tensors("any", naming, wanted, &Device::Cpu)
}

fn failure(name: &str, bytes: Vec<u8>, wanted: &Wanted) -> String {
    load(name, bytes, wanted).unwrap_err().to_string()
}

/// The script's `counted`, read in another order of dimensions.
fn counted(start: f32, dims: &[usize], order: &[usize]) -> Vec<f32> {
    let count: usize = dims.iter().product();
    let values = (0..count).map(|at| start + at as f32 / 4.0).collect();
    let tensor = Tensor::from_vec(values, dims, &Device::Cpu).unwrap();
    let tensor = tensor.permute(order).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn check(found: Vec<(String, Tensor)>, wanted: &Wanted, expected: &[Vec<f32>]) {
    assert_eq!(found.len(), expected.len());
    for (((name, tensor), (_, dims)), expected) in found.iter().zip(wanted).zip(expected) {
        assert_eq!(tensor.dims(), dims, "{name}");
        let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(&values, expected, "{name}");
    }
}

#[test]
fn a_pytorch_checkpoint_of_a_wrapped_model() {
    let found = load("tiny.pth", PTH.into(), &of_torch()).unwrap();
    let expected = [
        counted(0.0, &[3, 3, 2, 4], &[3, 2, 0, 1]),
        counted(20.0, &[4], &[0]),
        counted(21.0, &[4], &[0]),
        counted(1.0, &[4], &[0]),
        counted(2.0, &[4], &[0]),
        counted(3.0, &[2, 4], &[0, 1]),
        vec![4.0, 4.0],
    ];
    check(found, &of_torch(), &expected);
}

#[test]
fn both_layouts_of_keras() {
    const CONV: &[usize] = &[3, 2, 0, 1];
    let expected = [
        counted(0.0, &[3, 3, 2, 4], CONV),
        counted(10.0, &[4], &[0]),
        counted(11.0, &[4], &[0]),
        counted(12.0, &[4], &[0]),
        counted(20.0, &[3, 3, 4, 1], &[2, 3, 0, 1]),
        counted(21.0, &[4], &[0]),
        counted(30.0, &[3, 3, 4, 1], &[2, 3, 0, 1]),
        counted(31.0, &[1, 1, 4, 3], CONV),
        counted(32.0, &[3], &[0]),
        counted(40.0, &[12, 2], &[1, 0]),
        counted(41.0, &[2], &[0]),
    ];
    for file in [KERAS_2, KERAS_3] {
        let found = load("tiny.h5", file.into(), &of_keras()).unwrap();
        check(found, &of_keras(), &expected);
    }
    // A `.keras` file is an archive with the weights in it.
    let archive = zipped(&[("config.json", b"{}"), ("model.weights.h5", KERAS_3)]);
    let found = load("tiny.keras", archive, &of_keras()).unwrap();
    check(found, &of_keras(), &expected);
}

#[test]
fn unfit_tensors_of_keras_are_named_in_our_dimensions() {
    let message = failure(
        "tiny.h5",
        KERAS_2.into(),
        &wanted(&[("conv2d/kernel", &[8, 2, 3, 3])]),
    );
    let expected = "tensor `conv2d/kernel` in `tiny.h5` is [4, 2, 3, 3], but `conv2d/kernel` needs \
                    [8, 2, 3, 3]";
    assert_eq!(message, expected);
    let two = wanted(&[("fc/bias", &[2]), ("fc2/bias", &[2])]);
    let message = failure("tiny.h5", KERAS_2.into(), &two);
    assert!(
        message
            .starts_with("`tiny.h5` lacks 1 of 2 tensors: `fc2/bias` [2]; it has `conv2d/kernel`"),
        "{message}"
    );
}

#[test]
fn hostile_groups_end() {
    let of = |name: &str, dims: &[usize]| failure("x.h5", HOSTILE.into(), &wanted(&[(name, dims)]));
    let whole = of("whole/kernel", &[2, 2, 1, 1]);
    assert!(whole.contains("holds whole numbers"), "{whole}");
    let vast = of("vast/kernel", &[2, 2]);
    assert!(vast.contains("[1048576, 1048576]"), "{vast}");
}

#[test]
fn safetensors_are_told_whatever_their_length_looks_like() {
    let four = wanted(&[("w", &[4])]);
    // As a pickle begins, of protocols 1, 2 and 5; as a web page does.
    for length in [0x0180, 0x0280, 0x0580, 0x3c20] {
        let header = r#"{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#;
        let bytes = [
            &(length as u64).to_le_bytes()[..],
            format!("{header:length$}").as_bytes(),
            &[0; 16],
        ]
        .concat();
        for name in ["w.safetensors", "w.bin"] {
            let found = load(name, bytes.clone(), &four).unwrap();
            check(found, &four, &[vec![0.0; 4]]);
        }
    }
}

#[test]
fn other_files_are_told_by_their_beginning() {
    for (name, bytes, part) in [
        ("w.safetensors", &b""[..], "it is empty"),
        ("w.safetensors", b"\n<!DOCTYPE html><html>", "is a web page"),
        ("w.pth", b"<html>", "is a web page"),
        (
            "w.h5",
            b"version https://git-lfs.github.com/spec/v1\noid",
            "a pointer of git-lfs",
        ),
        (
            "w.pth",
            b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.",
            "before version 1.6",
        ),
        (
            "w.pth",
            b"hello, I am no file of weights",
            "does not begin as a PyTorch file does",
        ),
        (
            "w.h5",
            b"hello, I am no file of weights",
            "does not begin as an HDF5 file does",
        ),
    ] {
        let error = load(name, bytes.into(), &of_torch()).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        assert!(error.help().is_some(), "{error}");
    }
    let message = failure("w.pth", zipped(&[("readme", b"hi")]), &of_torch());
    assert!(
        message.contains("neither PyTorch's nor Keras'"),
        "{message}"
    );
}

fn zipped(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, content) in entries {
        zip.start_file(*name, stored).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// An archive with this pickle and one storage of four f32.
fn with_pickle(pickle: &[u8]) -> Vec<u8> {
    zipped(&[("archive/data.pkl", pickle), ("archive/data/0", &[0; 16])])
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = vec![b'X'];
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

fn numbers(values: &[i64]) -> Vec<u8> {
    let long = |value: &i64| [&[0x8a, 8][..], &value.to_le_bytes()].concat();
    [
        &b"("[..],
        &values.iter().flat_map(long).collect::<Vec<u8>>(),
        b"t",
    ]
    .concat()
}

/// A state dictionary with one tensor `w` on the storage.
fn one_tensor(storage: &str, offset: i64, dims: &[i64], strides: &[i64]) -> Vec<u8> {
    let offset = numbers(&[offset]);
    [
        &b"\x80\x02}"[..],
        &text("w"),
        b"ctorch._utils\n_rebuild_tensor_v2\n((",
        &text("storage"),
        format!("ctorch\n{storage}\n").as_bytes(),
        &text("0"),
        &text("cpu"),
        b"K\x04tQ",
        &offset[1..offset.len() - 1],
        &numbers(dims),
        &numbers(strides),
        b"\x89}tRs.",
    ]
    .concat()
}

#[test]
fn tensors_must_lie_in_their_storage() {
    let four = wanted(&[("w", &[4])]);
    let load = |pickle: Vec<u8>| load("w.pth", with_pickle(&pickle), &four);
    assert!(load(one_tensor("FloatStorage", 0, &[4], &[1])).is_ok());
    for (offset, dims, strides, part) in [
        (1, &[4][..], &[1][..], "larger than its storage"),
        (0, &[4], &[2], "larger than its storage"),
        (-1, &[4], &[1], "malformed"),
        (0, &[4], &[-1], "malformed"),
        (0, &[4], &[1, 1], "malformed"),
        (0, &[1; 9], &[1; 9], "malformed"),
        (
            0,
            &[i64::MAX, i64::MAX],
            &[i64::MAX, 1],
            "larger than its storage",
        ),
        (i64::MAX, &[4], &[i64::MAX], "larger than its storage"),
        // One value as a tensor of a million gigabytes: sound, and not what is wanted.
        (0, &[1 << 30, 1 << 20], &[0, 0], "but `w` needs [4]"),
        (0, &[3], &[1], "but `w` needs [4]"),
    ] {
        let error = load(one_tensor("FloatStorage", offset, dims, strides)).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
    let error = load(one_tensor("LongStorage", 0, &[2], &[1])).unwrap_err();
    assert!(error.to_string().contains("holds long"), "{error}");
}

#[test]
fn values_are_repeated_within_reason() {
    let of = |dims: &[i64]| {
        let all: Vec<usize> = dims.iter().map(|&dim| dim as usize).collect();
        let pickle = one_tensor("FloatStorage", 0, dims, &vec![0; dims.len()]);
        load("w.pth", with_pickle(&pickle), &wanted(&[("w", &all)]))
    };
    assert!(of(&[100, 10]).is_ok());
    let error = of(&[1 << 20, 1 << 20]).unwrap_err();
    assert!(error.to_string().contains("repeats the 4 of"), "{error}");
    assert!(error.help().unwrap().contains("contiguous()"), "{error}");
}

#[test]
fn pickles_run_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("ran");
    let command = format!("touch {}", mark.display());
    for (module, function) in [("posix", "system"), ("builtins", "eval"), ("os", "system")] {
        let call = format!("c{module}\n{function}\n");
        for (before, after) in [
            (&b""[..], &b"\x85R."[..]),
            (b"", b"\x85\x81."),
            (b"(", b"o."),
        ] {
            let pickle = [b"\x80\x02", before, call.as_bytes(), &text(&command), after].concat();
            let error = load("w.pth", with_pickle(&pickle), &of_torch()).unwrap_err();
            let expected = format!("would call `{module}.{function}`; xp runs no code from files");
            assert!(error.to_string().contains(&expected), "{error}");
        }
    }
    assert!(!mark.exists());
}

#[test]
fn pickles_cost_no_more_than_they_are_long() {
    let doubled = [
        &b"\x80\x02Nq\x00"[..],
        &b"h\x00h\x00\x86q\x00".repeat(100_000),
        b".",
    ]
    .concat();
    let nested = [&b"\x80\x02N"[..], &[0x85; 1_000_000], b"."].concat();
    let lists = [
        &b"\x80\x02"[..],
        &b"]".repeat(500_000),
        &b"a".repeat(499_999),
        b".",
    ]
    .concat();
    let given = [
        &b"\x80\x02ccollections\nOrderedDict\nq\x00("[..],
        &b"K\x01".repeat(10_000),
        b"l\x85q\x01",
        &b"h\x00h\x01R".repeat(10_000),
        b".",
    ]
    .concat();
    let tensor = one_tensor("FloatStorage", 0, &[4], &[1]);
    let named = [
        &b"\x80\x02}"[..],
        &text(&"w".repeat(10_000)),
        b"q\x00",
        &tensor[3 + text("w").len()..tensor.len() - 2],
        b"q\x01s",
        &b"h\x00h\x01s".repeat(10_000),
        b".",
    ]
    .concat();
    let itself = b"\x80\x02}q\x00X\x01\0\0\0wh\x00s.".to_vec();
    for (pickle, part) in [
        (doubled, "holds no state dictionary"),
        (nested, "holds no state dictionary"),
        (lists, "holds no state dictionary"),
        (given, "more pairs than it holds"),
        (named, "repeats the names"),
        (itself, "without a state dictionary"),
        (b"\x80\x02X\xff\xff\xff\xffabc".to_vec(), "cut short"),
        (
            b"\x80\x02\x8d\xff\xff\xff\xff\xff\xff\xff\xffabc".to_vec(),
            "cut short",
        ),
        (b"\x80\x02(K\x01t".to_vec(), "cut short"),
        (b"\x80\x02R.".to_vec(), "an empty stack"),
        (b"\x80\x02K\x01(R.".to_vec(), "an empty stack"),
        (b"\x80\x02h\x07.".to_vec(), "no such memo"),
        (b"\x80\x02}(K\x01u.".to_vec(), "a key without a value"),
        (b"\x80\x02\xfe.".to_vec(), "unknown instruction 0xfe"),
        (vec![0; 17 << 20], "too long"),
    ] {
        let message = failure("w.pth", with_pickle(&pickle), &of_torch());
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn only_an_average_is_not_taken_for_the_weights() {
    let inner = one_tensor("FloatStorage", 0, &[4], &[1]);
    let pickle = [
        &b"\x80\x02}"[..],
        &text("model_ema"),
        &inner[2..inner.len() - 1],
        b"s.",
    ]
    .concat();
    let message = failure("w.pth", with_pickle(&pickle), &of_torch());
    assert!(message.contains("it has `model_ema`"), "{message}");
}

#[test]
fn archives_that_lie_or_are_compressed() {
    let sound = with_pickle(&one_tensor("FloatStorage", 0, &[4], &[1]));
    let four = wanted(&[("w", &[4])]);
    let records = |magic: &[u8]| {
        let at = |at: &usize| sound[*at..].starts_with(magic);
        (0..sound.len()).filter(at).collect::<Vec<usize>>()
    };
    let patched = |offsets: [usize; 2], value: &[u8]| {
        let mut bytes = sound.clone();
        for (magic, offset) in [&b"PK\x03\x04"[..], b"PK\x01\x02"].into_iter().zip(offsets) {
            for at in records(magic) {
                bytes[at + offset..at + offset + value.len()].copy_from_slice(value);
            }
        }
        load("w.pth", bytes, &four).unwrap_err()
    };
    let vast = [0xf0, 0xff, 0xff, 0x7f].repeat(2);
    for error in [
        patched([8, 10], &[8, 0]),
        patched([18, 20], &vast),
        patched([22, 24], &vast[..4]),
    ] {
        assert!(matches!(error, WeightsError::Damaged { .. }), "{error}");
    }
}

#[test]
fn files_cut_short_are_errors() {
    for (name, bytes, wanted, step) in [
        ("w.pth", PTH, of_torch(), 13),
        ("w.h5", KERAS_2, of_keras(), 61),
        ("w.h5", KERAS_3, of_keras(), 61),
    ] {
        for length in (0..bytes.len() - 1).step_by(step) {
            let found = load(name, bytes[..length].into(), &wanted);
            // What lies behind the last value may be missing.
            assert!(
                found.is_err() || length > bytes.len() / 2,
                "{length} of {name}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bytes_crash_nothing(
        which in 0usize..4,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let (file, wanted) = match which {
            0 => (PTH, of_torch()),
            1 => (KERAS_2, of_keras()),
            2 => (KERAS_3, of_keras()),
            _ => (HOSTILE, wanted(&[("vast/kernel", &[4, 4])])),
        };
        let mut bytes = file.to_vec();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = load("w", bytes, &wanted);
    }
}
