//! What the phases must be, before any graph is built.

use super::schema::*;
use super::validate::Findings;

impl Findings {
    pub(super) fn phases(&mut self, experiment: &Experiment) {
        let phases = &experiment.phase;
        if phases.is_empty() {
            let help = "add one: `[[phase]]` with `name`, `epochs` and `optimizer`";
            self.error(
                "phase",
                "there is no phase, so nothing would be trained",
                help,
            );
        }
        for (index, phase) in phases.iter().enumerate() {
            let at = format!("phase[{index}]");
            self.name(format!("{at}.name"), &phase.name);
            if let Some(first) = phases[..index].iter().position(|p| p.name == phase.name) {
                let message = format!("`{at}` has the same name as `phase[{first}]`");
                let help = "logs and plots tell phases by their names";
                self.error(format!("{at}.name"), message, help);
            }
            self.freezing(&at, phase);
            self.rates(&at, phase);
            self.steps(&at, phase);
        }
        let random = experiment.model.weights.as_deref() == Some("none");
        let frozen = |phase: &PhaseConfig| phase.freeze == Some(Freeze::One("all".into()));
        if random && !phases.is_empty() && phases.iter().all(frozen) {
            let message = "the backbone is random and never trained";
            let help = "name pretrained weights, or add a phase that trains the backbone";
            self.warning("model.weights", message, help);
        }
    }

    fn freezing(&mut self, at: &str, phase: &PhaseConfig) {
        if let [first, others @ ..] = &phase.freezing_keys()[..] {
            for other in others {
                let message = format!("`{at}` has both `{first}` and `{other}`");
                self.error(format!("{at}.{other}"), message, "keep one of them");
            }
        }
        self.patterns_of_freeze(&format!("{at}.freeze"), phase.freeze.as_ref());
        self.freeze_before(&format!("{at}.freeze_before"), phase.freeze_before.as_ref());
        if phase.freeze_stages == Some(0) {
            let key = format!("{at}.freeze_stages");
            let message = format!("`{key}` is 0, which freezes nothing");
            let help = "write `freeze = \"none\"` to train all layers";
            self.error(key, message, help);
        }
        if let Some(layers) = &phase.train_only {
            let help = "write `freeze = \"all\"` to train the head alone";
            self.layers(&format!("{at}.train_only"), layers, help);
        }
        if matches!(phase.bn, Some(BatchNormMode::Train | BatchNormMode::Frozen))
            && phase.freeze == Some(Freeze::One("all".into()))
        {
            let key = format!("{at}.bn");
            let message = format!("`{key}` has no effect: no backbone layer trains in this phase");
            self.warning(key, message, "take it out, or freeze less");
        }
    }

    fn patterns_of_freeze(&mut self, key: &str, freeze: Option<&Freeze>) {
        match freeze {
            Some(Freeze::Many(patterns)) if patterns.is_empty() => {
                let message = format!("`{key}` is empty");
                self.error(key, message, "write `\"none\"` to freeze nothing");
            }
            Some(Freeze::Many(patterns)) => {
                for (index, pattern) in patterns.iter().enumerate() {
                    let key = format!("{key}[{index}]");
                    if pattern == "all" || pattern == "none" {
                        let message = format!("`\"{pattern}\"` stands alone");
                        self.error(key, message, &format!("write `freeze = \"{pattern}\"`"));
                    } else if pattern.is_empty() {
                        let message = format!("`{key}` is empty");
                        self.error(&key, message, "name a layer or a pattern");
                    }
                }
            }
            Some(Freeze::One(pattern)) if pattern.is_empty() => {
                let message = format!("`{key}` is empty");
                self.error(key, message, "write `\"none\"` to freeze nothing");
            }
            _ => {}
        }
    }

    fn freeze_before(&mut self, key: &str, layer: Option<&LayerRef>) {
        match layer {
            Some(LayerRef::Name(name)) if name.is_empty() => {
                let message = format!("`{key}` is empty");
                self.error(key, message, "name a layer of `xp summary`");
            }
            Some(LayerRef::Index(0)) => {
                let message = format!("`{key}` is 0, which freezes nothing");
                self.error(
                    key,
                    message,
                    "write `freeze = \"none\"` to train all layers",
                );
            }
            _ => {}
        }
    }

    /// A list of layers; `help` says what to write instead of an empty one.
    fn layers(&mut self, key: &str, layers: &Layers, help: &str) {
        if layers.all().is_empty() {
            self.error(key, format!("`{key}` is empty"), help);
        }
        for (index, layer) in layers.all().iter().enumerate() {
            if matches!(layer, LayerRef::Name(name) if name.is_empty()) {
                let key = match layers {
                    Layers::One(_) => key.to_string(),
                    Layers::Many(_) => format!("{key}[{index}]"),
                };
                let message = format!("`{key}` is empty");
                self.error(&key, message, "name a layer or a pattern");
            }
        }
    }

