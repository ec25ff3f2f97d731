//! What the keys of `[data]` must mean together.

use std::path::{Component, Path};

use super::schema::*;
use super::validate::{Findings, Idle};

/// Sums of shares may be off by this much.
const SHARE_TOLERANCE: f64 = 1e-6;

/// A source of pictures, by its keys; the first that is set names it.
struct SourceKeys {
    /// Keys that name a source of this kind.
    heads: &'static [&'static str],
    /// Keys that mean nothing without them.
    others: &'static [&'static str],
}

const SOURCES: [SourceKeys; 5] = [
    SourceKeys {
        heads: &["data.root", "data.manifest"],
        others: &["data.create_manifest", "data.allow_outside"],
    },
    SourceKeys {
        heads: &["data.preset", "data.url"],
        others: &["data.sha256", "data.inside"],
    },
    SourceKeys {
        heads: &["data.parquet"],
        others: &[],
    },
    SourceKeys {
        heads: &["data.hf"],
        others: &[],
    },
    SourceKeys {
        heads: &["data.generate"],
        others: &[],
    },
];

fn is_set(data: &DataConfig, key: &str) -> bool {
    match key {
        "data.root" => data.root.is_some(),
        "data.manifest" => data.manifest.is_some(),
        "data.preset" => data.preset.is_some(),
        "data.url" => data.url.is_some(),
        "data.parquet" => data.parquet.is_some(),
        "data.hf" => data.hf.is_some(),
        "data.generate" => data.generate.is_some(),
        _ => false,
    }
}

fn unset(data: &mut DataConfig, key: &str) {
    match key {
        "data.root" => data.root = None,
        "data.manifest" => data.manifest = None,
        "data.create_manifest" => data.create_manifest = false,
        "data.allow_outside" => data.allow_outside = false,
        "data.preset" => data.preset = None,
        "data.url" => data.url = None,
        "data.sha256" => data.sha256 = None,
        "data.inside" => data.inside = None,
        "data.parquet" => data.parquet = None,
        "data.hf" => data.hf = None,
        "data.generate" => data.generate = None,
        _ => {}
    }
}

/// The keys of the source that there is; of the first, if there are several.
fn head(data: &DataConfig) -> Option<&'static str> {
    let heads = SOURCES.iter().flat_map(|source| source.heads);
    heads.copied().find(|key| is_set(data, key))
}

/// Takes out sources that another one overrules, which stands in a higher layer: `--set data.root=x`
/// is meant instead of the file's `preset`.
pub(super) fn overrule<L: PartialOrd>(data: &mut DataConfig, level: impl Fn(&str) -> Option<L>) {
    overrule_address(data, &level);
    let height = |source: &SourceKeys| {
        let set = source.heads.iter().filter(|key| is_set(data, key));
        set.filter_map(|key| level(key))
            .reduce(|a, b| if b > a { b } else { a })
    };
    let heights: Vec<Option<L>> = SOURCES.iter().map(height).collect();
    for (source, own) in SOURCES.iter().zip(&heights) {
        if let Some(own) = own
            && heights.iter().flatten().any(|other| other > own)
        {
            for key in source.heads.iter().chain(source.others) {
                // What goes with it in the higher layer is a mistake there, and told.
                if level(key).is_some_and(|it| it <= *own) {
                    unset(data, key);
                }
            }
        }
    }
}

/// Takes out what belongs to another address: a higher `preset` is meant instead of the file's `url`,
/// and a higher `url` has a sum and a folder of its own.
fn overrule_address<L: PartialOrd>(data: &mut DataConfig, level: impl Fn(&str) -> Option<L>) {
    let above = |a: &str, b: &str| match (level(a), level(b)) {
        (Some(a), Some(b)) => a > b,
        _ => false,
    };
    let of_url = ["data.sha256", "data.inside"];
    if data.preset.is_some() && above("data.preset", "data.url") {
        for key in of_url.iter().chain(&["data.url"]) {
            if above("data.preset", key) {
                unset(data, key);
            }
        }
    }
    if data.url.is_some() {
        for key in of_url.iter().filter(|key| above("data.url", key)) {
            unset(data, key);
        }
    }
}

/// Whether the shares of `data.split` are used.
fn by_shares(data: &DataConfig) -> bool {
    match data.split.by {
        SplitBy::Ratio | SplitBy::Hash => true,
        SplitBy::Folders => false,
        SplitBy::Column | SplitBy::Given => data.create_manifest,
    }
}

