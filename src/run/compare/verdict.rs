//! Why two runs differ, in one sentence.

use super::{DATA, Fact, SPLIT};

/// What is known to differ.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence<'a> {
    /// Whether keys of the configuration do that decide results; `None` if it is not known.
    pub(super) config: Option<bool>,
    /// Whether the pictures, their classes or splits do.
    pub(super) data: Option<bool>,
    /// What the manifests know.
    pub(super) facts: &'a [Fact],
    /// Whether the results do.
    pub(super) parted: bool,
}

const CONFIG: &str = "the configs";
const THE_DATA: &str = "the data";

impl Evidence<'_> {
    /// What differs and decides results, in words.
    pub(super) fn causes(&self) -> Vec<&'static str> {
        let mut causes = Vec::new();
        causes.extend((self.config == Some(true)).then_some(CONFIG));
        causes.extend((self.data == Some(true)).then_some(THE_DATA));
        let differs = |what: &str| {
            let mut facts = self.facts.iter();
            facts.any(|fact| fact.what == what && fact.decides && fact.same == Some(false))
        };
        for fact in self.facts {
            let what = match fact.what {
                // Pictures are told of above, and versions are builds.
                DATA | SPLIT => continue,
                "xp build" if differs("xp") => continue,
                "weights" => "the weights",
                "seed" => "the seeds",
                "xp" => "the versions of xp",
                "xp build" => "the builds of xp",
                "device" => "the devices",
                "instructions" => "the processors' instruction sets",
                what => what,
            };
            causes.extend(differs(fact.what).then_some(what));
        }
        causes
    }

    /// The sentence on these [causes](Self::causes).
    pub(super) fn verdict(&self, causes: &[&str]) -> String {
        if causes.is_empty() {
            return self.nothing_differs();
        }
        let mut verdict = match causes {
            [THE_DATA] => "the data differs".to_owned(),
            causes => format!("{} differ", list(causes)),
        };
        if self.data == Some(false) {
            verdict += ", the data is the same";
        } else if self.data == Some(true) && self.config == Some(false) {
            verdict += ", the configs are the same";
        }
        verdict
    }

    fn nothing_differs(&self) -> String {
        let mut facts = self.facts.iter();
        let known = self.config.is_some()
            && self.data.is_some()
            && facts.all(|fact| !fact.decides || fact.same.is_some());
        let verdict = match known {
            true => "nothing that decides results differs",
            false => "nothing that decides results is known to differ, but not everything is known",
        };
        match self.parted {
            true => format!("{verdict}, yet the results do"),
            false => verdict.into(),
        }
    }
}

/// `a`, `a and b`, `a, b and c`.
fn list(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).into(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(config: Option<bool>, data: Option<bool>, facts: &[(&'static str, bool)]) -> String {
        let fact = |&(what, same): &(&'static str, bool)| Fact {
            what,
            a: None,
            b: None,
            decides: true,
            same: Some(same),
        };
        let facts: Vec<Fact> = facts.iter().map(fact).collect();
        let evidence = Evidence {
            config,
            data,
            facts: &facts,
            parted: true,
        };
        evidence.verdict(&evidence.causes())
    }

    #[test]
    fn what_differs_is_said_and_what_is_the_same() {
        let said = [
            verdict(Some(true), Some(false), &[("weights", true)]),
            verdict(Some(false), Some(true), &[("data", false)]),
            verdict(
                Some(true),
                Some(true),
                &[("xp", false), ("xp build", false)],
            ),
            verdict(Some(false), Some(false), &[("xp build", false)]),
            verdict(Some(false), Some(false), &[("xp", true)]),
            verdict(None, Some(false), &[]),
        ];
        assert_eq!(
            said,
            [
                "the configs differ, the data is the same",
                "the data differs, the configs are the same",
                "the configs, the data and the versions of xp differ",
                "the builds of xp differ, the data is the same",
                "nothing that decides results differs, yet the results do",
                "nothing that decides results is known to differ, but not everything is known, yet \
                 the results do",
            ]
        );
    }
}
