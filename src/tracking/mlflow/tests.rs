//! A tracking server of a page's length, and what it has when all was told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::super::points;
use super::super::story::tests::{ending, rows, story};
use super::*;
use crate::fetch::loopback::{Asked, Loopback, Reply};

/// What the server keeps.
#[derive(Debug, Default)]
struct Kept {
    experiment: Option<String>,
    runs: Vec<Run>,
    files: BTreeMap<String, Vec<u8>>,
}

#[derive(Debug, Default)]
struct Run {
    status: String,
    ended: Option<i64>,
    tags: BTreeMap<String, String>,
    parameters: BTreeMap<String, String>,
    /// Name, value, step.
    values: Vec<(String, f64, i64)>,
}

impl Run {
    fn show(&self, id: usize) -> Value {
        let mut last: BTreeMap<&str, i64> = BTreeMap::new();
        for (name, _, step) in &self.values {
            let entry = last.entry(name).or_insert(*step);
            *entry = (*entry).max(*step);
        }
        let pairs = |(key, value): (&String, &String)| json!({ "key": key, "value": value });
        let metrics = last
            .iter()
            .map(|(key, step)| json!({ "key": key, "step": step }));
        json!({
            "info": {
                "run_id": id.to_string(),
                "status": self.status,
                "artifact_uri": format!("mlflow-artifacts:/7/{id}/artifacts"),
            },
            "data": {
                "metrics": metrics.collect::<Vec<_>>(),
                "params": self.parameters.iter().map(pairs).collect::<Vec<_>>(),
            },
        })
    }
}

/// Does what is asked and answers; `Err` is an answer of status 400.
fn handle(kept: &mut Kept, asked: &Asked) -> Result<Value, Value> {
    let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
    let missing = || json!({ "error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such thing" });
    let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
    if let Some(file) = path.strip_prefix("/api/2.0/mlflow-artifacts/artifacts/") {
        assert_eq!(asked.method, "PUT");
        kept.files.insert(file.to_owned(), asked.body.clone());
        return Ok(json!({}));
    }
    let pairs = |what: &str| {
        let entries = body[what].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let pairs = entries.into_iter().map(move |it| (text(&it["key"]), it));
        pairs.collect::<Vec<_>>()
    };
    let at = body["run_id"].as_str().map_or(0, |id| id.parse().unwrap());
    match path.strip_prefix("/api/2.0/mlflow/").unwrap() {
        "experiments/get-by-name" => {
            assert!(query.starts_with("experiment_name=flowers"), "{query}");
            let name = kept.experiment.as_ref().ok_or_else(missing)?;
            Ok(json!({ "experiment": { "experiment_id": "7", "name": name } }))
        }
        "experiments/create" => {
            kept.experiment = Some(body["name"].as_str().unwrap().into());
            Ok(json!({ "experiment_id": "7" }))
        }
        "runs/search" => {
            let filter = body["filter"].as_str().unwrap();
            let found = kept
                .runs
                .iter()
                .position(|run| filter == format!("tags.`xp.run` = '{}'", run.tags["xp.run"]));
            let found = found.map(|id| kept.runs[id].show(id));
            Ok(json!({ "runs": found.into_iter().collect::<Vec<_>>() }))
        }
        "runs/create" => {
            let tag = |(key, it): (String, Value)| (key, it["value"].as_str().unwrap().into());
            kept.runs.push(Run {
                status: "RUNNING".into(),
                tags: pairs("tags").into_iter().map(tag).collect(),
                ..Run::default()
            });
            let id = kept.runs.len() - 1;
            Ok(json!({ "run": kept.runs[id].show(id) }))
        }
        "runs/log-batch" => {
            for (key, it) in pairs("params") {
                let before = kept.runs[at]
                    .parameters
                    .insert(key, it["value"].as_str().unwrap().into());
                assert_eq!(before, None, "a parameter is told once");
            }
            for (key, it) in pairs("metrics") {
                let value = (
                    key,
                    it["value"].as_f64().unwrap(),
                    it["step"].as_i64().unwrap(),
                );
                kept.runs[at].values.push(value);
            }
            Ok(json!({}))
        }
        "runs/set-tag" => Ok(json!({})),
        "runs/update" => {
            kept.runs[at].status = body["status"].as_str().unwrap().into();
            kept.runs[at].ended = body["end_time"].as_i64();
            Ok(json!({}))
        }
        other => panic!("{other} is asked"),
    }
}

/// A server that fails as `fails` says of the number of a request: 1 before it does what is asked, 2
/// after it.
fn serve(fails: impl Fn(usize) -> u8 + Send + 'static) -> (Loopback, Arc<Mutex<Kept>>) {
    let kept = Arc::new(Mutex::new(Kept::default()));
    let shared = Arc::clone(&kept);
    let server = Loopback::serve(move |asked, before| {
        if fails(before) == 1 {
            return Reply::status(503);
        }
        let answer = handle(&mut shared.lock().unwrap(), asked);
        if fails(before) == 2 {
            return Reply::whole(b"{\"run").cut(3);
        }
        match answer {
            Ok(answer) => Reply::whole(answer.to_string().as_bytes()),
            Err(answer) => Reply {
                status: 404,
                ..Reply::whole(answer.to_string().as_bytes())
            },
        }
    });
    (server, kept)
}

