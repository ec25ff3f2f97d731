//! Archives of class folders, by address or by name.

use std::path::{Path, PathBuf};

use super::presets::{Preset, preset};
use super::scan::named_like_a_picture;
use super::sources::{Located, Origin, Place, store};
use super::{DataError, folders};
use crate::config::DataConfig;
use crate::fetch::{self, Address, Download, Downloads, FetchError, Record, Store, Stored};

/// Finds the archive of a configuration unpacked, or brings it here.
pub(super) fn locate(
    config: &DataConfig,
    progress: &mut dyn FnMut(Download),
) -> Result<Located, DataError> {
    let preset: Option<&Preset> = config.preset.map(preset);
    let own = preset.map(|preset| preset.url);
    let url = config.url.as_deref().or(own).ok_or(DataError::NoSource)?;
    let known = preset.and_then(|preset| preset.sha256);
    let sum = config.sha256.as_deref().or(known);
    let address = Address::new(url, sum);
    let store = store(config, url)?;
    let key = Store::key(&address.file_name(), url);
    let stored = match store.find(&key)? {
        Some(stored) => stored,
        None => bring(&store, &key, &address, progress)?,
    };
    let found = stored.record.sha256.clone();
    if let (Some(expected), Some(found)) = (&address.sha256, &found)
        && expected != found
    {
        return Err(DataError::Fetch(FetchError::Refused {
            what: url.into(),
            reason: format!("was downloaded with the SHA-256 {found}, not {expected}"),
            help: format!(
                "correct `data.sha256`, or delete the folder `{}` to download it again",
                store.root().join(&key).display()
            ),
        }));
    }
    let inside = config.inside.as_deref();
    let inside = inside.or(preset.filter(|_| config.url.is_none()).map(|it| it.inside));
    let root = inner(&stored.folder, inside)?;
    let name = preset.map_or(String::new(), |preset| format!("{}: ", preset.name));
    Ok(Located {
        origin: Origin {
            from: format!("{name}{url}"),
            sha256: found,
            pinned: address.sha256.is_some(),
            commit: None,
            folder: Some(root.clone()),
            licence: preset.map(|preset| preset.licence),
            citation: preset.map(|preset| preset.citation),
        },
        place: Place::Folders(root),
    })
}

/// Downloads and unpacks an archive; the archive itself goes once the folder is whole.
fn bring(
    store: &Store,
    key: &str,
    address: &Address,
    progress: &mut dyn FnMut(Download),
) -> Result<Stored, FetchError> {
    let downloads = Downloads::new(store.root().join("downloads"));
    let stored = store.make(key, |into| {
        let file = downloads.fetch(address, progress)?;
        let sha256 = downloads.sha256(address);
        if let Err(error) = fetch::unpack(&file, &address.url, into) {
            if !matches!(error, FetchError::Archive { ours: true, .. }) {
                // Another download may be sound.
                downloads.forget(address)?;
            }
            return Err(error);
        }
        Ok(Record {
            origin: address.url.clone(),
            sha256,
            ..Record::default()
        })
    })?;
    downloads.forget(address)?;
    Ok(stored)
}

/// The folder within an unpacked archive that holds the class folders.
fn inner(folder: &Path, inside: Option<&str>) -> Result<PathBuf, DataError> {
    if let Some(inside) = inside {
        let root = folder.join(inside);
        return match root.is_dir() {
            true => Ok(root),
            false => Err(DataError::NotInside {
                inside: inside.into(),
                there: names(&entries(folder)?),
            }),
        };
    }
    let mut root = folder.to_owned();
    loop {
        let entries = entries(&root)?;
        let pictures = entries.iter().any(|(path, _)| named_like_a_picture(path));
        let mut below = entries.iter().filter(|(_, is_folder)| *is_folder);
        let (Some((only, _)), None, false) = (below.next(), below.next(), pictures) else {
            return Ok(root);
        };
        let name = only.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| folders::split_folder(name).is_some()) {
            return Ok(root);
        }
        root = only.clone();
    }
}

/// What lies in a folder, and whether that is a folder; without what archives and file managers
/// leave behind.
fn entries(folder: &Path) -> Result<Vec<(PathBuf, bool)>, DataError> {
    let unreadable = |source| DataError::Unreadable {
        path: folder.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with('.') && name != "__MACOSX" {
            found.push((entry.path(), entry.path().is_dir()));
        }
    }
    found.sort();
    Ok(found)
}

fn names(entries: &[(PathBuf, bool)]) -> String {
    let shown: Vec<String> = entries
        .iter()
        .take(10)
        .filter_map(|(path, _)| Some(format!("`{}`", path.file_name()?.to_string_lossy())))
        .collect();
    match shown.is_empty() {
        true => "nothing".into(),
        false => shown.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_folders_are_found_below_the_archive() {
        let folder = tempfile::tempdir().unwrap();
        let make = |path: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        };
        let found = |inside: Option<&str>| {
            let root = inner(folder.path(), inside)?;
            let below = root.strip_prefix(folder.path()).unwrap();
            Ok::<_, DataError>(below.to_str().unwrap().to_owned())
        };
        make("set/v1/cat/a.png");
        make("__MACOSX/set/x");
        make("set/README.txt");
        assert_eq!(found(None).unwrap(), "set/v1/cat");
        make("set/v1/dog/a.png");
        assert_eq!(found(None).unwrap(), "set/v1");
        assert_eq!(found(Some("set")).unwrap(), "set");
        let error = found(Some("photos")).unwrap_err();
        assert!(error.to_string().contains("it holds `set`"), "{error}");

        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("set/train/cat")).unwrap();
        let root = inner(folder.path(), None).unwrap();
        assert_eq!(root, folder.path().join("set"));
    }
}
