//! The axes of a sweep, and the combinations of their values.

use std::collections::BTreeMap;

use rand::Rng;
use toml::Value;

use crate::config::{Problem, SweepConfig, canonical};
use crate::rng;

/// More combinations than anybody runs.
const MOST_COMBINATIONS: usize = 100_000;

/// More values than anybody means.
const MOST_VALUES: usize = 10_000;

/// A key and the value that a combination gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Path of the key, as `phase[0].optimizer.lr`.
    pub key: String,
    /// Its value.
    pub value: Value,
}

/// A key that varies.
#[derive(Debug, Clone, PartialEq)]
struct Axis {
    key: String,
    values: Values,
}

#[derive(Debug, Clone, PartialEq)]
enum Values {
    List(Vec<Value>),
    /// Without a number of values: for a random search alone.
    Range(Range),
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Range {
    low: f64,
    high: f64,
    logarithmic: bool,
    integers: bool,
}

/// Axes that change together.
type Dimension = Vec<Axis>;

/// The combinations of a sweep in order, without its `seeds`: the last axis changes fastest.
///
/// # Errors
/// What is wrong with the axes, by the key of the file.
pub fn combinations(sweep: &SweepConfig) -> Result<Vec<Vec<Setting>>, Problem> {
    let dimensions = dimensions(sweep)?;
    if let Some(search) = &sweep.random {
        return Ok((0..search.trials)
            .map(|trial| draw(&dimensions, search.seed, trial as u64))
            .collect());
    }
    let mut combinations = vec![Vec::new()];
    for dimension in &dimensions {
        let count = length(dimension)?;
        check_count(combinations.len(), count)?;
        combinations = combinations
            .iter()
            .flat_map(|before| {
                (0..count).map(|index| {
                    let mut settings = before.clone();
                    settings.extend(dimension.iter().filter_map(|axis| axis.at(index)));
                    settings
                })
            })
            .collect();
    }
    Ok(combinations)
}

/// Refuses more experiments than anybody runs.
///
/// # Errors
/// If so many combinations, so often each, are too many.
pub fn check_count(combinations: usize, each: usize) -> Result<(), Problem> {
    if combinations.saturating_mul(each) <= MOST_COMBINATIONS {
        return Ok(());
    }
    let message = format!("there are more than {MOST_COMBINATIONS} combinations");
    Err(Problem::new("sweep.axes", message)
        .help("draw some of them with `random = { trials = 100 }`"))
}

/// Axes by their whole keys, however they were written: `train.batch_size` under `[sweep.axes]` is a
/// table in a table.
///
/// # Errors
/// If what stands there is no axis, or two are of the same key.
pub fn flat(axes: &BTreeMap<String, Value>) -> Result<BTreeMap<String, Value>, Problem> {
    let mut found = BTreeMap::new();
    flatten("", axes, &mut found)?;
    Ok(found)
}

/// The axes in groups of those that change together, in the order of their keys.
fn dimensions(sweep: &SweepConfig) -> Result<Vec<Dimension>, Problem> {
    let axes = flat(&sweep.axes)?.into_iter();
    let axes: Vec<Axis> = axes
        .map(|(key, values)| Axis::new(key, &values))
        .collect::<Result<_, _>>()?;
    if axes.iter().any(|axis| axis.key == "seed") && sweep.seeds.is_some() {
        let message = "`seed` is an axis, and `seeds` sets it, too";
        return Err(Problem::new("sweep.seeds", message).help("take one of the two out"));
    }
    let mut groups: Vec<Vec<String>> = Vec::new();
    for (index, keys) in sweep.zip.iter().enumerate() {
        let at = format!("sweep.zip[{index}]");
        let mut group = Vec::new();
        for key in keys {
            let problem = |message: String| Problem::new(&at, message);
            let key = canonical(key).map_err(problem)?;
            if !axes.iter().any(|axis| axis.key == key) {
                return Err(problem(format!("`{key}` is not among the axes")));
            }
            if groups
                .iter()
                .flatten()
                .chain(&group)
                .any(|other| *other == key)
            {
                return Err(problem(format!("`{key}` is named twice")));
            }
            group.push(key);
        }
        groups.push(group);
    }
    let mut dimensions: Vec<Dimension> = Vec::new();
    for axis in axes {
        let group = groups.iter().find(|group| group.contains(&axis.key));
        let partner = group.and_then(|group| {
            dimensions
                .iter_mut()
                .find(|dimension| dimension.iter().any(|other| group.contains(&other.key)))
        });
        match partner {
            Some(dimension) => dimension.push(axis),
            None => dimensions.push(vec![axis]),
        }
    }
    for dimension in &dimensions {
        check_together(dimension)?;
    }
    Ok(dimensions)
}

/// Axes that change together are lists of one length.
fn check_together(dimension: &Dimension) -> Result<(), Problem> {
    let [first, rest @ ..] = dimension.as_slice() else {
        return Ok(());
    };
    for other in rest {
        let pair = (&first.values, &other.values);
        let message = match pair {
            (Values::List(a), Values::List(b)) if a.len() == b.len() => continue,
            (Values::List(a), Values::List(b)) => format!(
                "`{}` has {} values and `{}` has {}",
                first.key,
                a.len(),
                other.key,
                b.len()
            ),
            _ => format!(
                "`{}` or `{}` is a range without a number of values",
                first.key, other.key
            ),
        };
        return Err(Problem::new("sweep.zip", message).help("they change together: value by value"));
    }
    Ok(())
}

/// Number of values of a dimension.
fn length(dimension: &Dimension) -> Result<usize, Problem> {
    match dimension.first() {
        Some(Axis {
            values: Values::List(values),
            ..
        }) => Ok(values.len()),
        Some(axis) => {
            let message = format!("the range of `{}` does not say how many values", axis.key);
            Err(Problem::new("sweep.axes", message)
                .help("add `steps = 5`, or draw from it with `[sweep] random = { trials = 20 }`"))
        }
        None => Ok(1),
    }
}

/// A random combination.
fn draw(dimensions: &[Dimension], seed: u64, trial: u64) -> Vec<Setting> {
    let settings = dimensions.iter().flat_map(|dimension| {
        // A stream an axis: another axis more leaves the draws of this one as they were.
        let name = dimension.first().map_or("", |axis| axis.key.as_str());
        let mut stream = rng::stream(seed, &format!("sweep {name}"), &[trial]);
        let share: f64 = stream.random();
        dimension.iter().filter_map(move |axis| match &axis.values {
            Values::List(values) => axis.at((share * values.len() as f64) as usize),
            Values::Range(range) => Some(Setting {
                key: axis.key.clone(),
                value: range.drawn(share),
            }),
        })
    });
    settings.collect()
}

impl Axis {
    fn new(key: String, values: &Value) -> Result<Self, Problem> {
        let problem = |message: String| Problem::new("sweep.axes", message);
        let values = match values {
            Value::Array(values) if values.is_empty() => {
                return Err(problem(format!("the axis `{key}` has no values")));
            }
            Value::Array(values) => Values::List(values.clone()),
            Value::Table(table) if is_range(table) => range(table).map_err(|reason| {
                problem(format!("axis `{key}`: {reason}")).help(
                    "for example `{ range = [0.0, 0.4], steps = 5 }`, `{ range = [16, 64], step = 16 \
                     }` or `{ log = [1e-4, 1e-1], steps = 4 }`",
                )
            })?,
            other => {
                let message = format!("the axis `{key}` must be an array of values, not `{other}`");
                let help = format!(
                    "for example `\"{key}\" = [{other}]`, or a range: `{{ range = [0.0, 0.4], steps = 5 \
                     }}`"
                );
                return Err(problem(message).help(help));
            }
        };
        Ok(Self { key, values })
    }

