//! Random changes to training pictures: what is drawn for each, and how it is applied.
//!
//! The order is that of torchvision's recipes: crop (with rotation about its centre), flips, colour
//! jitter, TrivialAugment; then normalisation, then erasing. Every change draws from a stream of
//! its own, so that switching one on leaves the others as they were.

mod affine;
mod colour;
mod erase;
#[cfg(test)]
mod fixtures;
mod resized_crop;
mod tone;
mod trivial;
mod view;

use image::RgbImage;
use rand::Rng;

use super::preprocess::{Part, Preprocess, Resizer, Scale};
use crate::config::AugmentConfig;
use crate::rng::{self, Stream};
use affine::Affine;
use colour::Jitter;
use erase::Rectangle;
pub use resized_crop::least_side;
use trivial::Trivial;
pub use view::View;

/// Random changes of an experiment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Augment {
    /// Which changes.
    pub config: AugmentConfig,
    /// The experiment's seed.
    pub seed: u64,
}

/// Which random numbers a picture is changed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Draw {
    /// Those of an epoch over all phases and the picture's place in the data set.
    Epoch(u64),
    /// Those of a numbered view and the picture's content.
    View(u64),
}

/// Whose random numbers.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Place in the data set.
    pub item: usize,
    /// BLAKE3 of the picture's bytes.
    pub hash: &'a [u8; 32],
}

impl Augment {
    /// What epoch `epoch` (from 1, over all phases) draws with.
    pub fn in_epoch(&self, epoch: u64) -> Draw {
        match self.config.views {
            None => Draw::Epoch(epoch),
            Some(views) => Draw::View(epoch.saturating_sub(1) % u64::from(views.max(1))),
        }
    }

    /// All that decides a numbered view of a picture, besides its number and the picture.
    pub fn describe(&self) -> String {
        let changes = AugmentConfig {
            views: None,
            ..self.config
        };
        // Plain numbers and names: nothing that could fail.
        let changes = serde_json::to_string(&changes).unwrap_or_else(|_| format!("{changes:?}"));
        format!("augment {changes} seed {}", self.seed)
    }

    fn stream(&self, change: &str, draw: Draw, subject: Subject<'_>) -> Stream {
        match draw {
            Draw::Epoch(epoch) => rng::stream(self.seed, change, &[epoch, subject.item as u64]),
            Draw::View(view) => {
                let words = subject.hash.as_chunks().0.iter();
                let mut indices = vec![view];
                indices.extend(words.map(|word| u64::from_le_bytes(*word)));
                rng::stream(self.seed, change, &indices)
            }
        }
    }
}

/// What happens to one picture.
#[derive(Debug, Clone)]
pub struct Changes {
    /// The part that is resized to the network's input first.
    part: Option<Part>,
    view: View,
    /// Degrees counter-clockwise.
    angle: Option<f64>,
    jitter: Option<Jitter>,
    trivial: Option<Trivial>,
    erased: Option<(Rectangle, Stream)>,
}

impl Changes {
    /// Draws the changes of a picture whose pixels come as `[height, width]`: as decoded for a
    /// random resized crop, else resized.
    pub fn draw(
        preprocess: &Preprocess,
        augment: &Augment,
        draw: Draw,
        subject: Subject<'_>,
        source: [u32; 2],
    ) -> Self {
        let config = &augment.config;
        let stream = |change| augment.stream(change, draw, subject);
        let size = preprocess.image_size;
        let ranges = config.resized_crop();
        let part = ranges.map(|ranges| {
            resized_crop::draw(&ranges, source, &mut stream("augment random_resized_crop"))
        });
        let room_of = if part.is_some() { size } else { source };
        Self {
            part,
            view: View::random(config, room_of, size, &mut stream("augment")),
            angle: (config.rotate > 0.0).then(|| {
                let turn = stream("augment rotate").random::<f64>();
                config.rotate * (2.0 * turn - 1.0)
            }),
            jitter: config
                .color_jitter
                .filter(|jitter| !jitter.is_idle())
                .map(|jitter| Jitter::draw(&jitter, &mut stream("augment color_jitter"))),
            trivial: config
                .trivial_augment
                .then(|| Trivial::draw(&mut stream("augment trivial_augment"))),
            erased: config.erase().and_then(|settings| {
                let mut stream = stream("augment erase");
                Some((Rectangle::draw(&settings, size, &mut stream)?, stream))
            }),
        }
    }

