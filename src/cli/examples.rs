//! What the help of each command ends with: lines that can be typed. A test parses every one of them.

pub(super) const NEW: &str = "\
Examples:
  xp new flowers/                            write flowers.toml for a folder of class folders
  xp new photos.csv --output photos.toml     for a table of paths and labels
  xp new flowers/ --backbone resnet50 --size 160";

pub(super) const RUN: &str = "\
Examples:
  xp run configs/quickstart.toml             nothing to download; leaves a directory under runs/
  xp run flowers.toml --set train.batch_size=16 --set 'phase[0].epochs=3'
  xp run flowers.toml --dry-run              check data, weights and memory; train nothing";

pub(super) const SWEEP: &str = "\
Examples:
  xp sweep flowers.toml --axis 'train.batch_size=[16, 32]' --seeds 5 --jobs 2
  xp sweep flowers.toml --axis 'phase[0].optimizer.lr={ log = [1e-4, 1e-2], steps = 3 }' --list
  xp sweep rates.toml --launcher slurm       one job array of a cluster";

pub(super) const COMPARE: &str = "\
Examples:
  xp compare runs/flowers                    rank what a sweep came to
  xp compare runs/ --where 'seed < 45' --sort test_accuracy
  xp compare runs/flowers --curves curves.png --plot settings.png";

pub(super) const RESUME: &str = "\
Examples:
  xp resume runs/2026-11-21T18-03-11_flowers_ab12cd";

pub(super) const CHECK: &str = "\
Examples:
  xp check flowers.toml
  xp check configs/quickstart.toml configs/flowers_mobilenet.toml --json";

pub(super) const LR_FIND: &str = "\
Examples:
  xp lr-find flowers.toml                    the first phase; draws the curve, suggests a rate
  xp lr-find flowers.toml --phase fine_tune --from-run runs/RUN --to 0.1";

pub(super) const SCHEMA: &str = "\
Examples:
  xp schema > xp.schema.json                 for an editor: completion and checks while typing";

pub(super) const DATA: &str = "\
Examples:
  xp data flowers.toml                       counts, sizes, issues, and contact_sheet.png
  xp data flowers.toml --set data.root=photos --sheet augmented.png";

pub(super) const SUMMARY: &str = "\
Examples:
  xp summary mobilenet_v2                    layers of a backbone: what `freeze_before` can name
  xp summary flowers.toml                    with the head, and what trains in which phase";

pub(super) const RUNS: &str = "\
Examples:
  xp runs                                    those in runs/, newest first
  xp runs runs/flowers --status failed,dead";

pub(super) const WATCH: &str = "\
Examples:
  xp watch runs/2026-11-21T18-03-11_flowers_ab12cd
  xp watch runs/flowers                      a sweep: its trials and its leaderboard
  xp watch runs/flowers --json > flowers.jsonl

Keys: a accuracy, l loss, r learning rate, b both, g logarithmic, + and - the last rows, 0 all of
them; in a sweep arrows choose a trial, Enter opens it, Esc goes back; q ends it.";

pub(super) const DIFF: &str = "\
Examples:
  xp diff runs/A runs/B
  xp diff runs/A runs/B --exit-code --quiet  for scripts: 1 if anything differs that decides results";

pub(super) const PLOT: &str = "\
Examples:
  xp plot runs/RUN                           curves.png, and confusion.png of a tested run
  xp plot runs/RUN --kind roc,pr,classes --format svg --output paper
  xp plot runs/A runs/B --output both.png    overlaid";

pub(super) const REPORT: &str = "\
Examples:
  xp report runs/RUN                         write its report.html again
  xp report runs/RUN --output flowers.html";

pub(super) const TRACK: &str = "\
Examples:
  xp track runs/RUN --tensorboard tb
  xp track runs/flowers --mlflow http://localhost:5000 --experiment flowers";

pub(super) const EVALUATE: &str = "\
Examples:
  xp evaluate runs/RUN                       on its test split
  xp evaluate runs/RUN --data new_photos/ --json
  xp evaluate runs/RUN --split val --checkpoint last";

pub(super) const PREDICT: &str = "\
Examples:
  xp predict runs/RUN picture.jpg photos/ --top 3
  xp predict mobilenet_v2 photos/ --csv      a published backbone with the classes of ImageNet
  xp predict runs/RUN inbox/ --watch --new --json
                                             a line for every picture that comes in";

pub(super) const EXPLAIN: &str = "\
Examples:
  xp explain runs/RUN photos/ --out explained
  xp explain runs/RUN picture.jpg --class tulips --layer block_13_project_BN";

pub(super) const EXPORT: &str = "\
Examples:
  xp export runs/RUN                         write model.onnx beside the model
  xp export runs/RUN --pictures --output flowers.onnx
  xp export runs/RUN --format safetensors    for timm or torchvision";

pub(super) const SERVE: &str = "\
Examples:
  xp serve runs/RUN                          http://127.0.0.1:8080, with a page to drop pictures on
  xp serve runs/RUN --host 0.0.0.0 --port 9000 --max-upload 5MB";

pub(super) const FEATURES: &str = "\
Examples:
  xp features mobilenet_v2 photos/ --out photos.npy
  xp features runs/RUN photos/ --layer block_13_project_BN --out photos.safetensors";

pub(super) const MODELS: &str = "\
Examples:
  xp models
  xp models --json";

pub(super) const CACHE: &str = "\
Examples:
  xp cache ls                                what is kept, and how much of it
  xp cache gc --max-size 5GB";

pub(super) const CACHE_LS: &str = "\
Examples:
  xp cache ls
  xp cache ls --dir /scratch/features --json";

pub(super) const CACHE_GC: &str = "\
Examples:
  xp cache gc --max-size 5GB --dry-run       say what would go
  xp cache gc --all";

pub(super) const CACHE_DIR: &str = "\
Examples:
  xp cache dir";

pub(super) const VERIFY_RESUME: &str = "\
Examples:
  xp verify-resume configs/quickstart.toml --kills 5";

pub(super) const COMPLETIONS: &str = "\
Examples:
  xp completions bash > ~/.local/share/bash-completion/completions/xp
  xp completions zsh > ~/.zfunc/_xp
  xp completions fish > ~/.config/fish/completions/xp.fish";

pub(super) const MAN: &str = "\
Examples:
  xp man > xp.1                              one page, of xp as a whole
  xp man --dir ~/.local/share/man/man1       a page a command, where man finds them";
