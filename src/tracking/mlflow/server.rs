//! MLflow's REST interface, <https://mlflow.org/docs/latest/rest-api.html>.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use serde_json::{Value, json};
use ureq::Agent;

use super::super::{Ending, Point, State, Story};
use super::{IDENTITY, status, tags, values};
use crate::fetch::http;

/// Most parameters and most tags of a batch.
const MOST_PARAMETERS: usize = 100;
/// Most values of a batch.
const MOST_VALUES: usize = 900;
/// Longest tag that every version takes.
const LONGEST_TAG: usize = 5000;

/// A tracking server.
#[derive(Debug)]
pub struct Server {
    agent: Agent,
    base: String,
    authorization: Option<String>,
    /// What it has of the run; `None` until it was asked, and after anything failed.
    there: Option<There>,
    left_out: Option<String>,
}

/// What a server has of a run.
#[derive(Debug)]
struct There {
    run: String,
    artifacts: String,
    status: String,
    parameters: HashSet<String>,
    /// The last step of each value's name.
    steps: HashMap<String, i64>,
    /// Names of files.
    files: HashSet<String>,
}

/// Why a request came to nothing.
struct Refusal {
    /// MLflow's word for it, if it was MLflow that refused.
    code: String,
    message: String,
}

impl From<Refusal> for String {
    fn from(refusal: Refusal) -> Self {
        refusal.message
    }
}

impl Server {
    pub(super) fn new(address: &str, authorization: Option<String>) -> Self {
        Self {
            agent: http::hasty(address),
            base: address.trim_end_matches('/').into(),
            authorization,
            there: None,
            left_out: None,
        }
    }

    pub(super) fn left_out(&self) -> Option<&str> {
        self.left_out.as_deref()
    }

    pub(super) fn tell(
        &mut self,
        story: &Story,
        points: &[Point],
        ending: Option<&Ending>,
    ) -> Result<(), String> {
        // Whatever fails from here on, what the server has is asked anew.
        let mut there = match self.there.take() {
            Some(there) => there,
            None => self.find(story)?,
        };
        self.send_parameters(&mut there, story)?;
        self.send_values(&mut there, points, ending)?;
        if let Some(ending) = ending {
            self.send_note(&there, ending)?;
            self.send_files(&mut there, ending)?;
        }
        let state = ending.map_or(State::Running, |ending| ending.state);
        self.send_status(&mut there, state, ending.map(|ending| ending.time))?;
        self.there = Some(there);
        Ok(())
    }

    /// The run on the server, made if it is not there.
    fn find(&self, story: &Story) -> Result<There, String> {
        let experiment = self.experiment(&story.experiment)?;
        let wanted = json!({
            "experiment_ids": [experiment],
            "filter": format!("tags.`{IDENTITY}` = '{}'", story.id),
            "max_results": 1,
        });
        let found = self.post("runs/search", &wanted)?;
        if let Some(run) = found["runs"].get(0) {
            return There::of(run);
        }
        let tags = tags(story).into_iter();
        let new = json!({
            "experiment_id": experiment,
            "run_name": story.name,
            "start_time": story.started,
            "tags": tags.map(|(key, value)| json!({ "key": key, "value": value })).collect::<Vec<_>>(),
        });
        There::of(&self.post("runs/create", &new)?["run"])
    }

    /// The experiment's number, made if it is not there.
    fn experiment(&self, name: &str) -> Result<String, String> {
        for last in [false, true] {
            let path = "experiments/get-by-name";
            let request = self.agent.get(self.address(path));
            let request = self.authorized(request).query("experiment_name", name);
            match answer(request.call()) {
                Ok(found) if found["experiment"]["lifecycle_stage"] == "deleted" => {
                    return Err(format!(
                        "its experiment `{name}` is deleted: restore it there, or set `tracking.experiment`"
                    ));
                }
                Ok(found) => return text(&found["experiment"]["experiment_id"]),
                Err(refusal) if last || refusal.code != "RESOURCE_DOES_NOT_EXIST" => {
                    return Err(refusal.message);
                }
                Err(_) => {}
            }
            match self.post("experiments/create", &json!({ "name": name })) {
                Ok(made) => return text(&made["experiment_id"]),
                // Another run was quicker.
                Err(refusal) if refusal.code == "RESOURCE_ALREADY_EXISTS" => {}
                Err(refusal) => return Err(refusal.message),
            }
        }
        Err(format!(
            "it can neither find nor make the experiment `{name}`"
        ))
    }

    /// Parameters stay what they were when the run began.
    fn send_parameters(&self, there: &mut There, story: &Story) -> Result<(), String> {
        let new: Vec<&(String, String)> = story
            .parameters
            .iter()
            .filter(|(name, _)| !there.parameters.contains(name))
            .collect();
        for part in new.chunks(MOST_PARAMETERS) {
            let params = part
                .iter()
                .map(|(key, value)| json!({ "key": key, "value": value }));
            let params: Vec<Value> = params.collect();
            self.post(
                "runs/log-batch",
                &json!({ "run_id": there.run, "params": params }),
            )?;
            there
                .parameters
                .extend(part.iter().map(|(name, _)| name.clone()));
        }
        Ok(())
    }