    fn at(&self, index: usize) -> Option<Setting> {
        let Values::List(values) = &self.values else {
            return None;
        };
        Some(Setting {
            key: self.key.clone(),
            value: values.get(index)?.clone(),
        })
    }
}

/// Finds the axes in tables of tables.
fn flatten<'a>(
    path: &str,
    table: impl IntoIterator<Item = (&'a String, &'a Value)>,
    axes: &mut BTreeMap<String, Value>,
) -> Result<(), Problem> {
    for (key, value) in table {
        let key = match path {
            "" => key.clone(),
            path => format!("{path}.{key}"),
        };
        let problem = |message: String| Problem::new("sweep.axes", message);
        match value {
            Value::Table(table) if !table.is_empty() && !is_range(table) => {
                flatten(&key, table, axes)?;
            }
            value => {
                let name = canonical(&key);
                let name = name.map_err(|reason| problem(format!("axis `{key}`: {reason}")))?;
                if axes.insert(name.clone(), value.clone()).is_some() {
                    return Err(problem(format!("the axis `{name}` is there twice")));
                }
            }
        }
    }
    Ok(())
}

fn is_range(table: &toml::Table) -> bool {
    ["range", "log"].iter().any(|key| table.contains_key(*key))
}

fn range(table: &toml::Table) -> Result<Values, String> {
    let known = ["range", "log", "steps", "step"];
    if let Some(key) = table.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(format!("unknown key `{key}`"));
    }
    let (ends, logarithmic) = match (table.get("range"), table.get("log")) {
        (Some(ends), None) => (ends, false),
        (None, Some(ends)) => (ends, true),
        _ => return Err("it has both `range` and `log`".into()),
    };
    let ends = ends.as_array().map(Vec::as_slice);
    let Some([low, high]) = ends else {
        return Err("a range is two numbers: `[0.0, 0.4]`".into());
    };
    let integers = low.is_integer() && high.is_integer();
    let number = |value: &Value| {
        let number = value.as_float().or(value.as_integer().map(|it| it as f64));
        number.filter(|it| it.is_finite())
    };
    let Some((low, high)) = number(low).zip(number(high)) else {
        return Err("a range is two numbers: `[0.0, 0.4]`".into());
    };
    if low >= high {
        return Err("its first number must be below its second".into());
    }
    if logarithmic && low <= 0.0 {
        return Err("a logarithmic range begins above 0".into());
    }
    let range = Range {
        low,
        high,
        logarithmic,
        integers,
    };
    let values = match (table.get("steps"), table.get("step")) {
        (None, None) => return Ok(Values::Range(range)),
        (Some(_), Some(_)) => return Err("it has both `steps` and `step`".into()),
        (Some(steps), None) => {
            let steps = steps.as_integer().and_then(|it| usize::try_from(it).ok());
            let most = 2..=MOST_VALUES;
            let Some(steps) = steps.filter(|it| most.contains(it)) else {
                return Err(format!("`steps` is a number of values, 2 to {MOST_VALUES}"));
            };
            let values: Vec<Value> = (0..steps)
                .map(|step| range.at(step as f64 / (steps - 1) as f64))
                .collect();
            if values.windows(2).any(|pair| pair[0] == pair[1]) {
                return Err(format!(
                    "there are not {steps} integers from {low} to {high}; for fractions write \
                     `[{low:.1}, {high:.1}]`"
                ));
            }
            values
        }
        (None, Some(step)) => {
            let step = number(step).filter(|step| *step > 0.0 && !logarithmic);
            let Some(step) = step else {
                return Err("`step` is the distance between two values of a `range`".into());
            };
            if integers && step.fract() != 0.0 {
                return Err(format!(
                    "the range is one of integers, and `step` is not; write `[{low:.1}, {high:.1}]`"
                ));
            }
            let count = ((high - low) / step + 1e-9).floor() as usize + 1;
            if count > MOST_VALUES {
                return Err(format!("it has more than {MOST_VALUES} values"));
            }
            (0..count)
                .map(|index| range.value(low + index as f64 * step))
                .collect()
        }
    };
    Ok(Values::List(values))
}

