//! Files of features: safetensors, NumPy or CSV, a row a picture.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{Exit, Failure};
use crate::fsx;

/// Name of the tensor in a safetensors file.
const TENSOR: &str = "features";

/// Formats by the extension of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One f32 tensor `features`; layer, weights and the pictures' paths as metadata.
    Safetensors,
    /// One f32 array; the pictures' paths in a `.txt` beside it, a line each.
    Npy,
    /// A line a picture: its path, then the values in the order height, width, channel.
    Csv,
}

impl Format {
    /// What a file's name asks for.
    pub fn of(path: &Path) -> Result<Self, Failure> {
        let extension = path.extension().and_then(|it| it.to_str());
        match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("safetensors") => Ok(Self::Safetensors),
            Some("npy") => Ok(Self::Npy),
            Some("csv") => Ok(Self::Csv),
            _ => {
                let message = format!("`{}` tells no format", path.display());
                let help = "end it with `.safetensors`, `.npy` or `.csv`";
                Err(Failure::new(Exit::Config, message).help(help))
            }
        }
    }
}

/// What a file says beside the values.
#[derive(Debug)]
pub struct Contents<'a> {
    /// The layer whose output they are.
    pub layer: &'a str,
    /// The backbone.
    pub model: &'a str,
    /// Where its weights came from.
    pub weights: &'a str,
    /// Dimensions of one picture's values.
    pub dims: &'a [usize],
    /// The pictures, in order.
    pub paths: &'a [PathBuf],
}

/// Values on their way to a file, kept on disk until their number is known.
#[derive(Debug)]
pub struct Spool {
    file: BufWriter<File>,
}

impl Spool {
    /// In the folder of the file that the values are for.
    pub fn new(out: &Path) -> Result<Self, Failure> {
        let folder = match out.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let file = tempfile::tempfile_in(folder).map_err(|error| {
            let message = format!("cannot write `{}`: {error}", out.display());
            Failure::new(Exit::Other, message)
        })?;
        Ok(Self {
            file: BufWriter::with_capacity(1 << 20, file),
        })
    }

    /// Adds the values of some pictures.
    pub fn append(&mut self, values: &[f32]) -> io::Result<()> {
        values
            .iter()
            .try_for_each(|value| self.file.write_all(&value.to_le_bytes()))
    }

    /// Writes the file, as one step.
    pub fn write(self, out: &Path, format: Format, contents: &Contents<'_>) -> Result<(), Failure> {
        let mut spooled = self
            .file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        spooled.rewind()?;
        let mut values = BufReader::with_capacity(1 << 20, spooled);
        match format {
            Format::Safetensors => fsx::write_atomic_with(out, |file| {
                safetensors_header(file, contents)?;
                io::copy(&mut values, file).map(drop)
            })?,
            Format::Npy => {
                let paths: Vec<String> = contents.paths.iter().map(|path| shown(path)).collect();
                let beside = out.with_extension("txt");
                fsx::write_atomic(&beside, (paths.join("\n") + "\n").as_bytes())?;
                fsx::write_atomic_with(out, |file| {
                    npy_header(file, contents)?;
                    io::copy(&mut values, file).map(drop)
                })?;
            }
            Format::Csv => {
                fsx::write_atomic_with(out, |file| write_csv(file, &mut values, contents))?
            }
        }
        Ok(())
    }
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn shape(contents: &Contents<'_>) -> Vec<usize> {
    let mut shape = vec![contents.paths.len()];
    shape.extend(contents.dims);
    shape
}

fn safetensors_header(file: &mut dyn Write, contents: &Contents<'_>) -> io::Result<()> {
    let shape = shape(contents);
    let bytes = 4 * shape.iter().product::<usize>();
    let paths: Vec<String> = contents.paths.iter().map(|path| shown(path)).collect();
    let metadata = json!({
        "format": "pt",
        "model": contents.model,
        "weights": contents.weights,
        "layer": contents.layer,
        "paths": json!(paths).to_string(),
    });
    let tensor = json!({ "dtype": "F32", "shape": shape, "data_offsets": [0, bytes] });
    let mut header = Map::new();
    header.insert("__metadata__".into(), metadata);
    header.insert(TENSOR.into(), tensor);
    let mut header = serde_json::to_vec(&Value::Object(header))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)
}

