"""Runs in the formats of TensorBoard and MLflow, read by the real tensorboard and mlflow packages.

    python tests/tracking.py target/release/xp

runs a tiny quickstart with everything on, against a real `mlflow server`, and kills and resumes
another; skips, saying so, what the Python it runs with lacks.
"""

import csv
import importlib.util
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

XP = pathlib.Path(sys.argv[1]).resolve()
CONFIG = pathlib.Path(__file__).resolve().parent.parent / "configs/quickstart.toml"
SETS = ["data.generate.per_class=10", "data.image_size=32", "train.batch_size=8",
        "phase[0].epochs=2", "phase[1].epochs=3", "cache.disk=false", "tracking.tensorboard=true"]
TAGS = {"train_loss": "loss/train", "val_loss": "loss/val", "train_accuracy": "accuracy/train",
        "val_accuracy": "accuracy/val", "lr": "lr", "epoch": "epoch", "phase_epoch": "phase_epoch",
        "images_per_second": "images_per_second", "seconds": "seconds"}


def has(package):
    if importlib.util.find_spec(package):
        return True
    print(f"skipped: this Python has no {package}")
    return False


def xp(*arguments, code=0):
    done = subprocess.run([XP, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
    return done


def sets(*more):
    return [word for value in [*SETS, *more] for word in ("--set", value)]


def rows(run):
    with open(run / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def check_events(folder, run, whole=True):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.custom_scalar import layout_pb2

    assert len(list(folder.glob("*tfevents*"))) == 1, list(folder.glob("*tfevents*"))
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    events.Reload()
    found = rows(run)
    for column, tag in TAGS.items():
        told = [(int(row["step"]), float(row[column])) for row in found if row[column]]
        read = [(scalar.step, scalar.value) for scalar in events.Scalars(tag)]
        assert len(read) == len(told), (tag, read, told)
        for (step, value), (told_step, told_value) in zip(read, told):
            assert step == told_step and abs(value - told_value) <= 1e-6 * abs(told_value), tag
    times = [scalar.wall_time for scalar in events.Scalars("loss/val")]
    assert times == sorted(times) and abs(times[-1] - time.time()) < 3600
    text = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert text.startswith("```toml") and 'name = "quickstart"' in text
    layout = layout_pb2.Layout()
    layout.ParseFromString(events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    assert list(layout.category[0].chart[1].multiline.tag) == ["loss/train", "loss/val"]
    if whole:
        image = events.Images("curves")[0]
        assert image.encoded_image_string == (run / "curves.png").read_bytes() and image.width > 100
        assert events.Images("confusion")
        assert "| **accuracy** |" in events.Tensors("test/text_summary")[0].tensor_proto.string_val[0].decode()


def check_mlflow(uri, run, experiment, with_files=True):
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    runs = [it for it in client.search_runs([found.experiment_id]) if it.info.run_name == run.name]
    assert len(runs) == 1, runs
    it = runs[0]
    assert it.info.status == "FINISHED", it.info
    assert it.data.params["train.batch_size"] == "8"
    assert it.data.params["phase.1.epochs"] == "3"
    for column in ["train_loss", "val_loss", "val_accuracy", "lr", "seconds"]:
        told = [(int(row["step"]), float(row[column])) for row in rows(run) if row[column]]
        history = client.get_metric_history(it.info.run_id, column)
        read = sorted((metric.step, metric.value) for metric in history)
        if column == "seconds":  # A row that is computed again takes another time.
            told, read = [step for step, _ in told], [step for step, _ in read]
        assert read == told, (column, read, told)
    test = json.loads((run / "test.json").read_text())
    assert it.data.metrics["test_accuracy"] == test["accuracy"]
    if with_files:
        names = {file.path for file in client.list_artifacts(it.info.run_id)}
        assert {"curves.png", "test.json", "metrics.json", "model_card.md"} <= names, names


def check_card(run):
    table = json.loads((run / "metrics.json").read_text())
    assert not any(isinstance(value, (dict, list)) for value in table.values())
    assert table["test_accuracy"] == json.loads((run / "test.json").read_text())["accuracy"]
    card = (run / "model_card.md").read_text()
    if has("yaml"):
        import yaml

        head = yaml.safe_load(card.split("---\n")[1])
        assert head["pipeline_tag"] == "image-classification" and head["model-index"][0]["results"]


def serve(folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
         "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/files"],
        stdout=open(folder / "server.log", "w"), stderr=subprocess.STDOUT, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    for _ in range(240):
        try:
            urllib.request.urlopen(f"{address}/health", timeout=2).read()
            return server, address
        except OSError:
            assert server.poll() is None, (folder / "server.log").read_text()
            time.sleep(0.5)
    raise SystemExit("the server does not start: " + (folder / "server.log").read_text())


def killed_and_resumed(folder, more):
    """A run that is killed again and again until it is done."""
    run = folder / "killed"
    wait = 0.3
    while True:
        process = subprocess.Popen([XP, "run", CONFIG, "--run-dir", run, "--quiet",
                                    *sets("phase[1].epochs=12", "checkpoint.every={ steps = 7 }", *more)])
        try:
            assert process.wait(timeout=wait) == 0
            return run
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            wait *= 1.3


with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    tensorboard, mlflow = has("tensorboard"), has("mlflow")
    run = folder / "plain"
    xp("run", CONFIG, "--run-dir", run, *sets(f"tracking.mlflow={folder}/mlruns", "tracking.experiment=both: all"))
    check_card(run)
    if tensorboard:
        check_events(run, run)
        xp("track", run, "--tensorboard", folder / "tb")
        [told] = (folder / "tb").glob(f"{run.name}-*")
        check_events(told, run)
        print("TensorBoard reads a run's event file and that of `xp track`")
    if mlflow:
        os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
        check_mlflow(f"{folder}/mlruns", run, "both: all")
        xp("track", run)
        check_mlflow(f"{folder}/mlruns", run, "both: all")
        print("MLflow reads the folder")
        # Away: the run ends well, and is told of later.
        away = folder / "away"
        done = xp("run", CONFIG, "--run-dir", away, *sets("tracking.mlflow=http://127.0.0.1:9"))
        assert done.stderr.count("warning: ") == 1 and "xp track" in done.stderr, done.stderr
        server, address = serve(folder)
        try:
            live = folder / "live"
            xp("run", CONFIG, "--run-dir", live, *sets(f"tracking.mlflow={address}"))
            check_mlflow(address, live, "quickstart")
            for _ in range(2):
                xp("track", run, away, "--mlflow", address, "--experiment", "later")
            check_mlflow(address, run, "later")
            check_mlflow(address, away, "later")
            killed = killed_and_resumed(folder, [f"tracking.mlflow={address}", "tracking.experiment=killed"])
            if tensorboard:
                check_events(killed, killed)
            import mlflow as package

            client = package.MlflowClient(tracking_uri=address)
            told = client.search_runs([client.get_experiment_by_name("killed").experiment_id])
            assert len(told) == 1 and told[0].info.status == "FINISHED", told
            history = client.get_metric_history(told[0].info.run_id, "val_loss")
            read = sorted((metric.step, metric.value) for metric in history)
            assert read == [(int(row["step"]), float(row["val_loss"])) for row in rows(killed)]
            print("MLflow's server has runs live, later, and killed and resumed: every value once")
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait()
