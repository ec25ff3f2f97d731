//! TensorBoard's event files: scalars, pictures, texts.
//!
//! A file is [`head`], then a [`point`] a row, then the [`ending`]; each can be appended as it comes.
//! Training and validation share a group of tags (`loss/train`, `loss/val`), and the tab of custom
//! scalars has them in one chart.

use prost::Message;

use super::events::*;
use super::{Ending, Point, Story};

/// Tags of what columns hold; the other columns are called what they are.
const TAGS: [(&str, &str); 4] = [
    ("train_loss", "loss/train"),
    ("val_loss", "loss/val"),
    ("train_accuracy", "accuracy/train"),
    ("val_accuracy", "accuracy/val"),
];

/// The beginning of a file, with the configuration to read. What files with lower names say of the
/// same run is void from here on.
pub fn head(story: &Story) -> Vec<u8> {
    let wall_time = seconds(story.started);
    let version = What::FileVersion("brain.Event:2".into());
    let start = What::SessionLog(SessionLog { status: START });
    let config = format!("```toml\n{}\n```\n", story.config.trim_end());
    let values = vec![charts(), text("config", &config)];
    let summary = What::Summary(Summary { value: values });
    let mut file = Vec::new();
    for what in [version, start, summary] {
        let event = Event {
            wall_time,
            step: 0,
            what: Some(what),
        };
        frame(&event, &mut file);
    }
    file
}

/// A row's scalars.
pub fn point(point: &Point) -> Vec<u8> {
    let value = |(column, value): &(&'static str, f64)| {
        let tag = TAGS.iter().find(|(name, _)| name == column);
        scalar(tag.map_or(*column, |(_, tag)| *tag), *value)
    };
    let values = point.values.iter().map(value).collect();
    framed(point.time, point.step, values)
}

/// Results, pictures and texts of a run that has come to `step`.
pub fn ending(ending: &Ending, step: i64) -> Vec<u8> {
    let mut values: Vec<SummaryValue> = ending
        .results
        .iter()
        .map(|(name, value)| scalar(&name.replacen("test_", "test/", 1), *value))
        .collect();
    values.extend(ending.texts.iter().map(|(name, it)| text(name, it)));
    values.extend(
        ending
            .files
            .iter()
            .filter_map(|(name, bytes)| picture(name, bytes)),
    );
    match values.is_empty() {
        true => Vec::new(),
        false => framed(ending.time, step, values),
    }
}

fn framed(time: i64, step: i64, value: Vec<SummaryValue>) -> Vec<u8> {
    let event = Event {
        wall_time: seconds(time),
        step,
        what: Some(What::Summary(Summary { value })),
    };
    let mut file = Vec::new();
    frame(&event, &mut file);
    file
}

fn seconds(milliseconds: i64) -> f64 {
    milliseconds as f64 / 1000.0
}

fn scalar(tag: &str, value: f64) -> SummaryValue {
    SummaryValue {
        tag: tag.into(),
        metadata: None,
        datum: Some(Datum::Scalar(value as f32)),
    }
}

