//! Rows to pictures (PNG and SVG), HTML and Markdown, in memory: works from what CSV and JSON hold alone, so
//! old runs can be drawn again.

mod axis;
mod canvas;
mod card;
mod classes;
pub mod confusion;
pub mod curves;
mod explanation;
mod figures;
mod heat;
mod html;
mod kind;
mod lr;
mod mistakes;
mod overlay;
mod page;
mod palette;
mod rates;
mod roc;
mod scale;
mod scores;
mod settings;
mod sweep_page;

pub use axis::Unit;
pub use canvas::{Canvas, DrawError, Format};
pub use card::{card, test_table};
pub use classes::classes;
pub use confusion::confusion;
pub use curves::curves;
pub use explanation::{Explanation, ShownHeat, explanation};
pub use figures::{Told, figures, results};
pub use heat::heated;
pub use html::{Table, picture_address};
pub use kind::Kind;
pub use lr::{Schedule, lr};
pub use mistakes::mistakes;
pub use overlay::overlay;
pub use page::{Page, WRONG_SHOWN, page, surest_right, surest_wrong};
pub use rates::{RateMark, RatePoint, rates};
pub use roc::{precision_recall, roc};
pub use scores::{Curve, Scores};
pub use settings::{Cost, Setting, settings};
pub use sweep_page::{SweepPage, sweep_page};

#[cfg(test)]
mod tests {
    use super::curves::tests::rows;
    use super::*;
    use std::path::PathBuf;

    /// `GALLERY=/tmp/gallery cargo test gallery -- --ignored` draws one of each kind to look at.
    #[test]
    #[ignore = "for eyes"]
    fn gallery() {
        let folder = PathBuf::from(std::env::var_os("GALLERY").expect("GALLERY: a folder"));
        std::fs::create_dir_all(&folder).unwrap();
        let put = |name: &str, drawing: Canvas| {
            for format in Format::ALL {
                let name = name.replace("png", format.name());
                let bytes = drawing.encode(format).unwrap();
                std::fs::write(folder.join(name), bytes).unwrap();
            }
        };
        put(
            "two_phases.png",
            curves(&rows(10, 10), "cats_vs_dogs_mobilenet_v2", None),
        );
        put("one_row.png", curves(&rows(0, 0), "one_row", None));
        put(
            "long.png",
            curves(&rows(600, 400), "a thousand epochs", None),
        );
        let mut log = rows(4, 8);
        for row in &mut log[7..] {
            row.phase = "all_layers".into();
        }
        for row in &mut log[10..] {
            row.phase = "last_polish_with_a_long_name".into();
        }
        (log[3].val_loss, log[9].val_accuracy) = (Some(f64::NAN), Some(f64::NAN));
        put(
            "four_phases.png",
            curves(&log, &"a very long name ".repeat(9), None),
        );
        for row in &mut log {
            (row.val_loss, row.val_accuracy) = (None, None);
        }
        put("no_validation.png", curves(&log, "no_validation", None));
        for count in [3, 9, 24] {
            let name = |i: usize| format!("flowers_mobilenet_v2_finetune_seed_{i}");
            let runs: Vec<_> = (0..count).map(|i| (name(i), rows(5 + i, 10))).collect();
            put(&format!("overlay_{count}.png"), overlay(&runs));
        }
        let mut falling = rows(8, 8);
        for row in &mut falling[9..] {
            row.lr = 1e-5;
        }
        put("lr.png", lr(&falling, "flowers", None));
        let (swept, costs) = super::settings::tests::example();
        put(
            "settings.png",
            settings("flowers", "test accuracy", &swept, &costs),
        );
        let (tested, marks) = super::rates::tests::example();
        let titles = (
            "flowers, phase `feature_extraction`",
            "100 steps from 1e-7 to 10",
        );
        put("rates.png", rates(titles, &tested, &marks));
        let flowers = ["daisy", "dandelion", "roses", "sunflowers", "tulips"];
        for classes in [2, 5, 10, 20, 37, 120] {
            let name = |i: usize| {
                let flower = flowers[i % 5];
                if i < 5 {
                    flower.into()
                } else {
                    format!("{flower} of the kind no. {i}")
                }
            };
            let report = super::confusion::tests::report(classes, name);
            put(
                &format!("confusion_{classes}.png"),
                confusion(&report, "flowers"),
            );
            let name = format!("classes_{classes}.png");
            put(&name, super::classes(&report, "flowers"));
            let table = super::scores::tests::table(classes, 20 * classes);
            let title = "flowers_mobilenet_v2";
            put(&format!("roc_{classes}.png"), roc(&table, "test", title));
            put(
                &format!("pr_{classes}.png"),
                precision_recall(&table, "test", title),
            );
        }
    }
}
