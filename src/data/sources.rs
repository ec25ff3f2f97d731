//! Where pictures come from: folders and manifests on this disk, and archives and data sets that are
//! brought here first.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{DataError, archive, parquet};
use crate::config::{DataConfig, HubData, ParquetFiles};
use crate::fetch::{Download, FetchError, Hub, Record, RepoType, Store, Stored};

/// Pictures on this disk.
#[derive(Debug)]
pub(super) enum Place {
    /// A folder of class folders.
    Folders(PathBuf),
    /// A list, and the folder that its paths start from.
    Manifest {
        /// The CSV file.
        file: PathBuf,
        /// The folder.
        root: PathBuf,
        /// Whether xp made it from Parquet files.
        unpacked: bool,
    },
    /// Drawn when needed.
    Generated,
}

/// Where the pictures of a data set came from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// Folder, file, address or hub id.
    pub from: String,
    /// SHA-256 of what was downloaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Whether that is what it had to be, or only what came.
    pub pinned: bool,
    /// Commit of the hub's repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Folder that it was unpacked to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// Terms of use, of a preset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub licence: Option<&'static str>,
    /// Whom to cite, of a preset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub citation: Option<&'static str>,
}

impl Origin {
    fn here(path: &Path) -> Self {
        Self {
            from: path.display().to_string(),
            ..Self::default()
        }
    }

    /// What to say of it, by a word and what that is.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![("from", self.from.clone())];
        if let Some(sum) = &self.sha256 {
            let note = match self.pinned {
                true => "",
                false => " (not pinned; `data.sha256` makes sure that it stays this)",
            };
            lines.push(("sha256", format!("{sum}{note}")));
        }
        let rest = [
            ("commit", self.commit.clone()),
            (
                "in",
                self.folder.as_ref().map(|it| it.display().to_string()),
            ),
            ("licence", self.licence.map(Into::into)),
            ("cite", self.citation.map(Into::into)),
        ];
        lines.extend(
            rest.into_iter()
                .filter_map(|(word, text)| Some((word, text?))),
        );
        lines
    }
}

/// Pictures on this disk and where they came from.
#[derive(Debug)]
pub(super) struct Located {
    pub(super) place: Place,
    pub(super) origin: Origin,
}

/// Finds the pictures of a configuration, or brings them here. `progress` hears of a download.
pub(super) fn locate(
    config: &DataConfig,
    progress: &mut dyn FnMut(Download),
) -> Result<Located, DataError> {
    if let Some(generate) = &config.generate {
        let family = format!("{:?}", generate.kind).to_lowercase();
        return Ok(Located {
            place: Place::Generated,
            origin: Origin {
                from: format!("drawn by xp ({family})"),
                ..Origin::default()
            },
        });
    }
    if config.url.is_some() || config.preset.is_some() {
        return archive::locate(config, progress);
    }
    if let Some(files) = &config.parquet {
        return tables(files, config);
    }
    if let Some(hub) = &config.hf {
        return hub_tables(hub, config, progress);
    }
    if let Some(root) = &config.root {
        check_folder("root", root)?;
    }
    let Some(manifest) = &config.manifest else {
        let root = config.root.clone().ok_or(DataError::NoSource)?;
        let origin = Origin::here(&root);
        let place = Place::Folders(root);
        return Ok(Located { place, origin });
    };
    if !manifest.exists() && !config.create_manifest {
        return Err(DataError::Missing {
            what: "manifest",
            path: manifest.clone(),
        });
    }
    if manifest.exists() && !manifest.is_file() {
        return Err(DataError::WrongKind {
            what: "manifest",
            path: manifest.clone(),
            expected: "file",
        });
    }
    let parent = || manifest.parent().map(Path::to_owned);
    Ok(Located {
        origin: Origin::here(manifest),
        place: Place::Manifest {
            file: manifest.clone(),
            root: config.root.clone().or_else(parent).unwrap_or_default(),
            unpacked: false,
        },
    })
}

/// Whether the pictures come over a network.
pub(super) fn is_remote(config: &DataConfig) -> bool {
    config.url.is_some() || config.preset.is_some() || config.hf.is_some()
}

pub(super) fn check_folder(what: &'static str, path: &Path) -> Result<(), DataError> {
    let path = path.to_owned();
    if !path.exists() {
        return Err(DataError::Missing { what, path });
    }
    if !path.is_dir() {
        return Err(DataError::WrongKind {
            what,
            path,
            expected: "folder",
        });
    }
    Ok(())
}

pub(super) fn store(config: &DataConfig, what: &str) -> Result<Store, FetchError> {
    match &config.download_dir {
        Some(folder) => Ok(Store::new(folder.clone())),
        None => Store::of_user().ok_or_else(|| FetchError::NoCache(what.into())),
    }
}

fn tables(files: &ParquetFiles, config: &DataConfig) -> Result<Located, DataError> {
    let found = parquet::find(files.paths())?;
    let columns = config.columns.clone().unwrap_or_default();
    let identity = parquet::identity(&found, &columns)?;
    let label = files.paths().first().and_then(|path| path.file_name());
    let label = label.map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let from: Vec<String> = files
        .paths()
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let from = from.join(", ");
    let store = store(config, &from)?;
    let stored = store.make(&Store::key(&label, &identity), |into| {
        parquet::unpack(&found, &columns, into)?;
        Ok::<_, DataError>(Record {
            origin: from.clone(),
            ..Record::default()
        })
    })?;
    Ok(unpacked(from, &stored))
}

fn unpacked(from: String, stored: &Stored) -> Located {
    Located {
        place: Place::Manifest {
            file: stored.folder.join(parquet::MANIFEST),
            root: stored.folder.join(parquet::PICTURES),
            unpacked: true,
        },
        origin: Origin {
            from,
            commit: stored.record.commit.clone(),
            folder: Some(stored.folder.clone()),
            ..Origin::default()
        },
    }
}

fn hub_tables(
    hub: &HubData,
    config: &DataConfig,
    progress: &mut dyn FnMut(Download),
) -> Result<Located, DataError> {
    let (repo, revision, part) = hub.parts();
    let columns = config.columns.clone().unwrap_or_default();
    let id = format!("{repo}@{revision}");
    let shown = part.map_or(id.clone(), |part| format!("{id} ({part})"));
    let store = store(config, &shown)?;
    let key = Store::key(&repo.replace('/', "_"), &format!("{shown} {columns:?}"));
    let stored = match store.find(&key)? {
        Some(stored) => stored,
        None => store.make(&key, |into| {
            let hub = Hub::from_env();
            let (commit, files) = hub.list(repo, revision)?;
            let wanted = parquet::choose(&shown, &files, part)?;
            let mut found = Vec::new();
            for file in wanted {
                let repo = (repo, RepoType::Dataset);
                let path = hub.fetch(repo, &commit, &file, progress)?;
                found.push(parquet::Table::new(path, &file));
            }
            parquet::tell_apart(&mut found);
            parquet::unpack(&found, &columns, into)?;
            Ok::<_, DataError>(Record {
                origin: format!("https://huggingface.co/datasets/{repo}"),
                commit: Some(commit),
                ..Record::default()
            })
        })?,
    };
    Ok(unpacked(format!("hub: {shown}"), &stored))
}
