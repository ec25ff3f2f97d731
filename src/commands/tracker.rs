//! What TensorBoard and MLflow get to see of a run while it goes on. Nothing of it can hold a run up
//! or end it: files are appended to, and whoever is elsewhere is told by a thread of its own.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::card::Gathered;
use super::{Printer, tracked};
use crate::config::TrackingConfig;
use crate::records::MetricsRow;
use crate::run::{EventsWriter, RunDir, RunError};
use crate::tracking::mlflow::Mlflow;
use crate::tracking::{Ending, Point, Story, points, tensorboard};

/// After a failure, MLflow is tried again so much later.
const RETRY: Duration = Duration::from_secs(30);
/// Longest that a run waits at its end for MLflow.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tells of a run.
#[derive(Debug)]
pub struct Tracker {
    story: Story,
    host: String,
    tensorboard: bool,
    events: RefCell<Option<EventsWriter>>,
    points: RefCell<Vec<Point>>,
    worker: Option<Worker>,
    trouble: RefCell<Option<String>>,
}

impl Tracker {
    /// Tells of the run in a directory whatever `tracking` asks for; `None` if that is nothing.
    ///
    /// # Errors
    /// If the run's manifest cannot be read.
    pub fn new(run: &RunDir, tracking: &TrackingConfig) -> Result<Option<Self>, RunError> {
        if tracking.is_off() {
            return Ok(None);
        }
        let manifest = run.manifest()?;
        let story = tracked::story(run, &manifest, tracking.experiment.as_deref());
        let worker = tracking
            .mlflow
            .as_ref()
            .map(|mlflow| Worker::start(mlflow, story.clone(), run.path()));
        Ok(Some(Self {
            story,
            host: manifest.process.host,
            tensorboard: tracking.tensorboard,
            events: RefCell::default(),
            points: RefCell::default(),
            worker,
            trouble: RefCell::default(),
        }))
    }

    /// Goes on behind `rows`: what was told of later ones is taken back where it can be.
    pub fn begin(&self, run: &RunDir, rows: &[MetricsRow]) {
        let points = points(rows, self.story.started);
        if self.tensorboard {
            let mut file = tensorboard::head(&self.story);
            file.extend(points.iter().flat_map(tensorboard::point));
            match run.start_events(&self.host, &file) {
                Ok(events) => *self.events.borrow_mut() = Some(events),
                Err(error) => self.fail(format!("TensorBoard sees nothing of this run: {error}")),
            }
        }
        if let Some(worker) = &self.worker {
            worker.send(Message::Points(points.clone()));
        }
        *self.points.borrow_mut() = points;
    }

    /// Tells of a row.
    pub fn row(&self, row: &MetricsRow) {
        let mut points = self.points.borrow_mut();
        let now = Timestamp::now().as_millisecond();
        let point = Point::of(row, points.last(), now);
        self.append(&tensorboard::point(&point));
        if let Some(worker) = &self.worker {
            worker.send(Message::Points(vec![point.clone()]));
        }
        points.push(point);
    }

    fn append(&self, bytes: &[u8]) {
        let mut events = self.events.borrow_mut();
        if let Some(file) = events.as_mut()
            && let Err(error) = file.append(bytes)
        {
            self.fail(format!("TensorBoard sees no more of this run: {error}"));
            *events = None;
        }
    }

    fn fail(&self, trouble: String) {
        *self.trouble.borrow_mut() = Some(trouble);
    }

    /// What went wrong since this was asked last, in words.
    pub fn trouble(&self) -> Option<String> {
        let own = self.trouble.borrow_mut().take();
        own.or_else(|| self.worker.as_ref()?.trouble())
    }

    /// Tells how the run ended, and waits a little until it is heard.
    pub fn end(self, run: &RunDir, printer: &Printer) {
        let Ok(manifest) = run.manifest() else {
            return;
        };
        let ending = tracked::ending(run, &Gathered::of(run), &manifest);
        let step = self.points.borrow().last().map_or(0, |point| point.step);
        self.append(&tensorboard::ending(&ending, step));
        if let Some(trouble) = self.trouble.borrow_mut().take() {
            printer.warning(trouble);
        }
        if let Some(worker) = self.worker {
            worker.end(ending, run.path(), printer);
        }
    }
}

