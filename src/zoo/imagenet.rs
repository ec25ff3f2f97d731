//! Names of the 1000 classes of ImageNet-1k (Russakovsky et al., 2015), which published classifiers
//! answer with; made by `tests/fixtures/make_imagenet_classes.py`.

/// How many classes there are.
pub const CLASSES: usize = 1000;

/// Their names, in label order. Two birds and two garments share theirs, as WordNet has it.
pub fn classes() -> Vec<String> {
    let text = include_str!("imagenet_classes.txt");
    text.lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_those_of_imagenet() {
        let classes = classes();
        assert_eq!(classes.len(), CLASSES);
        for (label, name) in [
            (0, "tench"),
            (207, "golden retriever"),
            (281, "tabby"),
            (309, "bee"),
            (985, "daisy"),
            (999, "toilet tissue"),
        ] {
            assert_eq!(classes[label], name);
        }
    }
}