impl Range {
    /// The value so far on the way from the low end to the high one.
    fn at(&self, share: f64) -> Value {
        let between = |low: f64, high: f64| low + share * (high - low);
        self.value(match self.logarithmic {
            true => between(self.low.ln(), self.high.ln()).exp(),
            false => between(self.low, self.high),
        })
    }

    /// The value of a draw from 0 to 1: all integers are as likely.
    fn drawn(&self, share: f64) -> Value {
        if !self.integers || self.logarithmic {
            return self.at(share);
        }
        let count = self.high - self.low + 1.0;
        self.value((self.low + (share * count).floor()).min(self.high))
    }

    /// As one would write it: 0.001, and not 0.0010000000000000002; four digits are enough
    /// of a logarithmic range.
    fn value(&self, number: f64) -> Value {
        if self.integers {
            return Value::Integer(number.round() as i64);
        }
        let rounded = match self.logarithmic {
            true => format!("{number:.3e}"),
            false => format!("{number:.9e}"),
        };
        Value::Float(rounded.parse().unwrap_or(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Vec<String>, Problem> {
        let sweep: SweepConfig = toml::from_str(text).unwrap();
        let show = |settings: Vec<Setting>| {
            let each = settings.iter();
            let each = each.map(|it| format!("{}={}", it.key, it.value));
            each.collect::<Vec<_>>().join(" ")
        };
        Ok(combinations(&sweep)?.into_iter().map(show).collect())
    }

    #[test]
    fn a_grid_takes_each_with_each() {
        let text = "[axes]\n\"phase[0].lr\" = { log = [1e-4, 1e-2], steps = 3 }\n\
            model.backbone = ['a', 'b']\n";
        assert_eq!(
            of(text).unwrap(),
            [
                "model.backbone=\"a\" phase[0].lr=0.0001",
                "model.backbone=\"a\" phase[0].lr=0.001",
                "model.backbone=\"a\" phase[0].lr=0.01",
                "model.backbone=\"b\" phase[0].lr=0.0001",
                "model.backbone=\"b\" phase[0].lr=0.001",
                "model.backbone=\"b\" phase[0].lr=0.01",
            ]
        );
        assert_eq!(of("seeds = 3").unwrap(), [""]);
    }

    #[test]
    fn ranges_have_values_as_one_writes_them() {
        let values = |axis: &str| of(&format!("[axes]\na = {axis}")).unwrap().join(" ");
        assert_eq!(
            values("{ range = [0, 0.3], steps = 4 }"),
            "a=0.0 a=0.1 a=0.2 a=0.3"
        );
        assert_eq!(
            values("{ range = [16, 64], step = 16 }"),
            "a=16 a=32 a=48 a=64"
        );
        assert_eq!(values("{ log = [8, 64], steps = 4 }"), "a=8 a=16 a=32 a=64");
        assert_eq!(values("[[1, 2], [3]]"), "a=[1, 2] a=[3]");
    }

    #[test]
    fn zipped_axes_change_together() {
        let text = "zip = [['c', 'a']]\n[axes]\na = [1, 2]\nb = [3, 4]\nc = [5, 6]";
        assert_eq!(
            of(text).unwrap(),
            ["a=1 c=5 b=3", "a=1 c=5 b=4", "a=2 c=6 b=3", "a=2 c=6 b=4"]
        );
    }

    #[test]
    fn a_random_search_draws_the_same_again() {
        let text = "random = { trials = 200, seed = 1 }\n[axes]\n\
            a = { log = [1e-4, 1.0] }\nb = [1, 2]\nc = { range = [1, 3] }";
        let drawn = of(text).unwrap();
        assert_eq!(drawn.len(), 200);
        assert_eq!(drawn, of(text).unwrap());
        let small = drawn.iter().filter(|it| it.contains("b=1")).count();
        assert!((70..130).contains(&small), "{small}");
        let more = of(&text.replace("b = [1, 2]", "b = [1, 2]\naa = [7]")).unwrap();
        assert_eq!(more[3].replace(" aa=7", ""), drawn[3]);
    }

    #[test]
    fn what_is_wrong_with_axes_is_said() {
        let wrong = |text: &str| of(text).unwrap_err().message;
        let axis = |text: &str| wrong(&format!("[axes]\na = {text}"));
        assert_eq!(
            axis("3"),
            "the axis `a` must be an array of values, not `3`"
        );
        assert_eq!(axis("[]"), "the axis `a` has no values");
        assert!(axis("{ range = [0, 1] }").contains("how many values"));
        assert!(axis("{ range = [1, 0], steps = 3 }").contains("below its second"));
        assert!(axis("{ log = [0, 1], steps = 3 }").contains("above 0"));
        assert!(axis("{ range = [0, 1], setps = 3 }").contains("`setps`"));
        assert!(wrong("zip = [['a', 'b']]\n[axes]\na = [1]").contains("`b` is not among"));
        assert!(wrong("zip = [['a', 'b']]\n[axes]\na = [1]\nb = [1, 2]").contains("has 1 values"));
        assert!(axis("{ range = [0, 1], steps = 5 }").contains("write `[0.0, 1.0]`"));
        assert!(axis("{ range = [0, 10], step = 2.5 }").contains("write `[0.0, 10.0]`"));
        assert!(wrong("seeds = 2\n[axes]\nseed = [1]").contains("`seeds` sets it"));
        let many =
            "[axes]\na = { range = [1, 1000], step = 1 }\nb = { range = [1, 1000], step = 1 }";
        assert!(wrong(many).contains("100000 combinations"));
    }
}