/// The keys of `[data]` without effect, whether the user set them or not.
pub(super) fn idle(data: &DataConfig) -> Vec<Idle> {
    let mut found = Vec::new();
    let Some(because) = head(data) else {
        return found;
    };
    let mut push = |key, message: String, help| {
        let because = match key {
            "data.class_from" if data.manifest.is_some() => "data.manifest",
            _ => because,
        };
        found.push(Idle {
            key,
            because,
            message,
            help,
        });
    };
    let fetched = data.url.is_some() || data.preset.is_some();
    let tables = data.parquet.is_some() || data.hf.is_some();
    let listed = data.manifest.is_some();
    if tables || data.generate.is_some() || listed && !data.create_manifest {
        let message = "`data.class_from` has no effect without folders";
        push("data.class_from", message.into(), "take it out");
    }
    if data.create_manifest && !(listed && data.root.is_some()) {
        let message = "`data.create_manifest` needs `root` and `manifest`";
        let help = "set `data.root` to the class folders and `data.manifest` to the file to write";
        push("data.create_manifest", message.into(), help);
    }
    if data.allow_outside && !listed {
        let message = "`data.allow_outside` has no effect without a manifest";
        push("data.allow_outside", message.into(), "take it out");
    }
    for (key, set) in [
        ("data.sha256", data.sha256.is_some()),
        ("data.inside", data.inside.is_some()),
    ] {
        if set && !fetched {
            let message = format!("`{key}` has no effect without `url` or `preset`");
            push(key, message, "take it out");
        }
    }
    if data.columns.is_some() && !tables {
        let message = "`data.columns` has no effect without `parquet` or `hf`";
        push("data.columns", message.into(), "take it out");
    }
    let split = match data.split.by {
        SplitBy::Folders => "folders",
        SplitBy::Column => "column",
        SplitBy::Given => "given",
        SplitBy::Ratio => "ratio",
        SplitBy::Hash => "hash",
    };
    if !by_shares(data) {
        let shares = ["data.split.train", "data.split.val", "data.split.test"];
        found.extend(shares.map(|key| Idle {
            key,
            because: "data.split.by",
            message: format!("`{key}` has no effect with `by = \"{split}\"`"),
            help: "take it out, or set `by = \"ratio\"`",
        }));
    }
    found
}

impl Findings {
    pub(super) fn data(&mut self, data: &DataConfig) {
        self.source(data);
        for (key, path) in [
            ("data.root", &data.root),
            ("data.manifest", &data.manifest),
            ("data.labels", &data.labels),
            ("data.download_dir", &data.download_dir),
        ] {
            if path
                .as_ref()
                .is_some_and(|path| path.as_os_str().is_empty())
            {
                self.error(
                    key,
                    format!("`{key}` is empty"),
                    "name a path, relative to this file",
                );
            }
        }
        self.address(data);
        self.tables(data);
        self.split(data);
        self.sizes(data);
        self.augment(&data.augment);
        if let Some(Normalize::MeanStd(MeanStd { std, .. })) = data.normalize {
            for (channel, std) in std.iter().enumerate() {
                if *std <= 0.0 {
                    let key = format!("data.normalize.std[{channel}]");
                    let message = format!("`{key}` must be greater than 0, but it is {std}");
                    self.error(key, message, "values are divided by it");
                }
            }
        }
    }

    fn source(&mut self, data: &DataConfig) {
        let named = |source: &SourceKeys| {
            let mut heads = source.heads.iter().copied();
            heads.find(|key| is_set(data, key))
        };
        let mut found = SOURCES.iter().filter_map(named);
        let Some(first) = found.next() else {
            let help = "set `data.root` to a folder of class folders, or `data.manifest` to a CSV \
                        file, or name a `preset`, `url`, `parquet`, `hf` or `generate`";
            self.error("data", "there is no source of pictures in `data`", help);
            return;
        };
        let bare = |key: &'static str| key.trim_start_matches("data.");
        for second in found {
            let message = format!(
                "`data` has two sources of pictures, `{}` and `{}`",
                bare(first),
                bare(second)
            );
            self.error(second, message, "keep one of them");
        }
    }

    fn address(&mut self, data: &DataConfig) {
        let key = "data.url";
        if let Some(url) = &data.url {
            let bare = url
                .strip_prefix("https://")
                .or_else(|| url.strip_prefix("http://"));
            if bare.is_none_or(str::is_empty) {
                let help = "begin it with `https://`; for a folder on this disk set `data.root`";
                self.error(key, format!("`{url}` is no address"), help);
            } else if url.contains('#') {
                let help = "give the checksum as `data.sha256`, and the address without `#`";
                self.error(key, "the address has a `#` in it", help);
            } else if url.starts_with("http://") && data.sha256.is_none() {
                let help = "anyone on the way can change what comes by `http://`: set \
                            `data.sha256`, or use `https://`";
                self.error(key, "`http://` needs a `sha256`", help);
            }
        }
        if let Some(sum) = &data.sha256 {
            let digits = sum.bytes().all(|byte| byte.is_ascii_hexdigit());
            if sum.len() != 64 || !digits {
                let message = format!("`data.sha256` must be 64 hexadecimal digits, not `{sum}`");
                self.error("data.sha256", message, "`sha256sum FILE` prints them");
            }
        }
        if let Some(inside) = &data.inside {
            let mut parts = Path::new(inside).components();
            if inside.is_empty() || !parts.all(|part| matches!(part, Component::Normal(_))) {
                let message = format!("`data.inside` is no folder within the archive: `{inside}`");
                self.error("data.inside", message, "name it as `folder/folder`");
            }
        }
    }