    fn send_values(
        &self,
        there: &mut There,
        points: &[Point],
        ending: Option<&Ending>,
    ) -> Result<(), String> {
        let new: Vec<(&str, f64, i64, i64)> = values(points, ending)
            .filter(|(name, _, _, step)| there.steps.get(*name).is_none_or(|last| step > last))
            .collect();
        for part in new.chunks(MOST_VALUES) {
            let metrics = part.iter().map(|(key, value, timestamp, step)| {
                json!({ "key": key, "value": value, "timestamp": timestamp, "step": step })
            });
            let metrics: Vec<Value> = metrics.collect();
            self.post(
                "runs/log-batch",
                &json!({ "run_id": there.run, "metrics": metrics }),
            )?;
            for (name, _, _, step) in part {
                there.steps.insert((*name).to_owned(), *step);
            }
        }
        Ok(())
    }

    /// The model card is what MLflow shows beside the run.
    fn send_note(&self, there: &There, ending: &Ending) -> Result<(), String> {
        let card = ending.texts.iter().find(|(name, _)| name == "model_card");
        let Some((_, card)) = card.filter(|(_, card)| card.len() <= LONGEST_TAG) else {
            return Ok(());
        };
        let note = json!({ "run_id": there.run, "key": "mlflow.note.content", "value": card });
        self.post("runs/set-tag", &note)?;
        Ok(())
    }

    /// Files, if the server takes them itself.
    fn send_files(&mut self, there: &mut There, ending: &Ending) -> Result<(), String> {
        let Some(folder) = proxied(&there.artifacts) else {
            self.left_out = Some(format!(
                "its files go to `{}`, which it does not take them to: start it with `--serve-artifacts`",
                there.artifacts
            ));
            return Ok(());
        };
        for (name, bytes) in &ending.files {
            if there.files.contains(name) {
                continue;
            }
            let path = escaped(&format!("{folder}/{name}"));
            let address = format!("{}/api/2.0/mlflow-artifacts/artifacts/{path}", self.base);
            let request = self.authorized(self.agent.put(address));
            // A model takes as long as it takes.
            let request = request.config().timeout_global(None).build();
            let request = request.content_type("application/octet-stream");
            answer(request.send(bytes.as_slice()))?;
            there.files.insert(name.clone());
        }
        Ok(())
    }

    fn send_status(
        &self,
        there: &mut There,
        state: State,
        time: Option<i64>,
    ) -> Result<(), String> {
        let (status, _) = status(state);
        if there.status == status {
            return Ok(());
        }
        let mut update = json!({ "run_id": there.run, "status": status });
        if let Some(time) = time.filter(|_| state != State::Running) {
            update["end_time"] = time.into();
        }
        self.post("runs/update", &update)?;
        there.status = status.into();
        Ok(())
    }

    fn address(&self, path: &str) -> String {
        format!("{}/api/2.0/mlflow/{path}", self.base)
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value, Refusal> {
        let request = self.authorized(self.agent.post(self.address(path)));
        let request = request.content_type("application/json");
        answer(request.send(body.to_string()))
    }

    fn authorized<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.authorization {
            Some(value) => request.header("Authorization", value),
            None => request,
        }
    }
}

impl There {
    fn of(run: &Value) -> Result<Self, String> {
        let keys = |what: &str| {
            let entries = run["data"][what].as_array().into_iter().flatten();
            entries.filter_map(|entry| Some((entry["key"].as_str()?.to_owned(), entry)))
        };
        let steps = keys("metrics").map(|(key, entry)| (key, number(&entry["step"])));
        Ok(Self {
            run: text(&run["info"]["run_id"])?,
            artifacts: text(&run["info"]["artifact_uri"]).unwrap_or_default(),
            status: text(&run["info"]["status"]).unwrap_or_default(),
            parameters: keys("params").map(|(key, _)| key).collect(),
            steps: steps.collect(),
            files: HashSet::new(),
        })
    }
}

/// Whole numbers of 64 bits are texts in some answers.
fn number(value: &Value) -> i64 {
    let text = || value.as_str()?.parse().ok();
    value.as_i64().or_else(text).unwrap_or_default()
}

fn text(value: &Value) -> Result<String, String> {
    let text = value.as_str().map(str::to_owned);
    text.ok_or_else(|| "it does not answer as an MLflow tracking server does".into())
}

/// The answer, as JSON; of what is none, nothing.
fn answer(called: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Value, Refusal> {
    let unspoken = |message: String| Refusal {
        code: String::new(),
        message,
    };
    let mut response = called.map_err(|error| unspoken(http::reason(&error)))?;
    let body = response.body_mut().read_to_vec();
    let body = body.map_err(|error| unspoken(http::reason(&error)))?;
    let said: Value = serde_json::from_slice(&body).unwrap_or_default();
    if response.status().is_success() {
        return Ok(said);
    }
    let status = response.status().as_u16();
    let code = said["error_code"].as_str().unwrap_or_default().to_owned();
    let message = match (status, said["message"].as_str()) {
        (401 | 403, _) => format!(
            "it wants a login ({status}): set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or \
             MLFLOW_TRACKING_TOKEN"
        ),
        (_, Some(message)) => {
            let line = message.lines().next().unwrap_or_default();
            format!("it answers {status}: {line}")
        }
        _ => format!("it answers with status {status}"),
    };
    Err(Refusal { code, message })
}

/// The folder that a server takes files of a run into; `None` if it leaves that to others.
fn proxied(artifacts: &str) -> Option<&str> {
    let rest = artifacts.strip_prefix("mlflow-artifacts:")?;
    let path = match rest.strip_prefix("//") {
        // With a host of its own.
        Some(rest) => rest.split_once('/')?.1,
        None => rest,
    };
    Some(path.trim_matches('/'))
}

/// A path with its unusual characters as `%20`.
pub(super) fn escaped(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                escaped.push(char::from(byte));
            }
            _ => {
                let _ = write!(escaped, "%{byte:02X}");
            }
        }
    }
    escaped
}