/// A PNG file under its name without the ending.
fn picture(name: &str, bytes: &[u8]) -> Option<SummaryValue> {
    const START: &[u8] = b"\x89PNG\r\n\x1a\n";
    // Width and height stand at the beginning of the first chunk.
    let side = |at: usize| Some(i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let image = Image {
        width: side(16)?,
        height: side(20)?,
        colorspace: 3,
        encoded: bytes.to_vec(),
    };
    let tag = name.strip_suffix(".png")?.to_owned();
    bytes.starts_with(START).then_some(SummaryValue {
        tag,
        metadata: None,
        datum: Some(Datum::Image(image)),
    })
}

/// Markdown.
fn text(name: &str, markdown: &str) -> SummaryValue {
    let shape = Shape {
        dim: vec![Dimension { size: 1 }],
    };
    let tag = format!("{name}/text_summary");
    strings(tag, "text", shape, markdown.as_bytes().to_vec())
}

/// Charts with training and validation in one.
fn charts() -> SummaryValue {
    let chart = |title: &str| Chart {
        title: title.into(),
        multiline: Some(Lines {
            tag: vec![format!("{title}/train"), format!("{title}/val")],
        }),
    };
    let layout = Layout {
        category: vec![Category {
            title: "training and validation".into(),
            chart: vec![chart("accuracy"), chart("loss")],
        }],
    };
    let tag = "custom_scalars__config__".to_owned();
    strings(
        tag,
        "custom_scalars",
        Shape::default(),
        layout.encode_to_vec(),
    )
}

fn strings(tag: String, plugin: &str, shape: Shape, bytes: Vec<u8>) -> SummaryValue {
    SummaryValue {
        tag,
        metadata: Some(Metadata {
            plugin_data: Some(PluginData {
                plugin_name: plugin.into(),
                content: Vec::new(),
            }),
            data_class: DATA_CLASS_TENSOR,
        }),
        datum: Some(Datum::Tensor(Tensor {
            dtype: DT_STRING,
            shape: Some(shape),
            string_val: vec![bytes],
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::tests::{ending as an_ending, rows, story};
    use super::super::{points, story::State};
    use super::*;

    /// CRC-32C bit by bit, as RFC 3720 defines it.
    fn crc(bytes: &[u8]) -> u32 {
        let mut crc = u32::MAX;
        for &byte in bytes {
            crc ^= u32::from(byte);
            for _ in 0..8 {
                crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
            }
        }
        !crc
    }

    fn unmasked(masked: u32) -> u32 {
        masked.wrapping_sub(0xa282_ead8).rotate_left(15)
    }

    /// The messages of a file, every checksum verified; stops at what is cut short.
    fn messages(mut file: &[u8]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
        while file.len() >= 12 {
            let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
            assert_eq!(unmasked(number(&file[8..12])), crc(&file[..8]));
            if file.len() < 16 + length {
                break;
            }
            let message = &file[12..12 + length];
            assert_eq!(
                unmasked(number(&file[12 + length..16 + length])),
                crc(message)
            );
            found.push(message.to_vec());
            file = &file[16 + length..];
        }
        found
    }

    /// Fields of a message by number: numbers as their bytes, nested messages and texts whole.
    fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
        fn varint(bytes: &mut &[u8]) -> u64 {
            let mut value = 0;
            for shift in (0..).step_by(7) {
                let (first, rest) = bytes.split_first().unwrap();
                *bytes = rest;
                value |= u64::from(first & 0x7f) << shift;
                if first & 0x80 == 0 {
                    break;
                }
            }
            value
        }
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let length = match key & 7 {
                0 => {
                    let value = varint(&mut bytes);
                    found.push((key >> 3, value.to_le_bytes().to_vec()));
                    continue;
                }
                1 => 8,
                2 => varint(&mut bytes) as usize,
                5 => 4,
                other => panic!("wire type {other}"),
            };
            found.push((key >> 3, bytes[..length].to_vec()));
            bytes = &bytes[length..];
        }
        found
    }

    fn field(message: &[u8], number: u64) -> Option<Vec<u8>> {
        let found = fields(message).into_iter().find(|it| it.0 == number);
        found.map(|it| it.1)
    }

    #[test]
    fn checksums_are_the_published_ones() {
        // RFC 3720, B.4.
        for (bytes, known) in [
            (vec![0; 32], 0x8a91_36aa_u32),
            (vec![0xff; 32], 0x62a8_ab43),
            ((0..32).collect(), 0x46dd_794e),
            ((0..32).rev().collect(), 0x113f_db5c),
        ] {
            assert_eq!(crc(&bytes), known);
            assert_eq!(unmasked(masked_crc(&bytes)), known);
        }
        // The checksum of "brain.Event:2" is what every event file begins with.
        let event = Event {
            wall_time: 0.0,
            step: 0,
            what: Some(What::FileVersion("brain.Event:2".into())),
        };
        let mut file = Vec::new();
        frame(&event, &mut file);
        assert_eq!(&file[..8], 15_u64.to_le_bytes());
        assert_eq!(&file[12..14], [0x1a, 13]);
        assert_eq!(&file[14..27], b"brain.Event:2");
    }

    #[test]
    fn a_file_reads_back_with_other_code() {
        let points = points(&rows(), story().started);
        let mut file = head(&story());
        file.extend(points.iter().flat_map(point));
        file.extend(ending(&an_ending(), 20));
        let found = messages(&file);
        assert_eq!(found.len(), 3 + 5 + 1);
        assert_eq!(field(&found[0], 3).unwrap(), b"brain.Event:2");
        let session = field(&found[1], 7).unwrap();
        assert_eq!(
            field(&session, 1).unwrap()[0],
            1,
            "what older files say is void"
        );

        // The row of epoch 3: step 15, after 8 seconds.
        let row = &found[3 + 3];
        let time = f64::from_le_bytes(field(row, 1).unwrap().try_into().unwrap());
        assert_eq!(time, 1_800_000_008.0);
        assert_eq!(field(row, 2).unwrap()[0], 15);
        let values = fields(&field(row, 5).unwrap())
            .into_iter()
            .map(|(_, value)| {
                let tag = String::from_utf8(field(&value, 1).unwrap()).unwrap();
                let number = field(&value, 2).unwrap().try_into().unwrap();
                format!("{tag}={}", f32::from_le_bytes(number))
            });
        assert_eq!(
            values.collect::<Vec<_>>(),
            [
                "loss/train=0.33333334",
                "loss/val=0.5",
                "accuracy/train=0.25",
                "accuracy/val=0.75",
                "lr=0.001",
                "epoch=3",
                "phase=2",
                "phase_epoch=1",
                "images_per_second=100",
                "seconds=2",
            ]
        );
        // Cut anywhere, all whole records are read and nothing else.
        for length in (0..file.len()).step_by(7) {
            let whole = messages(&file[..length]);
            assert_eq!(whole, found[..whole.len()]);
        }
    }

    #[test]
    fn pictures_and_texts_are_for_their_plugins() {
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x01\x40\0\0\0\xf0".to_vec();
        png.extend([8, 2, 0, 0, 0]);
        let with = Ending {
            state: State::Finished,
            results: Vec::new(),
            files: vec![
                ("curves.png".into(), png.clone()),
                ("metrics.csv".into(), b"a,b".to_vec()),
                ("broken.png".into(), b"a,b, and twenty bytes more".to_vec()),
            ],
            ..an_ending()
        };
        let found = messages(&ending(&with, 20));
        let values = fields(&field(&found[0], 5).unwrap());
        assert_eq!(values.len(), 2, "a text and a picture");
        let (text, picture) = (&values[0].1, &values[1].1);
        assert_eq!(field(text, 1).unwrap(), b"test/text_summary");
        let plugin = field(&field(text, 9).unwrap(), 1).unwrap();
        assert_eq!(field(&plugin, 1).unwrap(), b"text");
        let tensor = field(text, 8).unwrap();
        assert_eq!(field(&tensor, 8).unwrap(), b"| a |\n|---|\n");
        assert_eq!(field(picture, 1).unwrap(), b"curves");
        let image = field(picture, 4).unwrap();
        let side = |number| u64::from_le_bytes(field(&image, number).unwrap().try_into().unwrap());
        assert_eq!((side(1), side(2), side(3)), (240, 320, 3));
        assert_eq!(field(&image, 4).unwrap(), png);
    }
}
