//! "Did you mean": the nearest of the words that fit.

/// Words that other tools use, and ours.
const ALIASES: &[(&str, &str)] = &[
    ("arch", "backbone"),
    ("architecture", "backbone"),
    ("base_model", "backbone"),
    ("batch", "batch_size"),
    ("bs", "batch_size"),
    ("criterion", "loss"),
    ("csv", "manifest"),
    ("dataset", "data"),
    ("dir", "root"),
    ("directory", "root"),
    ("eps", "epsilon"),
    ("filters", "conv2d"),
    ("fine_tune_at", "freeze_before"),
    ("flavor", "flavour"),
    ("folder", "root"),
    ("frozen_stages", "freeze_stages"),
    ("gpu", "cuda"),
    ("img_size", "image_size"),
    ("input_size", "image_size"),
    ("kernel_size", "kernel"),
    ("layer_decay", "lr_decay"),
    ("learning_rate", "lr"),
    ("lr_mult", "multiplier"),
    ("lr_scheduler", "schedule"),
    ("nb_epochs", "epochs"),
    ("normalization", "normalize"),
    ("num_epochs", "epochs"),
    ("path", "root"),
    ("phases", "phase"),
    ("pretrained", "weights"),
    ("random_state", "seed"),
    ("rate", "dropout"),
    ("scheduler", "schedule"),
    ("unfreeze", "train_only"),
    ("units", "dense"),
    ("valid", "val"),
    ("validation", "val"),
    ("crossentropy", "categorical_cross_entropy"),
    ("cross_entropy", "categorical_cross_entropy"),
    ("bce", "binary_cross_entropy"),
    ("binary_crossentropy", "binary_cross_entropy"),
    ("categorical_crossentropy", "categorical_cross_entropy"),
    ("global_average", "avg"),
    ("average", "avg"),
    ("mean", "avg"),
    ("rms_prop", "rmsprop"),
    ("batchnorm", "batch_norm"),
    ("bn", "batch_norm"),
];

/// The word of `known` that `word` most likely stands for.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word: String = word
        .chars()
        .take(64)
        .map(|c| if c == '-' || c == ' ' { '_' } else { c })
        .flat_map(char::to_lowercase)
        .collect();
    let own = known.iter().map(|&name| (name, name));
    let foreign = ALIASES
        .iter()
        .filter_map(|&(alias, name)| known.iter().find(|&&k| k == name).map(|&k| (alias, k)));
    own.chain(foreign)
        .map(|(spelling, name)| (likeness(&word, spelling), name))
        .filter(|(likeness, _)| *likeness >= 0.6)
        // The first of equals, so that the order of `known` decides.
        .reduce(|best, other| if other.0 > best.0 { other } else { best })
        .map(|(_, name)| name)
}

fn likeness(word: &str, spelling: &str) -> f64 {
    let begins = word.len() >= 3 && (spelling.starts_with(word) || word.starts_with(spelling));
    let edits = strsim::normalized_damerau_levenshtein(word, &spelling.to_lowercase());
    edits.max(if begins { 0.65 } else { 0.0 })
}

/// `a`, `b` and `c` in backquotes, joined by `last`.
pub(super) fn list(words: &[&str], last: &str) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    join(&quoted, last)
}

/// Phrases with commas between and `last` before the final one.
pub(super) fn join(phrases: &[String], last: &str) -> String {
    match phrases {
        [] => String::new(),
        [one] => one.clone(),
        [head @ .., end] => format!("{} {last} {end}", head.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_and_foreign_words_are_understood() {
        let known = ["batch_size", "lr", "momentum", "loss"];
        assert_eq!(nearest("batchsize", &known), Some("batch_size"));
        assert_eq!(nearest("Batch-Size", &known), Some("batch_size"));
        assert_eq!(nearest("learning_rat", &known), Some("lr"));
        assert_eq!(nearest("momentun", &known), Some("momentum"));
        assert_eq!(nearest("colour", &known), None);
    }
}
