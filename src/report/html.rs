//! What pages share: their frame, their style, and text that cannot leave its place.

use std::fmt::Write;

use base64::Engine;
use image::codecs::jpeg::JpegEncoder;
use image::{ImageResult, RgbImage};

/// A page that needs nothing else: `title` and `status` as text, `headline` and `body` as HTML, what
/// the script draws from, and the script.
pub(super) fn document(
    (title, status): (&str, &str),
    headline: &str,
    body: &str,
    data: &serde_json::Value,
    script: &str,
) -> String {
    let mut html = String::new();
    let title = escape(title);
    // Within a script nothing but its end has a meaning.
    let data = data.to_string().replace('<', "\\u003c");
    let _ = write!(
        html,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>\n{style}</style>\n</head>\n\
         <body>\n<header>\n<h1>{title}</h1>\n<p class=\"soft\">{status}</p>\n{headline}</header>\n<main>\n\
         {body}</main>\n<script type=\"application/json\" id=\"data\">{data}</script>\n\
         <script>\n{shared}{script}</script>\n</body>\n</html>\n",
        style = include_str!("html/style.css"),
        status = escape(status),
        shared = include_str!("html/shared.js"),
    );
    html
}

/// A picture as an address that holds it, as JPEG of this quality (1 to 100).
///
/// # Errors
/// If it cannot be encoded: it has no pixels, or too many.
pub fn picture_address(picture: &RgbImage, quality: u8) -> ImageResult<String> {
    let mut jpeg = Vec::new();
    picture.write_with_encoder(JpegEncoder::new_with_quality(&mut jpeg, quality))?;
    let text = base64::engine::general_purpose::STANDARD.encode(&jpeg);
    Ok(format!("data:image/jpeg;base64,{text}"))
}

/// A table of text.
#[derive(Debug, Clone, Copy, Default)]
pub struct Table<'a> {
    /// Names of the columns.
    pub header: &'a [String],
    /// Cells, as many a row.
    pub rows: &'a [Vec<String>],
}

impl Table<'_> {
    /// The table, to be scrolled sideways where it is too wide; `label` says what it holds.
    pub(super) fn html(&self, label: &str, class: &str) -> String {
        let mut html = format!("{}<table class=\"{class}\">\n<thead><tr>", scrolled(label));
        for name in self.header {
            let _ = write!(html, "<th scope=\"col\">{}</th>", escape(name));
        }
        html.push_str("</tr></thead>\n<tbody>\n");
        for row in self.rows {
            html.push_str("<tr>");
            for cell in row {
                let _ = write!(html, "<td>{}</td>", escape(cell));
            }
            html.push_str("</tr>\n");
        }
        html.push_str("</tbody>\n</table>\n</div>\n");
        html
    }
}

/// The start of what is scrolled sideways where it is too wide, by keys too; `label` says what it is.
pub(super) fn scrolled(label: &str) -> String {
    format!("<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{label}\">\n")
}

/// A place for a chart that the script draws, with what it says of where one points.
pub(super) fn chart(id: &str, name: &str) -> String {
    format!(
        "<figure>\n<figcaption id=\"{id}-name\">{}</figcaption>\n<svg id=\"{id}\" viewBox=\"0 0 520 280\" \
         role=\"img\" tabindex=\"0\" aria-labelledby=\"{id}-name\" \
         aria-describedby=\"{id}-readout\"></svg>\n<p class=\"readout\" id=\"{id}-readout\" \
         aria-live=\"polite\">Point at the chart, or use the arrow keys.</p>\n</figure>\n",
        escape(name)
    )
}

/// A share in percent.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// Text within elements and attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}