    /// What differs from parameter to parameter: multipliers and weight decay.
    fn rates(&mut self, at: &str, phase: &PhaseConfig) {
        for (index, entry) in phase.lr_multipliers.iter().enumerate() {
            let key = format!("{at}.lr_multipliers[{index}].layers");
            self.layers(&key, &entry.layers, "take the entry out");
        }
        if phase.lr_decay.is_some() && phase.freeze == Some(Freeze::One("all".into())) {
            let key = format!("{at}.lr_decay");
            let message = format!("`{key}` has no effect: no backbone layer trains in this phase");
            self.warning(key, message, "take it out, or freeze less");
        }
        let spares_nothing = phase.weight_decay_exempt == DecayExempt::None;
        if spares_nothing && phase.optimizer.weight_decay() == 0.0 {
            let key = format!("{at}.weight_decay_exempt");
            let message = format!("`{key}` has no effect without weight decay");
            let help = "take it out, or give the optimizer a `weight_decay`";
            self.warning(key, message, help);
        }
    }

    fn steps(&mut self, at: &str, phase: &PhaseConfig) {
        if let OptimizerConfig::Sgd {
            momentum,
            nesterov: true,
            ..
        } = phase.optimizer
            && momentum == 0.0
        {
            let key = format!("{at}.optimizer.nesterov");
            self.error(
                key,
                "`nesterov` needs momentum",
                "set `momentum`, for example 0.9",
            );
        }
        self.length(at, phase);
        self.schedule(at, phase);
    }

    fn length(&mut self, at: &str, phase: &PhaseConfig) {
        match (phase.epochs, phase.steps) {
            (None, None) => {
                let message = format!("`{at}` has neither `epochs` nor `steps`");
                self.error(
                    at,
                    message,
                    "say how long it trains, for example `epochs = 10`",
                );
            }
            (Some(_), Some(_)) => {
                let message = format!("`{at}` has both `epochs` and `steps`");
                self.error(format!("{at}.steps"), message, "keep one of them");
            }
            _ => {}
        }
        if let (Some(every), Length::Steps(steps)) = (phase.evaluate_every, phase.length())
            && every > steps
        {
            let key = format!("{at}.evaluate_every");
            let message = format!(
                "`{key}` is more than the {steps} steps of the phase: it is evaluated once, at its end"
            );
            self.warning(key, message, "evaluate more often, or take it out");
        }
    }

    fn schedule(&mut self, at: &str, phase: &PhaseConfig) {
        let (warmup_epochs, warmup_steps) = phase.schedule.warmup();
        if warmup_epochs > 0.0 && warmup_steps > 0 {
            let key = format!("{at}.schedule.warmup_steps");
            let message = format!("`{at}.schedule` has both `warmup_epochs` and `warmup_steps`");
            self.error(key, message, "keep one of them");
        }
        // How many steps an epoch has is known with the data.
        let too_long = match phase.length() {
            Length::Epochs(epochs) if epochs > 0 && warmup_epochs > epochs as f64 => Some((
                "warmup_epochs",
                format!("{warmup_epochs} epochs"),
                epochs as u64,
                "epochs",
            )),
            Length::Steps(steps) if warmup_steps > steps => Some((
                "warmup_steps",
                format!("{warmup_steps} steps"),
                steps,
                "steps",
            )),
            _ => None,
        };
        if let Some((key, warmup, length, unit)) = too_long {
            let key = format!("{at}.schedule.{key}");
            let message = format!("the warm-up ({warmup}) is longer than the phase ({length})");
            let help = format!("shorten it, or give the phase more {unit}");
            self.error(key, message, &help);
        }
        if let ScheduleConfig::Step {
            every_epochs,
            every_steps,
            ..
        } = phase.schedule
        {
            self.drops(at, phase.length(), every_epochs, every_steps);
        }
    }

    /// Where the step schedule drops the rate.
    fn drops(&mut self, at: &str, length: Length, epochs: Option<usize>, steps: Option<u64>) {
        let never = match (epochs, steps, length) {
            (None, None, _) => {
                let key = format!("{at}.schedule");
                let message = format!("`{key}` has neither `every_epochs` nor `every_steps`");
                self.error(
                    key,
                    message,
                    "say when the rate drops, for example `every_epochs = 3`",
                );
                None
            }
            (Some(_), Some(_), _) => {
                let key = format!("{at}.schedule.every_steps");
                let message = format!("`{at}.schedule` has both `every_epochs` and `every_steps`");
                self.error(key, message, "keep one of them");
                None
            }
            (Some(every), _, Length::Epochs(epochs)) if epochs > 0 && every >= epochs => {
                Some(("every_epochs", format!("{epochs} epochs")))
            }
            (_, Some(every), Length::Steps(steps)) if every >= steps => {
                Some(("every_steps", format!("{steps} steps")))
            }
            _ => None,
        };
        if let Some((key, length)) = never {
            let key = format!("{at}.schedule.{key}");
            let message = format!("the rate never steps: the phase has {length}");
            self.warning(key, message, "step earlier, or take the schedule out");
        }
    }
}
