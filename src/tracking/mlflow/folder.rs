//! MLflow's file layout: `EXPERIMENT_ID/RUN_ID/{meta.yaml,params/,metrics/,tags/,artifacts/}`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use super::super::{Ending, Point, State, Story};
use super::{status, tags, values};
use crate::fsx::{self, FsError};

/// A folder such as `mlruns`.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    /// Folder of the run, and whether its parameters are there.
    run: Option<PathBuf>,
}

impl Folder {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
            run: None,
        }
    }

    pub(super) fn tell(
        &mut self,
        story: &Story,
        points: &[Point],
        ending: Option<&Ending>,
    ) -> Result<(), FsError> {
        let run = match &self.run {
            Some(run) => run.clone(),
            None => self.begin(story)?,
        };
        let mut metrics: BTreeMap<&str, String> = BTreeMap::new();
        for (name, value, time, step) in values(points, ending) {
            let _ = writeln!(metrics.entry(name).or_default(), "{time} {value} {step}");
        }
        for (name, lines) in metrics {
            put(&run.join("metrics"), name, lines.as_bytes())?;
        }
        for (name, bytes) in ending.into_iter().flat_map(|ending| &ending.files) {
            put(&run.join("artifacts"), name, bytes)?;
        }
        // Last, as it claims that the rest is there.
        self.write_meta(&run, story, ending)
    }

    /// Makes the folders of experiment and run; the latter has the run's own digits for a name.
    fn begin(&mut self, story: &Story) -> Result<PathBuf, FsError> {
        make(&self.root)?;
        let root = fs::canonicalize(&self.root).map_err(FsError::at("open", &self.root))?;
        let experiment = match experiment_called(&root, &story.experiment) {
            Some(folder) => folder,
            None => write_experiment(&root, story)?,
        };
        let run = experiment.join(&story.id);
        for part in ["metrics", "params", "tags", "artifacts"] {
            make(&run.join(part))?;
            // MLflow takes every file there for an entry.
            fsx::sweep(&run.join(part))?;
        }
        for (name, value) in &story.parameters {
            put(&run.join("params"), name, value.as_bytes())?;
        }
        for (name, value) in tags(story) {
            put(&run.join("tags"), name, value.as_bytes())?;
        }
        self.run = Some(run.clone());
        Ok(run)
    }

    fn write_meta(
        &self,
        run: &Path,
        story: &Story,
        ending: Option<&Ending>,
    ) -> Result<(), FsError> {
        let ended = ending.filter(|ending| ending.state != State::Running);
        let end = ended.map_or("null".into(), |ending| ending.time.to_string());
        let (_, status) = status(ending.map_or(State::Running, |ending| ending.state));
        let experiment = run.parent().and_then(Path::file_name);
        let experiment = experiment.unwrap_or_default().to_string_lossy();
        let meta = format!(
            "artifact_uri: {uri}\nend_time: {end}\nentry_point_name: ''\nexperiment_id: '{experiment}'\n\
             lifecycle_stage: active\nrun_id: '{id}'\nrun_name: {name}\nrun_uuid: '{id}'\nsource_name: ''\n\
             source_type: 4\nsource_version: ''\nstart_time: {start}\nstatus: {status}\ntags: []\nuser_id: ''\n",
            uri = quoted(&address(&run.join("artifacts"))),
            id = story.id,
            name = quoted(&story.name),
            start = story.started,
        );
        put(run, "meta.yaml", meta.as_bytes())
    }
}

/// The folder of the experiment with a name.
fn experiment_called(root: &Path, name: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(root).ok()?;
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    folders.sort();
    let plain = format!("'{}'", name.replace('\'', "''"));
    let names = [name.to_owned(), plain, quoted(name)];
    folders.into_iter().find(|folder| {
        let meta = fsx::read_text(&folder.join("meta.yaml")).unwrap_or_default();
        let mut lines = meta.lines().filter_map(|line| line.strip_prefix("name: "));
        lines.any(|found| names.iter().any(|it| it == found.trim()))
    })
}

/// A new experiment. Its number follows from its name, so that two runs that begin together make one.
fn write_experiment(root: &Path, story: &Story) -> Result<PathBuf, FsError> {
    let digits = blake3::hash(story.experiment.as_bytes());
    let mut number = [0; 8];
    number.copy_from_slice(&digits.as_bytes()[..8]);
    // 18 digits, as MLflow's own have.
    let id = 100_000_000_000_000_000 + u64::from_le_bytes(number) % 900_000_000_000_000_000;
    let folder = root.join(id.to_string());
    make(&folder)?;
    let meta = format!(
        "artifact_location: {uri}\ncreation_time: {time}\nexperiment_id: '{id}'\nlast_update_time: {time}\n\
         lifecycle_stage: active\nname: {name}\n",
        uri = quoted(&address(&folder)),
        time = story.started,
        name = quoted(&story.experiment),
    );
    put(&folder, "meta.yaml", meta.as_bytes())?;
    Ok(folder)
}

fn make(folder: &Path) -> Result<(), FsError> {
    fs::create_dir_all(folder).map_err(FsError::at("create", folder))
}

/// Writes a file, unless it is that already.
fn put(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), FsError> {
    let path = folder.join(name);
    match fs::read(&path) {
        Ok(there) if there == bytes => Ok(()),
        _ => fsx::write_atomic(&path, bytes),
    }
}

/// A text as YAML has it in double quotes, which is as JSON has it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// `file://` and a path, its unusual characters as `%20`.
fn address(path: &Path) -> String {
    let path = path.to_string_lossy();
    format!("file://{}", super::server::escaped(&path))
}
