//! What one does with a trained model: `xp export`, `xp serve`.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use prost::Message;
use serde_json::Value;
use xp::export::onnx::proto::Model;

use super::experiments::{run, succeeds, xp};

#[test]
fn a_model_is_exported_beside_itself_or_where_one_likes() {
    let runs = tempfile::tempdir().unwrap();
    let run = run(runs.path(), &[]);
    let said = succeeds(xp(&["export", run.to_str().unwrap()]));
    let path = run.join("model.onnx");
    assert_eq!(said.trim(), path.to_str().unwrap());
    let model = Model::decode(fs::read(&path).unwrap().as_slice()).unwrap();
    let classes = model
        .metadata_props
        .iter()
        .find(|it| it.key.as_deref() == Some("classes"));
    let classes: Vec<String> =
        serde_json::from_str(classes.unwrap().value.as_deref().unwrap()).unwrap();
    assert_eq!(classes.len(), 5);
    let elsewhere = runs.path().join("any.onnx");
    let (run, elsewhere) = (run.to_str().unwrap(), elsewhere.to_str().unwrap());
    let said = succeeds(xp(&[
        "export",
        run,
        "--pictures",
        "--json",
        "--output",
        elsewhere,
    ]));
    let answer: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(answer["input"], "pictures");
    assert!(Path::new(elsewhere).exists());
}

#[test]
fn a_model_is_exported_under_the_names_of_a_package() {
    let runs = tempfile::tempdir().unwrap();
    let run = run(runs.path(), &[]);
    let run = run.to_str().unwrap();
    let safetensors = ["export", run, "--format", "safetensors"];
    let said = succeeds(xp(&[&safetensors[..], &["--json"]].concat()));
    let answer: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(answer["architecture"], "mobilenetv2_035");
    assert_eq!(answer["arguments"]["num_classes"], 5);
    let path = Path::new(run).join("model.timm.safetensors");
    assert_eq!(answer["model"], path.to_str().unwrap());
    let bytes = fs::read(&path).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let about = header.metadata().as_ref().unwrap();
    assert_eq!(about["architecture"], "mobilenetv2_035");
    let preprocessing: Value = serde_json::from_str(&about["preprocessing"]).unwrap();
    assert_eq!(preprocessing["input_size"], serde_json::json!([3, 32, 32]));
    assert!(header.info("classifier.weight").is_some());
    let names = [
        "--names",
        "torchvision",
        "--checkpoint",
        "last",
        "--split-head",
    ];
    let said = succeeds(xp(&[&safetensors[..], &names].concat()));
    let path = Path::new(run).join("model.last.torchvision.safetensors");
    assert_eq!(said.trim(), path.to_str().unwrap());
    for (flags, format) in [
        (&["--split-head"][..], "safetensors"),
        (&["--pictures"], "onnx"),
    ] {
        let mut arguments = vec!["export", run];
        if format == "onnx" {
            arguments.extend(["--format", "safetensors"]);
        }
        arguments.extend(flags);
        let output = xp(&arguments);
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.contains(&format!("goes with `--format {format}`")),
            "{said}"
        );
    }
}

/// A server that does not outlive its test.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_model_is_served_until_a_signal_comes() {
    let runs = tempfile::tempdir().unwrap();
    let run = run(runs.path(), &[]);
    let child = Command::new(env!("CARGO_BIN_EXE_xp"))
        .args(["serve", run.to_str().unwrap(), "--port", "0", "--quiet"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut served = Served(child);
    let mut url = String::new();
    let mut stdout = BufReader::new(served.0.stdout.take().unwrap());
    stdout.read_line(&mut url).unwrap();
    let address = url.trim().strip_prefix("http://").unwrap();
    let picture =
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures/plain.png"))
            .unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST /predict?top=2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        picture.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&picture).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let served_classes: Value = serde_json::from_str(body).unwrap();

    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures/plain.png");
    let said = succeeds(xp(&[
        "predict",
        run.to_str().unwrap(),
        file.to_str().unwrap(),
        "--top",
        "2",
        "--json",
    ]));
    let predicted: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(served_classes["classes"], predicted[0]["classes"]);

    #[cfg(unix)]
    {
        // SAFETY: the process is a child that has not been waited for.
        unsafe { libc::kill(served.0.id().cast_signed(), libc::SIGTERM) };
        assert!(served.0.wait().unwrap().success());
    }
    let taken = xp(&["serve", run.join("nothing").to_str().unwrap()]);
    assert!(!taken.status.success());
}