enum Message {
    Points(Vec<Point>),
    End(Box<Ending>),
}

/// The thread that tells MLflow.
#[derive(Debug)]
struct Worker {
    mlflow: String,
    sender: Sender<Message>,
    /// How telling the ending went.
    ended: Receiver<Result<Option<String>, String>>,
    /// The first failure, until it is said.
    trouble: Arc<Mutex<Option<String>>>,
    said: Cell<bool>,
}

impl Worker {
    fn start(mlflow: &str, story: Story, run: &Path) -> Self {
        let (sender, messages) = mpsc::channel();
        let (say_ended, ended) = mpsc::channel();
        let trouble = Arc::new(Mutex::new(None));
        let shared = Arc::clone(&trouble);
        let told = Mlflow::new(mlflow, tracked::authorization());
        let shown = format!("MLflow (`{mlflow}`)");
        let later = format!("`xp track {}` tells it later", run.display());
        let work = move || {
            let first = |reason: &str| {
                let message = format!("{shown} does not hear of this run: {reason}; {later}");
                *shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(message);
            };
            if let Some(result) = tell(told, &story, &messages, first) {
                // Who waited too long is gone.
                let _ = say_ended.send(result);
            }
        };
        // Without a thread nobody is told, which the end says.
        let _ = std::thread::Builder::new()
            .name("mlflow".into())
            .spawn(work);
        Self {
            mlflow: mlflow.into(),
            sender,
            ended,
            trouble,
            said: Cell::new(false),
        }
    }

    fn send(&self, message: Message) {
        // A thread that could not be started hears nothing.
        let _ = self.sender.send(message);
    }

    fn trouble(&self) -> Option<String> {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let trouble = trouble.take();
        self.said.set(self.said.get() || trouble.is_some());
        trouble
    }

    fn end(&self, ending: Ending, run: &Path, printer: &Printer) {
        self.send(Message::End(Box::new(ending)));
        let reason = match self.ended.recv_timeout(PATIENCE) {
            Ok(Ok(None)) => return,
            Ok(Ok(Some(left_out))) => {
                printer.note(format!("MLflow (`{}`): {left_out}", self.mlflow));
                return;
            }
            Ok(Err(reason)) => reason,
            Err(RecvTimeoutError::Timeout) => {
                format!("it takes longer than {} s", PATIENCE.as_secs())
            }
            Err(RecvTimeoutError::Disconnected) => "the thread that tells it has ended".into(),
        };
        let message = format!(
            "MLflow (`{}`) has not heard everything: {reason}; `xp track {}` tells it the rest",
            self.mlflow,
            run.display()
        );
        // One warning is enough.
        match (self.said.get(), self.trouble()) {
            (true, _) => printer.note(message),
            (false, first) => printer.warning(first.unwrap_or(message)),
        }
    }
}

/// Tells all that comes, as much at a time as there is; how the ending went, if there was one.
fn tell(
    mut mlflow: Mlflow,
    story: &Story,
    messages: &Receiver<Message>,
    first_failure: impl Fn(&str),
) -> Option<Result<Option<String>, String>> {
    let mut points = Vec::new();
    let mut failed: Option<Instant> = None;
    let mut said = false;
    while let Ok(message) = messages.recv() {
        let mut ending = None;
        for message in std::iter::once(message).chain(messages.try_iter()) {
            match message {
                Message::Points(more) => points.extend(more),
                Message::End(it) => ending = Some(it),
            }
        }
        if ending.is_none() && failed.is_some_and(|at| at.elapsed() < RETRY) {
            continue;
        }
        let told = mlflow.tell(story, &points, ending.as_deref());
        if ending.is_some() {
            return Some(told.map(|()| mlflow.left_out().map(str::to_owned)));
        }
        failed = told.as_ref().err().map(|_| Instant::now());
        if let Err(reason) = told
            && !said
        {
            first_failure(&reason);
            said = true;
        }
    }
    None
}