/// Version 1.0 of NumPy's format: magic, length, a Python dictionary padded to 64 bytes.
fn npy_header(file: &mut dyn Write, contents: &Contents<'_>) -> io::Result<()> {
    const FIXED: usize = 10;
    let shape: Vec<String> = shape(contents).iter().map(usize::to_string).collect();
    let shape = shape.join(", ");
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}");
    let whole = (FIXED + header.len() + 1).next_multiple_of(64);
    header.extend(std::iter::repeat_n(' ', whole - FIXED - header.len() - 1));
    header.push('\n');
    let length = u16::try_from(header.len()).map_err(io::Error::other)?;
    file.write_all(b"\x93NUMPY\x01\x00")?;
    file.write_all(&length.to_le_bytes())?;
    file.write_all(header.as_bytes())
}

fn write_csv(
    file: &mut dyn Write,
    values: &mut impl Read,
    contents: &Contents<'_>,
) -> io::Result<()> {
    let count: usize = contents.dims.iter().product();
    let mut writer = csv::Writer::from_writer(file);
    let names = (0..count).map(|index| format!("f{index}"));
    writer.write_record(std::iter::once("path".to_owned()).chain(names))?;
    let mut row = vec![0; 4 * count];
    for path in contents.paths {
        values.read_exact(&mut row)?;
        let (numbers, _) = row.as_chunks::<4>();
        let numbers = numbers
            .iter()
            .map(|&bytes| f32::from_le_bytes(bytes).to_string());
        writer.write_record(std::iter::once(shown(path)).chain(numbers))?;
    }
    writer.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(name: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join(name);
        let mut spool = Spool::new(&out).unwrap();
        spool.append(&[1.0, 2.5, -3.0]).unwrap();
        spool.append(&[0.1, 5.0, 6.0]).unwrap();
        let paths = [PathBuf::from("a,b.jpg"), PathBuf::from("c.png")];
        let contents = Contents {
            layer: "pool",
            model: "net",
            weights: "w.safetensors",
            dims: &[1, 3],
            paths: &paths,
        };
        spool
            .write(&out, Format::of(&out).unwrap(), &contents)
            .unwrap();
        (folder, out)
    }

    #[test]
    fn safetensors_are_read_back() {
        let (_folder, out) = write("x.safetensors");
        let bytes = std::fs::read(&out).unwrap();
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = header.metadata().clone().unwrap();
        assert_eq!(metadata["paths"], r#"["a,b.jpg","c.png"]"#);
        assert_eq!(metadata["layer"], "pool");
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let tensor = file.tensor("features").unwrap();
        assert_eq!(tensor.shape(), [2, 1, 3]);
        assert_eq!(tensor.data()[4..8], 2.5f32.to_le_bytes());
    }

    #[test]
    fn npy_is_what_numpy_writes() {
        let (_folder, out) = write("x.npy");
        let bytes = std::fs::read(&out).unwrap();
        // numpy.save of the same array.
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1, 3), }";
        let mut expected = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
        expected.extend(format!("{header:<117}\n").as_bytes());
        assert_eq!(expected.len(), 128);
        for value in [1.0f32, 2.5, -3.0, 0.1, 5.0, 6.0] {
            expected.extend(value.to_le_bytes());
        }
        assert_eq!(bytes, expected);
        let paths = std::fs::read_to_string(out.with_extension("txt")).unwrap();
        assert_eq!(paths, "a,b.jpg\nc.png\n");
    }

    #[test]
    fn csv_quotes_paths() {
        let (_folder, out) = write("x.csv");
        let text = std::fs::read_to_string(out).unwrap();
        assert_eq!(text, "path,f0,f1,f2\n\"a,b.jpg\",1,2.5,-3\nc.png,0.1,5,6\n");
    }

    #[test]
    fn other_names_tell_no_format() {
        let failure = Format::of(Path::new("features.h5")).unwrap_err();
        assert_eq!(failure.message, "`features.h5` tells no format");
    }
}
