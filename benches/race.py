"""Races xp against its peers and writes benches/RESULTS.md: `just bench [GROUP...]`.

Every contender of a race is a process that builds its model, warms up and then waits; the runner
goes round them in turn, so that whatever else the machine does hits all of them. Figures are
medians of rounds; ratios are taken within each round, and their median is what counts.

Needs Python 3.11 or later and nothing else. The peers' interpreters come from PEERS_TORCH and
PEERS_TF (`just peers` makes them); peers and data that are absent are left out, and the table says so.
"""
import argparse
import datetime
import json
import os
import platform
import select
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

BENCHES = Path(__file__).resolve().parent
ROOT = BENCHES.parent
PEERS = BENCHES / "peers"
RESULTS = BENCHES / "RESULTS.md"
# The allocator settings with which PyTorch is fastest: no memory goes back to the system.
TUNED = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}
START_LIMIT = 600
ROUND_LIMIT = 300


class Absent(Exception):
    """A contender cannot take part, and why."""


@dataclass
class Contender:
    name: str
    command: list[str]
    env: dict[str, str] = field(default_factory=dict)


@dataclass
class Race:
    title: str
    # xp first.
    contenders: list[Contender]


# What takes part


def torch(script, *args):
    return [os.environ.get("PEERS_TORCH", ""), str(PEERS / script), *map(str, args)]


def keras(*args):
    return [os.environ.get("PEERS_TF", ""), str(PEERS / "keras_worker.py"), *map(str, args)]


def forward_races(options):
    work = [
        ("MobileNetV2", "mobilenet_v2", 160),
        ("MobileNetV2", "mobilenet_v2", 224),
        ("Xception", "xception", 150),
        ("ResNet-50", "resnet50", 224),
        ("VGG19", "vgg19", 224),
        ("Inception-v3", "inception_v3", 299),
    ]

    def contenders(name, side):
        def engine(which):
            return torch("torch_forward.py", which, name, side)

        yield Contender("xp", [*options.worker(), "forward", name, str(side)])
        yield Contender("PyTorch eager", engine("eager"))
        yield Contender("PyTorch eager, tuned allocator", engine("eager"), TUNED)
        yield Contender("torch.jit.optimize_for_inference", engine("jit"))
        yield Contender("torch.compile, freezing", engine("compile"))
        yield Contender("ONNX Runtime", engine("onnxruntime"))
        yield Contender("OpenVINO", engine("openvino"))
        yield Contender("Keras", keras("forward", name, side))

    return [Race(f"{title}, {side} px", [*contenders(name, side)]) for title, name, side in work]


def step_races(options):
    work = [
        ("from `block_11_expand_BN` on", "finetune"),
        ("every layer, batch norm in eval mode", "all"),
        ("every layer, batch norm in train mode", "all-bn-train"),
    ]

    def contenders(what):
        command = torch("torch_step.py", "eager", 160, what)
        yield Contender("xp", [*options.worker(), "step", "mobilenet_v2", "160", what])
        yield Contender("PyTorch, tuned allocator", command, TUNED)
        yield Contender("PyTorch", command)
        compiled = torch("torch_step.py", "compile", 160, what)
        yield Contender("torch.compile, tuned allocator", compiled, TUNED)
        yield Contender("Keras", keras("step", 160, what))

    return [Race(title, [*contenders(what)]) for title, what in work]


def load_races(options):
    folder = str(options.pictures())

    def contenders():
        yield Contender("xp", [*options.worker(), "load", folder, "160"])
        for reader, name in [("pillow", "Pillow"), ("decode_jpeg", "decode_jpeg")]:
            for workers in (0, 2):
                command = torch("torch_load.py", reader, workers, folder, 160)
                yield Contender(f"DataLoader, {name}, {workers} workers", command)
        yield Contender("tf.data", keras("load", folder, 160))

    return [Race(f"{Path(folder).name}, to 160 px", [*contenders()])]


# Races of workers