    /// Changes and scales a picture; `output` is `[height, width, 3]` of `image_size`.
    pub fn apply(
        self,
        preprocess: &Preprocess,
        scale: &Scale,
        source: &RgbImage,
        resizer: &mut Resizer,
        output: &mut [f32],
    ) {
        let size = preprocess.image_size;
        let (mut view, mut cropped) = (self.view, None);
        if let Some(part) = self.part {
            cropped = Some(resizer.resize_part(source, part, size, preprocess.interpolation));
        }
        if let Some(angle) = self.angle {
            let source = cropped.as_ref().unwrap_or(source);
            let corner = [view.top, view.left].map(|at| at as f64);
            let centre = [0, 1].map(|axis| corner[axis] + f64::from(size[axis]) / 2.0);
            let turned = Affine::rotation(angle, centre).sample(source, corner, size);
            cropped = Some(turned);
            (view.top, view.left) = (0, 0);
        }
        let source = cropped.as_ref().unwrap_or(source);
        if self.jitter.is_none() && self.trivial.is_none() {
            view.scale(size, scale, source, output);
        } else {
            let mut picture = view.take(size, source);
            if let Some(jitter) = self.jitter {
                jitter.apply(&mut picture);
            }
            if let Some(trivial) = self.trivial {
                picture = trivial.apply(picture);
            }
            scale.apply(&picture, output);
        }
        if let Some((rectangle, mut stream)) = self.erased {
            rectangle.erase(scale, &mut stream, size, output);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Interpolation;
    use crate::data::preprocess::ChannelOrder;

    fn preprocess() -> Preprocess {
        Preprocess {
            image_size: [12, 16],
            resize: Some([15, 20]),
            interpolation: Interpolation::Bilinear,
            mean: [0.5; 3],
            std: [0.5; 3],
            order: ChannelOrder::Rgb,
        }
    }

    fn config(text: &str) -> AugmentConfig {
        toml::from_str(text).unwrap()
    }

    fn changed(config: AugmentConfig, draw: Draw, item: usize) -> Vec<f32> {
        let augment = Augment { config, seed: 3 };
        let preprocess = preprocess();
        let source = RgbImage::from_fn(20, 15, |x, y| {
            image::Rgb([x as u8 * 12, y as u8 * 16, (x * y % 200) as u8])
        });
        let hash = [item as u8; 32];
        let subject = Subject { item, hash: &hash };
        let mut output = vec![0.0; preprocess.values()];
        Changes::draw(&preprocess, &augment, draw, subject, [15, 20]).apply(
            &preprocess,
            &Scale::new(&preprocess),
            &source,
            &mut Resizer::default(),
            &mut output,
        );
        output
    }

    const ALL: &str = "flip_horizontal = true\nflip_vertical = true\nrandom_resized_crop = true\n\
                       rotate = 20\ncolor_jitter = { brightness = 0.4, hue = 0.1 }\n\
                       trivial_augment = true\nerase = { probability = 0.9, fill = \"noise\" }";

    #[test]
    fn draws_differ_by_epoch_view_and_picture_and_nothing_else() {
        let all = config(ALL);
        let reference = changed(all, Draw::Epoch(1), 4);
        assert_eq!(reference, changed(all, Draw::Epoch(1), 4));
        assert_ne!(reference, changed(all, Draw::Epoch(2), 4));
        assert_ne!(reference, changed(all, Draw::Epoch(1), 5));
        let view = changed(all, Draw::View(1), 4);
        assert_ne!(reference, view);
        assert_ne!(view, changed(all, Draw::View(0), 4));
        assert_ne!(view, changed(all, Draw::View(1), 5));
    }

    #[test]
    fn epochs_take_turns_with_views() {
        let augment = |views| Augment {
            config: AugmentConfig {
                views,
                ..config(ALL)
            },
            seed: 3,
        };
        let turns: Vec<Draw> = (1..=4).map(|e| augment(Some(3)).in_epoch(e)).collect();
        assert_eq!(turns, [0, 1, 2, 0].map(Draw::View));
        assert_eq!(augment(None).in_epoch(4), Draw::Epoch(4));
        let described = augment(Some(3)).describe();
        assert_eq!(described, augment(Some(2)).describe());
        let other = Augment {
            seed: 4,
            ..augment(Some(3))
        };
        assert_ne!(described, other.describe());
    }

    #[test]
    fn one_change_more_leaves_the_others_as_they_were() {
        let flips = "flip_horizontal = true\ncrop = true";
        let draw = |text: &str, item| {
            let augment = Augment {
                config: config(text),
                seed: 3,
            };
            let subject = Subject {
                item,
                hash: &[0; 32],
            };
            Changes::draw(&preprocess(), &augment, Draw::Epoch(1), subject, [15, 20])
        };
        for item in 0..20 {
            let few = draw(flips, item);
            let more = draw(
                &format!(
                    "{flips}\nflip_vertical = true\nrotate = 9\ntrivial_augment = true\nerase = true"
                ),
                item,
            );
            let rotated = draw("rotate = 9", item);
            assert_eq!(
                View {
                    flip_vertical: false,
                    ..more.view
                },
                few.view
            );
            assert_eq!(more.angle, rotated.angle);
            assert!(more.angle.is_some_and(|angle| angle.abs() <= 9.0));
        }
    }
}