    fn tables(&mut self, data: &DataConfig) {
        if let Some(files) = &data.parquet {
            let empty = |path: &std::path::PathBuf| path.as_os_str().is_empty();
            if files.paths().iter().any(empty) {
                let help = "name files or folders, relative to this file";
                self.error("data.parquet", "`data.parquet` holds an empty path", help);
            }
        }
        if let Some(hub) = &data.hf {
            let (repo, revision, _) = hub.parts();
            let key = match hub {
                HubData::Id(_) => "data.hf",
                HubData::Set(_) => "data.hf.repo",
            };
            let word = |word: &str| {
                word.starts_with(|c: char| c.is_ascii_alphanumeric())
                    && word
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
            };
            let parts: Vec<&str> = repo.split('/').collect();
            if parts.len() > 2 || !parts.iter().all(|part| word(part)) {
                let help = "write `owner/name`, or `owner/name@revision`";
                self.error(key, format!("`{repo}` is no data set of the hub"), help);
            }
            // A revision may have slashes, such as `refs/convert/parquet`.
            let plain = revision.split('/').all(word);
            if !plain {
                let key = match hub {
                    HubData::Id(_) => "data.hf",
                    HubData::Set(_) => "data.hf.revision",
                };
                let help = "name a branch, a tag or a commit";
                self.error(key, format!("`{revision}` is no revision"), help);
            }
        }
    }

    fn split(&mut self, data: &DataConfig) {
        let SplitConfig {
            by,
            train,
            val,
            test,
        } = data.split;
        if by_shares(data) {
            let sum = train + val + test;
            if (sum - 1.0).abs() > SHARE_TOLERANCE {
                let message = format!(
                    "the shares of `data.split` must sum to 1, but {train} + {val} + {test} = {}",
                    (sum * 1e6).round() / 1e6
                );
                let help = "shares left out are train = 0.8, val = 0.1, test = 0.1";
                self.error("data.split", message, help);
            } else if train == 0.0 {
                let help = "give training a share";
                self.error("data.split.train", "there is nothing to train on", help);
            }
        }
        let by_key = "data.split.by";
        let folders = data.root.is_some() || data.url.is_some() || data.preset.is_some();
        match by {
            SplitBy::Column if data.manifest.is_none() => {
                let help = "set `data.manifest`, or choose `by = \"ratio\"`";
                self.error(by_key, "`by = \"column\"` needs a manifest", help);
            }
            SplitBy::Folders if data.manifest.is_some() || !folders && head(data).is_some() => {
                let help = match data.parquet.is_some() || data.hf.is_some() {
                    true => {
                        "choose `by = \"given\"` for the split of the files, or `by = \"ratio\"`"
                    }
                    false => "set `data.root` alone, or choose `by = \"ratio\"`",
                };
                self.error(by_key, "`by = \"folders\"` needs folders of pictures", help);
            }
            SplitBy::Given if data.generate.is_some() => {
                let help = "choose `by = \"ratio\"`";
                self.error(by_key, "generated pictures come with no split", help);
            }
            _ => {}
        }
    }

    fn sizes(&mut self, data: &DataConfig) {
        let resize = data.resize.map(ImageSize::height_width);
        let seen = data.image_size.map(ImageSize::height_width);
        match (resize, seen) {
            (None, _) if data.augment.crop => {
                let help = "set `data.resize` to more than `data.image_size`";
                let message = "`crop` needs a `resize` to crop out of";
                self.error("data.augment.crop", message, help);
            }
            (Some(resize), Some(seen)) if resize[0] < seen[0] || resize[1] < seen[1] => {
                let message = format!(
                    "`data.resize` ({}x{}) is smaller than `data.image_size` ({}x{})",
                    resize[0], resize[1], seen[0], seen[1]
                );
                self.error(
                    "data.resize",
                    message,
                    "`image_size` is cropped out of `resize`",
                );
            }
            (Some(resize), Some(seen)) if data.augment.crop && resize == seen => {
                let help = "set `data.resize` to more than `data.image_size`";
                let message = "`crop` has no room: `resize` equals `image_size`";
                self.error("data.augment.crop", message, help);
            }
            _ => {}
        }
    }
}
