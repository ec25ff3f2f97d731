//! Which columns hold pictures and labels: by what `datasets` notes in the file, else by type and
//! name.

use std::sync::Arc;

use parquet::basic::Type as Physical;
use parquet::file::metadata::FileMetaData;
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde_json::Value as Json;

use super::Label;
use crate::config::ColumnsConfig;

/// Names of columns of pictures, and of labels, the likeliest first.
const IMAGE_NAMES: [&str; 5] = ["image", "img", "picture", "photo", "bytes"];
const LABEL_NAMES: [&str; 6] = [
    "label",
    "labels",
    "class",
    "class_name",
    "category",
    "target",
];

/// The two columns of a file.
#[derive(Debug)]
pub(super) struct Columns {
    image: String,
    label: String,
    /// Names of integer labels, where the file gives them.
    names: Vec<String>,
    /// The schema of the two alone.
    pub(super) projection: Type,
}

impl Columns {
    /// Finds them; fails with what there is instead.
    pub(super) fn find(file: &FileMetaData, wanted: &ColumnsConfig) -> Result<Self, String> {
        let features = features(file);
        let fields = file.schema().get_fields();
        let of_kind = |kind: &str| -> Vec<String> {
            let all = features.as_object().into_iter().flatten();
            all.filter(|(_, feature)| feature["_type"] == kind)
                .map(|(name, _)| name.clone())
                .collect()
        };
        let holds_bytes = |field: &Type| -> bool {
            match field.is_primitive() {
                true => field.get_physical_type() == Physical::BYTE_ARRAY,
                false => field.get_fields().iter().any(|below| {
                    below.name() == "bytes"
                        && below.is_primitive()
                        && below.get_physical_type() == Physical::BYTE_ARRAY
                }),
            }
        };
        let holds_labels = |field: &Type| {
            let is_label = |kind| {
                matches!(
                    kind,
                    Physical::INT32 | Physical::INT64 | Physical::BYTE_ARRAY
                )
            };
            field.is_primitive() && is_label(field.get_physical_type())
        };
        let named = |names: &[&str], fits: &dyn Fn(&Type) -> bool| -> Vec<String> {
            let find = |name: &&&str| fields.iter().any(|it| it.name() == **name && fits(it));
            names
                .iter()
                .filter(find)
                .take(1)
                .map(|it| it.to_string())
                .collect()
        };
        let pick = |what: &str,
                    own: &Option<String>,
                    lists: [Vec<String>; 2],
                    fits: &dyn Fn(&Type) -> bool| {
            let there: Vec<&str> = fields.iter().map(|field| field.name()).collect();
            let there = format!("its columns are `{}`", there.join("`, `"));
            if let Some(own) = own {
                return match fields.iter().find(|field| field.name() == own) {
                    None => Err(format!("it has no column `{own}`; {there}")),
                    Some(field) if !fits(field) => {
                        Err(format!("its column `{own}` holds no {what}s"))
                    }
                    Some(_) => Ok(own.clone()),
                };
            }
            let found = lists
                .into_iter()
                .find(|list| !list.is_empty())
                .unwrap_or_default();
            match found.as_slice() {
                [only]
                    if fields
                        .iter()
                        .any(|field| field.name() == only && fits(field)) =>
                {
                    Ok(only.clone())
                }
                [] | [_] => Err(format!(
                    "it has no column of {what}s that could be told; {there}"
                )),
                several => Err(format!(
                    "it has several columns of {what}s, `{}`",
                    several.join("`, `")
                )),
            }
        };
        let structs = fields
            .iter()
            .filter(|field| !field.is_primitive() && holds_bytes(field));
        let structs: Vec<String> = structs.map(|field| field.name().to_owned()).collect();
        let mut images = of_kind("Image");
        if images.is_empty() {
            images = structs;
        }
        let image = pick(
            "picture",
            &wanted.image,
            [images, named(&IMAGE_NAMES, &holds_bytes)],
            &holds_bytes,
        )?;
        let labels = [of_kind("ClassLabel"), named(&LABEL_NAMES, &holds_labels)];
        let label = pick("label", &wanted.label, labels, &holds_labels)?;
        let projected = fields
            .iter()
            .filter(|field| [&image, &label].iter().any(|name| field.name() == *name))
            .map(Arc::clone)
            .collect();
        let projection = Type::group_type_builder(file.schema().name())
            .with_fields(projected)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            names: names(&features[&label]["names"]),
            image,
            label,
            projection,
        })
    }

    /// The bytes of a row's picture.
    pub(super) fn picture<'r>(&self, row: &'r Row) -> Option<&'r [u8]> {
        let field = column(row, &self.image)?;
        match field {
            Field::Bytes(bytes) => Some(bytes.data()),
            Field::Group(group) => match column(group, "bytes")? {
                Field::Bytes(bytes) => Some(bytes.data()),
                _ => None,
            },
            _ => None,
        }
    }

    /// The label of a row; fails with why there is none.
    pub(super) fn label(&self, row: &Row) -> Result<Label, String> {
        let field = column(row, &self.label).unwrap_or(&Field::Null);
        let number = match field {
            Field::Byte(number) => i64::from(*number),
            Field::Short(number) => i64::from(*number),
            Field::Int(number) => i64::from(*number),
            Field::Long(number) => *number,
            Field::UByte(number) => i64::from(*number),
            Field::UShort(number) => i64::from(*number),
            Field::UInt(number) => i64::from(*number),
            Field::ULong(number) => i64::try_from(*number).unwrap_or(-1),
            Field::Str(name) if !name.trim().is_empty() => {
                return Ok(Label::Name(name.trim().to_owned()));
            }
            _ => return Err("there is no label in this row".into()),
        };
        let number = u64::try_from(number).map_err(|_| format!("the label {number} is none"))?;
        if self.names.is_empty() {
            return Ok(Label::Number(number));
        }
        let name = usize::try_from(number)
            .ok()
            .and_then(|at| self.names.get(at));
        let most = self.names.len() - 1;
        name.cloned()
            .map(Label::Name)
            .ok_or_else(|| format!("the label {number} is beyond the names, which end at {most}"))
    }
}

fn column<'r>(row: &'r Row, name: &str) -> Option<&'r Field> {
    let mut columns = row.get_column_iter();
    columns
        .find(|(column, _)| *column == name)
        .map(|(_, field)| field)
}

/// What `datasets` notes of the columns; null where it did not write the file.
fn features(file: &FileMetaData) -> Json {
    let pairs = file.key_value_metadata().into_iter().flatten();
    let note = pairs
        .filter(|pair| pair.key == "huggingface")
        .find_map(|pair| serde_json::from_str::<Json>(pair.value.as_deref()?).ok());
    note.map_or(Json::Null, |note| note["info"]["features"].clone())
}

/// Names of the classes, from a list or from `{"0": "cat"}`.
fn names(names: &Json) -> Vec<String> {
    let text = |name: &Json| name.as_str().unwrap_or_default().trim().to_owned();
    match names {
        Json::Array(names) => names.iter().map(text).collect(),
        Json::Object(names) => (0..names.len())
            .map(|index| text(&names[index.to_string().as_str()]))
            .collect(),
        _ => Vec::new(),
    }
}