/// Everything that a run came to, each value once.
fn check(kept: &Kept) {
    assert_eq!(kept.experiment.as_deref(), Some("flowers: 'all'"));
    assert_eq!(kept.runs.len(), 1, "one run however often it is told");
    let run = &kept.runs[0];
    assert_eq!(
        (run.status.as_str(), run.ended),
        ("FINISHED", Some(1_800_000_011_000))
    );
    assert_eq!(run.tags["mlflow.runName"], story().name);
    assert_eq!(run.parameters["phase.0.optimizer.lr"], "0.001");
    let mut told = run.values.clone();
    told.sort_by(|a, b| (a.2, &a.0).cmp(&(b.2, &b.0)));
    let points = points(&rows(), 0);
    let end = ending();
    let expected = values(&points, Some(&end));
    let mut expected: Vec<_> = expected
        .map(|(name, value, _, step)| (name.to_owned(), value, step))
        .collect();
    expected.sort_by(|a, b| (a.2, &a.0).cmp(&(b.2, &b.0)));
    assert_eq!(told, expected);
    assert_eq!(kept.files["7/0/artifacts/test.json"], b"{}");
}

#[test]
fn a_server_has_every_value_once() {
    let (server, kept) = serve(|_| 0);
    let points = points(&rows(), story().started);
    let mut mlflow = Mlflow::new(&format!("{}/", server.endpoint), None);
    for count in 0..=points.len() {
        mlflow.tell(&story(), &points[..count], None).unwrap();
    }
    assert_eq!(kept.lock().unwrap().runs[0].status, "RUNNING");
    // Another process goes on from an earlier row.
    let mut resumed = Mlflow::new(&server.endpoint, None);
    for count in 2..=points.len() {
        resumed.tell(&story(), &points[..count], None).unwrap();
    }
    resumed.tell(&story(), &points, Some(&ending())).unwrap();
    check(&kept.lock().unwrap());
    // Told again, nothing is new.
    Mlflow::new(&server.endpoint, None)
        .tell(&story(), &points, Some(&ending()))
        .unwrap();
    check(&kept.lock().unwrap());
}

#[test]
fn a_server_that_fails_at_any_request_gets_the_rest_later() {
    let points = points(&rows(), story().started);
    for (way, at) in [1, 2]
        .into_iter()
        .flat_map(|way| (0..14).map(move |at| (way, at)))
    {
        let (server, kept) = serve(move |request| if request == at { way } else { 0 });
        let mut mlflow = Mlflow::new(&server.endpoint, None);
        let mut failures = 0;
        for count in 2..=points.len() {
            failures += usize::from(mlflow.tell(&story(), &points[..count], None).is_err());
        }
        if let Err(reason) = mlflow.tell(&story(), &points, Some(&ending())) {
            failures += 1;
            assert!(
                reason.contains("503") || reason.contains("connection"),
                "{reason}"
            );
            let mut later = Mlflow::new(&server.endpoint, None);
            later.tell(&story(), &points, Some(&ending())).unwrap();
        }
        assert!(failures <= 1, "request {at}: {failures}");
        let kept = kept.lock().unwrap();
        // A run that was made without an answer is found again, not made twice.
        check(&kept);
    }
}

#[test]
fn refusals_say_what_to_do() {
    let said = |reply: Reply| {
        let server = Loopback::serve(move |_, _| reply.clone());
        let mut mlflow = Mlflow::new(&server.endpoint, None);
        mlflow.tell(&story(), &[], None).unwrap_err()
    };
    assert!(said(Reply::status(401)).contains("MLFLOW_TRACKING_TOKEN"));
    assert!(said(Reply::whole(b"<html>")).contains("does not answer as an MLflow"));
    let deleted = br#"{"experiment": {"experiment_id": "1", "lifecycle_stage": "deleted"}}"#;
    assert!(said(Reply::whole(deleted)).contains("is deleted"));
    let away = Mlflow::new("http://127.0.0.1:9", None).tell(&story(), &[], None);
    let reason = away.unwrap_err();
    let refused = reason.contains("connection") || reason.contains("reached");
    assert!(refused, "nobody listens there: {reason}");
}

#[test]
fn a_folder_has_the_layout_and_is_told_again_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("ml runs");
    let points = points(&rows(), story().started);
    let tell = |points: &[Point], ending: Option<&Ending>| {
        let mut mlflow = Mlflow::new(root.to_str().unwrap(), None);
        mlflow.tell(&story(), points, ending).unwrap();
    };
    tell(&points, None);
    tell(&points[..3], None);
    tell(&points, Some(&ending()));
    let experiments: Vec<_> = std::fs::read_dir(&root).unwrap().flatten().collect();
    assert_eq!(experiments.len(), 1);
    let experiment = experiments[0].path();
    let read = |path: &str| std::fs::read_to_string(experiment.join(path)).unwrap();
    assert!(read("meta.yaml").contains("\nname: \"flowers: 'all'\"\n"));
    let run = story().id;
    let lines = read(&format!("{run}/metrics/train_loss"));
    assert_eq!(lines.lines().next(), Some("1800000004000 1 5"));
    assert_eq!(lines.lines().count(), 4);
    assert_eq!(read(&format!("{run}/params/seed")), "1");
    assert_eq!(read(&format!("{run}/tags/mlflow.runName")), story().name);
    assert_eq!(read(&format!("{run}/artifacts/test.json")), "{}");
    let meta = read(&format!("{run}/meta.yaml"));
    assert!(
        meta.contains("\nstatus: 3\n") && meta.contains("/ml%20runs/"),
        "{meta}"
    );
    tell(&points, Some(&ending()));
    assert_eq!(read(&format!("{run}/meta.yaml")), meta);
}
