//! A sweep as one HTML page that needs nothing else: no network, no other file.

use std::fmt::Write;

use serde_json::json;

use super::html::{self, Table, escape};
use super::settings::{Cost, Setting, front};

/// What a page tells of a sweep.
#[derive(Debug, Clone, Copy)]
pub struct SweepPage<'a> {
    /// Name of the sweep.
    pub title: &'a str,
    /// How it stands, in words.
    pub status: &'a str,
    /// What the accuracies are: `test accuracy`.
    pub measured: &'a str,
    /// Settings ranked, with what may be said of them.
    pub leaderboard: Table<'a>,
    /// What should be known before the leaderboard is believed.
    pub notes: &'a [String],
    /// The axes and what runs came to along each.
    pub settings: &'a [Setting],
    /// The rows of the leaderboard: what they take and give, where that is known.
    pub costs: &'a [Option<Cost>],
    /// The same rows: index of the value of each axis.
    pub values: &'a [Vec<usize>],
    /// All trials: settings, results, and where the page of a run lies from here.
    pub trials: Table<'a>,
    /// Addresses of the trials' pages, relative to this one; empty where there is none.
    pub links: &'a [String],
}

/// The page as UTF-8 text.
pub fn sweep_page(page: &SweepPage<'_>) -> String {
    let mut body = String::new();
    leaderboard(&mut body, page);
    parallel(&mut body, page);
    axes(&mut body, page);
    pareto(&mut body, page);
    trials(&mut body, page);
    let known: Vec<Cost> = page.costs.iter().flatten().copied().collect();
    let data = json!({
        "measured": page.measured,
        "settings": page.settings.iter().map(|setting| json!({
            "key": setting.key,
            "values": setting.values,
            "runs": setting.runs,
        })).collect::<Vec<_>>(),
        "groups": page.values.iter().zip(page.costs).map(|(values, cost)| json!({
            "values": values,
            "accuracy": cost.map(|cost| cost.accuracy),
            "seconds": cost.map(|cost| cost.seconds),
        })).collect::<Vec<_>>(),
        "front": front(&known).iter().map(|cost| [cost.seconds, cost.accuracy]).collect::<Vec<_>>(),
    });
    let headline = page.leaderboard.rows.first().map(|_| {
        let count = page.leaderboard.rows.len();
        format!(
            "<p class=\"headline\">{count} settings, {} trials</p>\n",
            page.trials.rows.len()
        )
    });
    html::document(
        (page.title, page.status),
        &headline.unwrap_or_default(),
        &body,
        &data,
        include_str!("sweep_page/sweep.js"),
    )
}

fn leaderboard(body: &mut String, page: &SweepPage<'_>) {
    body.push_str("<section aria-labelledby=\"board\">\n<h2 id=\"board\">Leaderboard</h2>\n");
    for note in page.notes {
        let _ = writeln!(body, "<p class=\"soft\">{}</p>", escape(note));
    }
    match page.leaderboard.rows.is_empty() {
        true => body.push_str("<p>No trial is complete yet.</p>\n"),
        false => body.push_str(&page.leaderboard.html("table of settings", "layers")),
    }
    body.push_str("</section>\n");
}

fn parallel(body: &mut String, page: &SweepPage<'_>) {
    if page.settings.is_empty() {
        return;
    }
    body.push_str(
        "<section aria-labelledby=\"parallel-heading\">\n<h2 id=\"parallel-heading\">All settings side by \
         side</h2>\n<p>A line is a row of the leaderboard; the darker, the better.</p>\n\
         <div class=\"wide\">\n",
    );
    body.push_str(&html::chart("parallel", "Settings and accuracy"));
    body.push_str("</div>\n</section>\n");
}

fn axes(body: &mut String, page: &SweepPage<'_>) {
    if page.settings.is_empty() {
        return;
    }
    body.push_str(
        "<section aria-labelledby=\"axes\">\n<h2 id=\"axes\">Accuracy against each setting</h2>\n\
         <p>A dot is a run, the line joins the means.</p>\n<div class=\"charts\">\n",
    );
    for (index, setting) in page.settings.iter().enumerate() {
        body.push_str(&html::chart(&format!("axis-{index}"), &setting.key));
    }
    body.push_str("</div>\n</section>\n");
}

fn pareto(body: &mut String, page: &SweepPage<'_>) {
    if page.costs.iter().flatten().next().is_none() {
        return;
    }
    body.push_str(
        "<section aria-labelledby=\"time\">\n<h2 id=\"time\">Accuracy against time</h2>\n<p>The line joins \
         those that no other beats in less time.</p>\n<div class=\"charts\">\n",
    );
    body.push_str(&html::chart("pareto", "Seconds a run"));
    body.push_str("</div>\n</section>\n");
}

fn trials(body: &mut String, page: &SweepPage<'_>) {
    body.push_str("<section aria-labelledby=\"trials\">\n<h2 id=\"trials\">Trials</h2>\n");
    body.push_str(&html::scrolled("table of trials"));
    body.push_str("<table class=\"layers\">\n<thead><tr>");
    for name in page.trials.header {
        let _ = write!(body, "<th scope=\"col\">{}</th>", escape(name));
    }
    body.push_str("</tr></thead>\n<tbody>\n");
    for (row, link) in page.trials.rows.iter().zip(page.links) {
        body.push_str("<tr>");
        for (index, cell) in row.iter().enumerate() {
            let cell = escape(cell);
            let _ = match (index, link.as_str()) {
                (0, link) if !link.is_empty() => {
                    write!(body, "<td><a href=\"{}\">{cell}</a></td>", escape(link))
                }
                _ => write!(body, "<td>{cell}</td>"),
            };
        }
        body.push_str("</tr>\n");
    }
    body.push_str("</tbody>\n</table>\n</div>\n</section>\n");
}

#[cfg(test)]
mod tests {
    use super::super::settings::tests::example;
    use super::*;

    #[test]
    fn what_settings_say_cannot_leave_its_place() {
        let evil = "</script><script>alert(1)</script>\"'&";
        let (mut settings, costs) = example();
        settings[0].key = evil.into();
        settings[0].values[0] = evil.into();
        let cells = [vec![evil.to_owned()]];
        let table = Table {
            header: &[evil.to_owned()],
            rows: &cells,
        };
        let costs: Vec<Option<Cost>> = costs.into_iter().map(Some).collect();
        let values = vec![vec![0; settings.len()]; costs.len()];
        let html = sweep_page(&SweepPage {
            title: evil,
            status: evil,
            measured: "test accuracy",
            leaderboard: table,
            notes: &[evil.to_owned()],
            settings: &settings,
            costs: &costs,
            values: &values,
            trials: table,
            links: &[evil.to_owned()],
        });
        assert!(!html.contains("alert(1)</script>"), "{html}");
        assert_eq!(html.matches("<script").count(), 2);
        assert_eq!(html.matches("</script>").count(), 2);
    }
}
