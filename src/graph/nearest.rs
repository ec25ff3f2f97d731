//! "Did you mean": the known names nearest to one that is not known.

/// How many names are offered.
const MOST: usize = 3;

/// Similarity (Jaro-Winkler, 0 to 1) below which a name is no help.
const LEAST: f64 = 0.7;

/// How much less similar than the best a name may be.
const GAP: f64 = 0.05;

/// Up to three of `known` that resemble `name` about as much as the best does, best first; ties
/// keep the order of `known`.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = name.to_lowercase();
    let mut ranked: Vec<(f64, &str)> = known
        .into_iter()
        .map(|candidate| {
            (
                strsim::jaro_winkler(&wanted, &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(similarity, _)| *similarity >= LEAST)
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let best = ranked.first().map_or(0.0, |(similarity, _)| *similarity);
    ranked.retain(|(similarity, _)| best - similarity <= GAP);
    ranked.into_iter().take(MOST).map(|(_, it)| it).collect()
}

/// The same as a sentence: "did you mean `a`, `b` or `c`?"; `None` when nothing resembles it.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let quoted: Vec<String> = nearest(name, known)
        .into_iter()
        .map(|it| format!("`{it}`"))
        .collect();
    let (last, before) = quoted.split_last()?;
    Some(match before {
        [] => format!("did you mean {last}?"),
        _ => format!("did you mean {} or {last}?", before.join(", ")),
    })
}
