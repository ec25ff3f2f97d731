//! What random changes of training pictures must be, and where they come to nothing.

use super::schema::*;
use super::validate::Findings;

impl Findings {
    /// `[data.augment]` by itself.
    pub(super) fn augment(&mut self, augment: &AugmentConfig) {
        let key = "data.augment.random_resized_crop";
        if let Some(ranges) = augment.resized_crop() {
            if augment.crop {
                let message = "`random_resized_crop` and `crop` exclude each other";
                self.error(key, message, "keep one of them");
            }
            self.range(&format!("{key}.scale"), ranges.scale);
            self.range(&format!("{key}.ratio"), ranges.ratio);
        }
        if let Some(erase) = augment.erase() {
            self.range("data.augment.erase.scale", erase.scale);
            self.range("data.augment.erase.ratio", erase.ratio);
            if erase.probability == 0.0 {
                let key = "data.augment.erase.probability";
                self.warning(
                    key,
                    format!("`{key}` is 0, which erases nothing"),
                    "take `erase` out",
                );
            }
        }
        if augment.color_jitter.is_some_and(|jitter| jitter.is_idle()) {
            let message = "`color_jitter` has no strength, so it changes nothing";
            let help = "write `color_jitter = { brightness = 0.2, contrast = 0.2, saturation = 0.2, hue = 0.05 }`";
            self.warning("data.augment.color_jitter", message, help);
        }
        if augment.views.is_some() && !augment.is_random() {
            let message = "`views` needs a random change: without one all views are the same";
            let help = "take it out, or switch one on, for example `flip_horizontal = true`";
            self.error("data.augment.views", message, help);
        }
    }

    /// A least and a largest value, both above 0.
    fn range(&mut self, key: &str, [least, most]: [f64; 2]) {
        if least <= 0.0 {
            let message = format!("`{key}[0]` must be greater than 0, but it is {least}");
            self.error(format!("{key}[0]"), message, "the least value comes first");
        } else if least > most {
            let message = format!("`{key}` starts at {least} and ends at {most}");
            self.error(key, message, "the least value comes first");
        }
    }

    /// What phases make of it.
    pub(super) fn augment_in_phases(&mut self, experiment: &Experiment) {
        let (augment, phases) = (&experiment.data.augment, &experiment.phase);
        if phases.is_empty() {
            return;
        }
        let random = augment.is_random();
        if random && phases.iter().all(|phase| !phase.augment) {
            let message = "`data.augment` has no effect: every phase says `augment = false`";
            let help = "take that out of a phase, or take `[data.augment]` out";
            self.warning("data.augment", message, help);
        }
        for (index, phase) in phases.iter().enumerate() {
            if !phase.augment && !random {
                let key = format!("phase[{index}].augment");
                let message = format!("`{key}` has no effect: `data.augment` changes nothing");
                self.warning(key, message, "take it out");
            }
            for (key, alpha) in [("mixup", phase.mixup), ("cutmix", phase.cutmix)] {
                if alpha > 0.0 && experiment.train.batch_size == 1 {
                    let key = format!("phase[{index}].{key}");
                    let message =
                        format!("`{key}` mixes the pictures of a batch, and a batch is 1");
                    self.error(key, message, "set `train.batch_size` to 2 or more");
                }
            }
        }
        // Epochs of phases in steps are not known before the data is.
        let augmented = phases.iter().filter(|phase| phase.augment);
        let epochs: Option<usize> = augmented.map(|phase| phase.epochs).sum();
        if let (Some(views), Some(epochs)) = (augment.views, epochs)
            && random
            && views as usize > epochs.max(1)
        {
            let message =
                format!("{views} views are more than the {epochs} epochs that would see them");
            let help = "an epoch that sees its views for the first time saves nothing; take fewer, or take it out";
            self.warning("data.augment.views", message, help);
        }
    }
}