class Worker:
    """A contender's process."""

    def __init__(self, contender, options):
        self.name = contender.name
        if not contender.command[0] or not Path(contender.command[0]).exists():
            raise Absent("not installed")
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            contender.command,
            env={**os.environ, **contender.env, "RACE_THREADS": str(options.threads)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            cwd=ROOT,
        )
        self.rates = []

    def wait_until_ready(self):
        line = self.read(START_LIMIT)
        word, self.versions, self.shape, parameters = line.split("\t")
        assert word == "ready", line
        self.parameters = int(parameters)

    def read(self, limit):
        ready, _, _ = select.select([self.process.stdout], [], [], limit)
        line = self.process.stdout.readline() if ready else ""
        if not line:
            raise Absent(self.last_words() if ready else f"no answer in {limit} s")
        return line.rstrip("\n")

    def last_words(self):
        self.log.seek(0)
        return last_words(self.log)

    def round(self, seconds):
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        return float(self.read(ROUND_LIMIT))

    def cpu_seconds(self):
        """Processor time of the process and its children, from /proc."""
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if self.process.pid in (int(stat.parent.name), int(fields[1])):
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def stop(self):
        """Lets it end with all its children, and ends it if it does not."""
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def last_words(log):
    """The line that says most: the first that begins as an error, or else the last."""
    lines = [line.strip() for line in log if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    words = (errors or lines[-1:] or ["ended without a word"])[0]
    return words.removeprefix("Error: ").removeprefix("error: ").strip('"')


def run_race(race, options):
    """Returns the table's rows, notes, and the versions of all who took part."""
    notes = []

    def say(note):
        notes.append(f"{race.title}: {note}")
        print(f"  {note}", file=sys.stderr)

    print(race.title, file=sys.stderr)
    workers = started(race.contenders[:1], options, say)
    if not workers:
        return [], notes, set()
    try:
        wanted = (options.only or "").split(",")
        peers = [peer for peer in race.contenders[1:] if any(part in peer.name for part in wanted)]
        workers += started(peers, options, say)
        for difference in [*differences(workers), *busy(workers)]:
            say(difference)
        race_rounds(workers, say, options)
    finally:
        for worker in workers:
            worker.stop()
    return rows(race.title, workers), notes, {worker.versions for worker in workers}


def started(contenders, options, say):
    """Those that can take part, each warmed up and waiting. They prepare side by side."""
    workers, ready = [], []
    for contender in contenders:
        try:
            workers.append(Worker(contender, options))
        except Absent as why:
            say(f"{contender.name} left out ({why})")
    for worker in workers:
        try:
            worker.wait_until_ready()
        except Absent as why:
            say(f"{worker.name} left out ({why})")
            worker.stop()
            continue
        print(f"  {worker.name}: {worker.versions}; output {worker.shape}; "
              f"{worker.parameters} parameters", file=sys.stderr)
        ready.append(worker)
    return ready


def race_rounds(workers, say, options):
    start = time.monotonic()
    for number in range(options.rounds):
        if number >= 3 and time.monotonic() - start > options.budget:
            break
        for worker in list(workers):
            time.sleep(0.3)
            try:
                worker.rates.append(worker.round(options.seconds))
            except Absent as why:
                say(f"{worker.name} gave up ({why})")
                worker.stop()
                workers.remove(worker)


def differences(workers):
    """Whoever does not compute what the first one does."""
    first = workers[0]
    for worker in workers[1:]:
        if worker.shape != first.shape:
            yield f"{worker.name} gives {worker.shape}, {first.name} {first.shape}"
        if abs(worker.parameters - first.parameters) > 0.01 * first.parameters:
            yield (f"{worker.name} has {worker.parameters} parameters, "
                   f"{first.name} {first.parameters}")


def busy(workers):
    """Whoever takes processor time while others race."""
    time.sleep(1)
    before = [worker.cpu_seconds() for worker in workers]
    time.sleep(1)
    for worker, cpu in zip(workers, before):
        share = worker.cpu_seconds() - cpu
        if share > 0.05:
            yield f"{worker.name} used {100 * share:.0f} % of a core while waiting"


def rows(title, workers):
    """Markdown rows: the median, its spread, and xp's ratio to each peer."""
    xp = next((worker.rates for worker in workers if worker.name == "xp"), None)
    workers = [worker for worker in workers if worker.rates]
    peers = [median(worker.rates) for worker in workers if worker.name != "xp"]
    lines = []
    for worker in workers:
        rate = median(worker.rates)
        fastest = worker.name != "xp" and rate == max(peers)
        name = f"**{worker.name}**" if fastest else worker.name
        spread = f"{figure(min(worker.rates))} to {figure(max(worker.rates))}"
        if xp is None or worker.name == "xp":
            ratio = ""
        else:
            ratio = ratios([ours / theirs for ours, theirs in zip(xp, worker.rates)])
        lines.append(f"| {title} | {name} | {figure(rate)} | {spread} | {ratio} |")
    return lines


def ratios(values):
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def figure(value):
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def race_group(title, races, options, text):
    lines, notes, versions = [], [], set()
    for race in races:
        if options.match and options.match not in race.title:
            continue
        got, said, used = run_race(race, options)
        lines += got
        notes += said
        versions |= used
    header = [
        "| work | contender | pictures/s, median | spread | xp / contender, median (spread) |",
        "|---|---|---|---|---|",
    ]
    table = header + lines if lines else []
    write(title, text, versions, table, notes, options)


# Whole runs


def run_contenders(options, folder):
    """Name, command, environment and what xp is compared as, in running order."""
    data, weights = options.pictures(), options.weights()
    script = torch("torch_two_phase.py", "--data", data, "--weights", weights,
                   "--threads", options.threads)

    def xp(*sets):
        settings = {
            "threads": options.threads,
            "runs_dir": f'"{folder}/runs"',
            "data.root": f'"{data}"',
            "data.manifest": f'"{data}/manifest.csv"',
            "data.split": '{ by = "column" }',
            "model.weights": f'"{weights}"',
        }
        pairs = [f"{key}={value}" for key, value in settings.items()] + list(sets)
        command = [options.xp(), "run", "benches/two_phase.toml", "--quiet", "--json"]
        return command + [part for pair in pairs for part in ("--set", pair)]

    crops = ["data.resize=184", "data.augment={ crop = true, flip_horizontal = true }"]
    frozen = ['phase=[{ name = "feature_extraction", freeze = "all", epochs = 10, '
              'optimizer = { kind = "adam", lr = 1e-3 } }]']
    head = ['model.head=[{ dense = 64, activation = "relu" }, { dense = 5 }]']
    # Each line: work, peer's name, its command and environment, and xp's run beside it.
    return [
        ("two phases", "script", script, {}, xp()),
        ("two phases", "script, tuned allocator", script, TUNED, xp()),
        ("two phases", "script, tuned allocator, `--cache-phase1`",
         [*script, "--cache-phase1"], TUNED, xp()),
        ("two phases, crops and flips", "script, tuned allocator, `--augment`",
         [*script, "--augment"], TUNED, xp(*crops)),
        ("another head on the same features", "xp, first run", xp(*frozen), {}, xp(*frozen, *head)),
        ("another head, two phases", "xp, first run", xp(), {}, xp(*head)),
    ]


def timed(command, env, options):
    """Seconds and peak memory in MB of a process, and its last line."""
    if not command[0] or not Path(command[0]).exists():
        raise Absent("not installed")
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        time.sleep(1)
        start = time.monotonic()
        process = subprocess.Popen(
            command, env={**os.environ, **env}, stdout=output, stderr=errors, cwd=ROOT
        )
        # The same figure as that of /usr/bin/time -v.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode != 0:
            raise Absent(f"exit code {process.returncode}: {last_words(errors)}")
        lines = [line for line in output if line.startswith("{")]
    result = json.loads(lines[-1]) if lines else {}
    accuracy = result.get("test", result.get("test_accuracy"))
    return seconds, usage.ru_maxrss / 1024, accuracy


def race_runs(options):
    measured, notes = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.run_rounds):
            for work, name, command, env, ours in run_contenders(options, folder):
                if options.match and options.match not in f"{work}: {name}":
                    continue
                # A cache of its own: empty for every pair, shared within a pair of xp's runs.
                cache = {"XDG_CACHE_HOME": tempfile.mkdtemp(dir=folder)}
                print(f"{work}: {name}, round {number + 1}", file=sys.stderr)
                try:
                    theirs = timed(command, {**env, **cache}, options)
                    pair = theirs, timed(ours, cache, options)
                except Absent as why:
                    notes.append(f"{work}: {name} left out ({why})")
                    continue
                print(f"  {pair}", file=sys.stderr)
                measured.setdefault((work, name), []).append(pair)
    table = [
        "| work | against | seconds | xp, seconds | ratio, median (spread) | peak memory, MB "
        "| xp, MB | ratio | test accuracy | xp |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (work, name), pairs in measured.items():
        theirs, ours = zip(*pairs)
        times = [median(run[0] for run in side) for side in (theirs, ours)]
        peaks = [median(run[1] for run in side) for side in (theirs, ours)]
        scores = [side[0][2] for side in (theirs, ours)]
        speed = ratios([t[0] / o[0] for t, o in pairs])
        scores = ["" if score is None else f"{100 * score:.1f} %" for score in scores]
        table.append(
            f"| {work} | {name} | {times[0]:.1f} | {times[1]:.1f} | {speed} | {peaks[0]:.0f} "
            f"| {peaks[1]:.0f} | {peaks[1] / peaks[0]:.2f} | {scores[0]} | {scores[1]} |"
        )
    rounds = max((len(pairs) for pairs in measured.values()), default=0)
    text = (
        "From JPEG files to the test score, process start included, with an empty feature cache; "
        f"rounds: {rounds}. Against itself, xp runs first with an empty cache and then again, "
        "with another head and the cache of the first. The script is "
        "`benches/peers/torch_two_phase.py`."
    )
    versions = {f"xp {package_version()}"} | script_versions()
    write("Whole runs", text, versions, table, notes, options)


def script_versions():
    python = os.environ.get("PEERS_TORCH", "")
    if not Path(python).is_file():
        return set()
    code = "import torch, torchvision; print('torch', torch.__version__ + ',', " \
           "'torchvision', torchvision.__version__)"
    said = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return {said.stdout.strip()} - {""}


def package_version():
    lines = (ROOT / "Cargo.toml").read_text().splitlines()
    return next(line.split('"')[1] for line in lines if line.startswith("version"))


# The results page


INTRODUCTION = """# xp beside its peers

Written by `just bench`. Contenders take turns, so that the machine's moods hit all of them. A
ratio is that of one round, xp to the contender, and the median over all rounds is given; above 1
xp is faster. Bold: the fastest peer. f32, batches of 32 pictures, the same number of threads for
all; weights are random where only speed is measured.
"""
SECTIONS = ["Frozen forward pass", "Training step", "Loading", "Whole runs"]


def write(title, text, versions, table, notes, options):
    """Replaces one section of the results, but for rows that were not run again."""
    # The header and its rule alone: a filter matched nothing, or nobody came.
    if len(table) <= 2:
        print(f"{title}: nothing was measured; {options.output} stays as it is", file=sys.stderr)
        return
    old = options.output.read_text() if options.output.exists() else ""
    sections = {part.partition("\n")[0].strip(): part for part in old.split("\n## ")[1:]}
    table, earlier = merged(table, sections.get(title, "").splitlines())
    date = datetime.date.today().isoformat()
    about = [
        f"{title}\n",
        text + "\n",
        f"Command: `{options.command}`, {date}  ",
        *earlier,
        f"Machine: {machine(options.threads)}  ",
        f"Versions: {'; '.join(sorted(versions)) or 'none'}\n",
        *table,
    ]
    if notes:
        about += ["", *(f"- {note}" for note in notes)]
    sections[title] = "\n".join(about) + "\n"
    page = [INTRODUCTION, *(sections[name] for name in SECTIONS if name in sections)]
    text = "\n## ".join(part.rstrip("\n") + "\n" for part in page)
    options.output.write_text(text)
    print(f"wrote {title} to {options.output}", file=sys.stderr)


def merged(table, section):
    """The table with the rows of an old section that it does not replace, and where those are from."""
    def key(row):
        return tuple(cell.strip(" *") for cell in row.split("|")[1:3])

    header, new = table[:2], {key(row): row for row in table[2:]}
    old = {key(row): row for row in section if row.startswith("| ") and row not in header}
    kept = old.keys() - new.keys()
    if not new or not kept:
        return table, []
    runs = [line for line in section if line.startswith(("Command:", "Rows not run then:"))]
    runs = [run.replace("Command:", "Rows not run then:", 1).rstrip() + "  " for run in runs]
    return [*header, *{**old, **new}.values()], list(dict.fromkeys(runs))


def machine(threads):
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    system = f"{platform.system()} {platform.release()}"
    return f"{model}, {os.cpu_count()} cores, {threads} threads used, {system}"


# The command line


class Options(argparse.Namespace):
    def __init__(self):
        super().__init__()
        self.built = {}

    def executable(self, kind, name, *args):
        """Builds a target of the package and returns the path of its binary."""
        if name not in self.built:
            command = ["cargo", *args, f"--{kind}", name, "--message-format=json"]
            output = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
            for message in map(json.loads, output.splitlines()):
                target = message.get("target", {})
                # The package's binary comes along with its benches.
                if message.get("executable") and target["kind"] == [kind]:
                    self.built[target["name"]] = message["executable"]
        return self.built[name]

    def worker(self):
        return [self.executable("bench", "race", "bench", "--no-run")]

    def xp(self):
        return self.executable("bin", "xp", "build", "--release")

    def pictures(self):
        return self.data / "flowers_1k"

    def weights(self):
        return self.data.parent / "weights" / "mobilenet_v2_imagenet.safetensors"


def parse():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("groups", nargs="*", metavar="GROUP", help="forward, steps, load, runs; default: all")
    add("--threads", type=int, default=os.cpu_count(), help="of every contender")
    add("--rounds", type=int, default=7, help="at most; of whole runs see --run-rounds")
    add("--run-rounds", type=int, default=1, help="rounds of whole runs, 10 minutes each")
    add("--seconds", type=float, default=1.5, help="that a round of one contender lasts")
    add("--budget", type=float, default=75, help="seconds after which a race ends, three rounds done")
    add("--match", help="only races whose title has this in it")
    add("--only", help="only xp and peers whose name has one of these in it, by comma")
    add("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of flowers_1k")
    add("--output", type=Path, default=RESULTS, help="the page to write")
    options = parser.parse_args(namespace=Options())
    options.data = options.data.resolve()
    options.groups = options.groups or ["forward", "steps", "load", "runs"]
    options.command = " ".join(["just bench", *sys.argv[1:]])
    return options


def main():
    options = parse()
    for group in options.groups:
        if group == "forward":
            text = "Backbone and global average pooling, pictures already in memory."
            race_group("Frozen forward pass", forward_races(options), options, text)
        elif group == "steps":
            text = (
                "MobileNetV2 at 160 px with a dense layer of five classes, Adam: crops and flips "
                "of pictures that lie decoded in memory, forward and backward pass, update."
            )
            race_group("Training step", step_races(options), options, text)
        elif group in ("load", "runs") and not options.pictures().is_dir():
            print(f"{group} left out: no pictures in {options.pictures()}", file=sys.stderr)
        elif group == "load":
            text = "JPEG files to normalised batches: decode, resize with antialiasing, scale."
            race_group("Loading", load_races(options), options, text)
        elif group == "runs":
            race_runs(options)
        else:
            sys.exit(f"there is no group `{group}`; choose from forward, steps, load and runs")


main()
