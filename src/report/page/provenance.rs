//! What the run was made of: pictures, machine, configuration.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Page;
use crate::records::Split;
use crate::report::html::{Table, escape, scrolled};

/// Issues of the data listed in full.
const ISSUES: usize = 100;

pub(super) fn data(html: &mut String, page: &Page<'_>) {
    if page.split.is_empty() && page.issues.is_empty() {
        return;
    }
    let mut counts: BTreeMap<(usize, &str), [usize; 3]> = BTreeMap::new();
    for row in page.split {
        let place = Split::ALL.iter().position(|split| *split == row.split);
        if let Some(place) = place {
            counts.entry((row.label, row.class.as_str())).or_default()[place] += 1;
        }
    }
    html.push_str("<section aria-labelledby=\"pictures\">\n<h2 id=\"pictures\">Pictures</h2>\n");
    html.push_str(&scrolled("table of pictures"));
    html.push_str(
        "<table>\n<thead><tr><th scope=\"col\">class</th><th scope=\"col\">train</th><th scope=\"col\">val</th><th \
         scope=\"col\">test</th></tr></thead>\n<tbody>\n",
    );
    for ((_, class), [train, val, test]) in counts {
        let _ = writeln!(
            html,
            "<tr><th scope=\"row\">{}</th><td>{train}</td><td>{val}</td><td>{test}</td></tr>",
            escape(class)
        );
    }
    html.push_str("</tbody>\n</table>\n</div>\n");
    if !page.issues.is_empty() {
        let _ = writeln!(
            html,
            "<details><summary>{} issues in the data</summary>\n<ul>",
            page.issues.len()
        );
        for issue in page.issues.iter().take(ISSUES) {
            let _ = writeln!(
                html,
                "<li>{} {}: {}</li>",
                escape(&issue.path),
                escape(&issue.kind),
                escape(&issue.reason)
            );
        }
        if page.issues.len() > ISSUES {
            html.push_str("<li>more in data_issues.csv</li>\n");
        }
        html.push_str("</ul>\n</details>\n");
    }
    html.push_str("</section>\n");
}

/// The layers of the network and what trained when.
pub(super) fn layers(html: &mut String, layers: Table<'_>) {
    if layers.rows.is_empty() {
        return;
    }
    let mut header = layers.header.to_vec();
    if let Some(index) = header.first_mut() {
        *index = "index".into();
    }
    let table = Table {
        header: &header,
        ..layers
    };
    let _ = writeln!(
        html,
        "<section aria-labelledby=\"layers\">\n<h2 id=\"layers\">Layers</h2>\n<details><summary>{} layers, \
         and which of them trained in which phase</summary>\n{}</details>\n</section>",
        layers.rows.len(),
        table.html("table of layers", "layers")
    );
}

pub(super) fn provenance(html: &mut String, page: &Page<'_>) {
    html.push_str(
        "<section aria-labelledby=\"run\">\n<h2 id=\"run\">The run</h2>\n<table \
         class=\"facts\">\n<tbody>\n",
    );
    for (name, value) in page.facts {
        let _ = writeln!(
            html,
            "<tr><th scope=\"row\">{}</th><td>{}</td></tr>",
            escape(name),
            escape(value)
        );
    }
    let _ = writeln!(
        html,
        "</tbody>\n</table>\n<details><summary>Configuration, every value in force</summary>\n\
         <pre tabindex=\"0\">{}</pre>\n</details>\n</section>",
        escape(page.config)
    );
}
