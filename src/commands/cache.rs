//! `xp cache`: the features that runs keep on disk for one another.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::SystemTime;

use super::{Exit, Failure, Printer};
use crate::cli::{CacheArgs, CacheCommand, CacheGcArgs};
use crate::config::{CacheConfig, size};
use crate::engine::store::{FeatureStore, Stored};

/// Runs the command.
pub fn run(args: &CacheArgs, printer: &Printer) -> Result<(), Failure> {
    let store = FeatureStore::new(root(args)?, 0);
    match &args.command {
        CacheCommand::Dir => {
            let root = store.root().display().to_string();
            if printer.json {
                printer.data(serde_json::json!({ "dir": root }).to_string());
            } else {
                printer.data(root);
            }
            Ok(())
        }
        CacheCommand::Ls => ls(&store, printer),
        CacheCommand::Gc(args) => gc(&store, args, printer),
    }
}

/// Where runs keep features that no configuration says otherwise of; `None` where they keep none.
pub fn of_environment() -> Option<PathBuf> {
    let disk = std::env::var("XP_CACHE__DISK");
    (disk.as_deref() != Ok("false")).then(named_or_default)?
}

fn named_or_default() -> Option<PathBuf> {
    let named = std::env::var_os("XP_CACHE__DIR").filter(|dir| !dir.is_empty());
    named.map(PathBuf::from).or_else(FeatureStore::default_root)
}

fn root(args: &CacheArgs) -> Result<PathBuf, Failure> {
    let root = args.dir.clone().or_else(named_or_default);
    root.ok_or_else(|| {
        Failure::new(
            Exit::Other,
            "there is no home directory to keep features in",
        )
        .help("name a folder with `--dir`")
    })
}

fn ls(store: &FeatureStore, printer: &Printer) -> Result<(), Failure> {
    let entries = store.list()?;
    if printer.json {
        let json = serde_json::json!({
            "dir": store.root().display().to_string(),
            "bytes": entries.iter().map(|entry| entry.bytes).sum::<u64>(),
            "entries": entries.iter().map(json).collect::<Vec<_>>(),
        });
        printer.data(format!("{json:#}"));
        return Ok(());
    }
    if entries.is_empty() {
        printer.note(format!("nothing is kept in `{}`", store.root().display()));
        return Ok(());
    }
    let names: Vec<String> = entries.iter().map(what).collect();
    let width = names.iter().map(String::len).max().unwrap_or(0).max(8);
    printer.data(format!(
        "{:<12}  {:<width$}  {:>9}  {:>9}  last used",
        "key", "features", "pictures", "size"
    ));
    for (entry, name) in entries.iter().zip(&names) {
        printer.data(format!(
            "{:<12}  {name:<width$}  {:>9}  {:>9}  {}",
            &entry.name[..12],
            entry.pictures,
            size::show(entry.bytes),
            time(entry.used)
        ));
    }
    let bytes = entries.iter().map(|entry| entry.bytes).sum();
    printer.note(format!(
        "{} in `{}`",
        size::show(bytes),
        store.root().display()
    ));
    Ok(())
}

fn gc(store: &FeatureStore, args: &CacheGcArgs, printer: &Printer) -> Result<(), Failure> {
    let limit = match (args.all, args.max_size) {
        (true, _) => 0,
        (false, Some(limit)) => limit,
        (false, None) => default_limit()?,
    };
    let tidied = store.tidy(limit, &BTreeSet::new(), args.dry_run)?;
    if printer.json {
        let json = serde_json::json!({
            "dry_run": args.dry_run,
            "removed": tidied.removed.iter().map(json).collect::<Vec<_>>(),
            "bytes": tidied.bytes,
            "left": tidied.left,
        });
        printer.data(format!("{json:#}"));
        return Ok(());
    }
    let verb = if args.dry_run {
        "would remove"
    } else {
        "removed"
    };
    for entry in &tidied.removed {
        printer.data(format!(
            "{verb} {}  {}, {} pictures, {}",
            &entry.name[..12],
            what(entry),
            entry.pictures,
            size::show(entry.bytes)
        ));
    }
    printer.data(format!(
        "{verb} {}; {} left",
        size::show(tidied.bytes),
        size::show(tidied.left)
    ));
    Ok(())
}

/// The limit that runs keep to without a configuration of their own.
fn default_limit() -> Result<u64, Failure> {
    let Ok(text) = std::env::var("XP_CACHE__MAX_SIZE") else {
        return Ok(CacheConfig::default().max_bytes());
    };
    size::parse(&text).ok_or_else(|| {
        let message = format!("`XP_CACHE__MAX_SIZE` is no size: `{text}`");
        Failure::new(Exit::Config, message).help(size::EXAMPLES)
    })
}

/// `mobilenet_v2 out_relu`
fn what(entry: &Stored) -> String {
    let about = &entry.about;
    if about.layers.is_empty() {
        return "?".into();
    }
    format!("{} {}", about.backbone, about.layers.join(", "))
}

fn json(entry: &Stored) -> serde_json::Value {
    serde_json::json!({
        "key": entry.name,
        "backbone": entry.about.backbone,
        "layers": entry.about.layers,
        "input": serde_json::from_str::<serde_json::Value>(&entry.about.input).ok(),
        "xp_version": entry.about.xp_version,
        "pictures": entry.pictures,
        "bytes": entry.bytes,
        "last_used": jiff::Timestamp::try_from(entry.used).ok(),
    })
}

/// Local time, to the minute.
fn time(time: SystemTime) -> String {
    let Ok(time) = jiff::Timestamp::try_from(time) else {
        return "?".into();
    };
    let time = time.to_zoned(jiff::tz::TimeZone::system());
    time.strftime("%Y-%m-%d %H:%M").to_string()
}
