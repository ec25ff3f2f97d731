use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use candle_core::{Device, Tensor};
use serde_json::Value;

use super::*;
use crate::data::{Framing, load_picture};
use crate::engine::test_support::{formula, mobilenet};
use crate::ops::loss;

fn model() -> Model {
    let graph = mobilenet(0.35, 32, "[{ dense = 3 }]");
    let params = formula(&graph);
    Model {
        name: "test".into(),
        classes: ["a", "b", "c"].map(str::to_owned).to_vec(),
        preprocess: Preprocess {
            image_size: [32, 32],
            resize: None,
            interpolation: crate::config::Interpolation::Bilinear,
            mean: [0.5; 3],
            std: [0.5; 3],
            order: crate::data::preprocess::ChannelOrder::Rgb,
        },
        network: Prefix::compile(&graph, &params, &[0], &[graph.output()]).unwrap(),
    }
}

/// A server at work, until it is dropped.
struct Running {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn new(limits: Limits) -> Self {
        let server = Server::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = server.address();
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let stop = || asked.load(Ordering::Relaxed);
            server.run(model(), limits, stop).unwrap();
        });
        Self {
            address,
            stop,
            thread: Some(thread),
        }
    }

    /// Sends bytes as they are; the status and the body of the answer.
    fn raw(&self, request: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        // A server that has heard enough may close before all is sent.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.get(9..12).and_then(|it| it.parse().ok());
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status.unwrap_or(0), body.to_owned())
    }

    fn send(&self, head: &str, body: &[u8]) -> (u16, String) {
        let head = format!(
            "{head} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.raw(&[head.as_bytes(), body].concat())
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.send(&format!("GET {path}"), b"")
    }

    fn batch(&self, files: &[(&str, &[u8])]) -> (u16, Value) {
        let mut body = Vec::new();
        for (name, bytes) in files {
            let head = format!(
                "--cut\r\nContent-Disposition: form-data; name=\"x\"; filename=\"{name}\"\r\n\r\n"
            );
            body.extend(head.as_bytes());
            body.extend(*bytes);
            body.extend(b"\r\n");
        }
        body.extend(b"--cut--\r\n");
        let head = format!(
            "POST /batch?top=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: \
             multipart/form-data; boundary=cut\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let (status, body) = self.raw(&[head.as_bytes(), &body].concat());
        (status, serde_json::from_str(&body).unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/pictures")
        .join(name)
}

#[test]
fn answers_are_those_of_the_network() {
    let server = Running::new(Limits::DEFAULT);
    let model = model();
    let pixels = load_picture(&fixture("plain.jpg"), &model.preprocess, Framing::Resized).unwrap();
    let picture = Tensor::from_vec(pixels, (1, 32, 32, 3), &Device::Cpu).unwrap();
    let logits = model.network.run(&[picture]).unwrap().swap_remove(0);
    let expected = loss::probabilities(&logits).unwrap().swap_remove(0);
    let bytes = std::fs::read(fixture("plain.jpg")).unwrap();
    let (status, body) = server.send("POST /predict", &bytes);
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    let found = answer["classes"].as_array().unwrap();
    assert_eq!(found.len(), 3);
    for it in found {
        let at = ["a", "b", "c"].iter().position(|name| it["class"] == *name);
        let probability = it["probability"].as_f64().unwrap() as f32;
        assert_eq!(probability, expected[at.unwrap()]);
    }
    let sorted: Vec<f64> = found
        .iter()
        .map(|it| it["probability"].as_f64().unwrap())
        .collect();
    assert!(sorted.is_sorted_by(|a, b| a >= b));

    let (status, answers) = server.batch(&[
        ("one.jpg", &bytes),
        ("two.txt", b"no picture"),
        ("three.jpg", &bytes),
    ]);
    assert_eq!(status, 200);
    let names: Vec<&Value> = answers
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["name"])
        .collect();
    assert_eq!(names, ["one.jpg", "two.txt", "three.jpg"]);
    assert_eq!(answers[0]["classes"][0], found[0]);
    assert_eq!(answers[2]["classes"].as_array().unwrap().len(), 1);
    assert!(answers[1]["error"].is_string());

    let (_, metrics) = server.get("/metrics");
    assert!(metrics.contains("xp_requests_total{path=\"/predict\",status=\"200\"} 1"));
    assert!(metrics.contains("xp_pictures_total 3"), "{metrics}");
    let (_, described) = server.get("/openapi.json");
    let described: Value = serde_json::from_str(&described).unwrap();
    for path in ["/predict", "/batch", "/health", "/metrics"] {
        assert!(described["paths"][path].is_object(), "{path}");
    }
    assert!(server.get("/").1.contains("Classify pictures"));
    assert!(server.get("/health").1.contains("\"ok\""));
}

#[test]
fn what_is_too_much_is_refused() {
    let server = Running::new(Limits {
        bytes: 10_000,
        requests: 2,
        pictures: 2,
        pixels: 100,
        ..Limits::DEFAULT
    });
    assert_eq!(server.send("POST /predict", &[0; 20_000]).0, 413);
    assert_eq!(
        server.batch(&[("a", b"x"), ("b", b"x"), ("c", b"x")]).0,
        413
    );
    let picture = std::fs::read(fixture("plain.jpg")).unwrap();
    let (status, body) = server.send("POST /predict", &picture);
    assert_eq!((status, body.contains("megapixels")), (413, true), "{body}");
    // Two requests whose bodies never end take both places.
    let slow = || {
        let mut stream = TcpStream::connect(server.address).unwrap();
        let head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab";
        stream.write_all(head).unwrap();
        stream
    };
    let held = [slow(), slow()];
    until(|| server.send("POST /predict", b"x").0 == 503);
    // Looking is free.
    assert_eq!(server.get("/health").0, 200);
    drop(held);
    until(|| server.send("POST /predict", b"x").0 == 422);
}

/// Waits for something that will be so soon.
fn until(so: impl Fn() -> bool) {
    for _ in 0..200 {
        if so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("it never was so");
}

#[test]
fn what_takes_too_long_is_ended() {
    let server = Running::new(Limits {
        time: Duration::from_millis(300),
        ..Limits::DEFAULT
    });
    let mut stream = TcpStream::connect(server.address).unwrap();
    let head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab";
    stream.write_all(head).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 504");
}

#[test]
fn hostile_requests_get_an_answer_and_harm_nothing() {
    let server = Running::new(Limits::DEFAULT);
    let picture = std::fs::read(fixture("plain.jpg")).unwrap();
    let mut seed = 1u64;
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize % below
    };
    for round in 0..300 {
        let mut bytes = picture.clone();
        bytes.truncate(random(bytes.len()) + 1);
        for _ in 0..random(20) {
            let at = random(bytes.len());
            bytes[at] = random(256) as u8;
        }
        let (status, body) = match round % 3 {
            0 => server.send("POST /predict", &bytes),
            1 => server.send("POST /batch", &bytes),
            _ => server.raw(&bytes),
        };
        assert!(
            matches!(status, 200 | 400 | 413 | 415 | 422) || round % 3 == 2,
            "{status} {body}"
        );
    }
    for (head, expected) in [
        ("GET /nothing", 404),
        ("GET /predict", 405),
        ("DELETE /", 405),
        ("POST /predict?top=0", 400),
        ("POST /predict?top=x", 400),
        ("POST /predict?evil=1", 400),
        ("POST /batch", 400),
    ] {
        let (status, body) = server.send(head, b"");
        assert_eq!(status, expected, "{head}: {body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert!(answer["error"].is_string(), "{head}: {body}");
    }
    assert_eq!(server.send("POST /predict", &picture).0, 200);
}

#[test]
fn what_is_under_way_is_answered_at_the_end() {
    let server = Running::new(Limits::DEFAULT);
    let picture = std::fs::read(fixture("plain.jpg")).unwrap();
    let mut stream = TcpStream::connect(server.address).unwrap();
    let head = format!(
        "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        picture.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&picture[..100]).unwrap();
    // It has been let in before the end is asked for: so have those that came before it.
    assert_eq!(server.get("/health").0, 200);
    server.stop.store(true, Ordering::Relaxed);
    until(|| TcpStream::connect(server.address).is_err());
    stream.write_all(&picture[100..]).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
