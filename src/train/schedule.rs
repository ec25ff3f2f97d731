//! The learning rate as a pure function of the step.

use std::f64::consts::PI;

use crate::config::ScheduleConfig;

/// Learning rate of `step` (from 0) of a phase of `total_steps` steps, where `base` is the
/// optimizer's rate and an epoch has `steps_per_epoch` steps.
///
/// The warm-up rises in equal steps and reaches `base` with its last one. Cosine and linear start
/// at `base` right after it and reach `end * base` with the phase's last step.
pub fn learning_rate(
    base: f64,
    schedule: &ScheduleConfig,
    step: u64,
    steps_per_epoch: u64,
    total_steps: u64,
) -> f64 {
    let (epochs, steps) = schedule.warmup();
    let warmup_steps = steps + (epochs * steps_per_epoch as f64).round() as u64;
    if step < warmup_steps {
        return base * (step + 1) as f64 / warmup_steps as f64;
    }
    match *schedule {
        ScheduleConfig::Constant { .. } => base,
        ScheduleConfig::Cosine { end, .. } => {
            let progress = progress(step, warmup_steps, total_steps);
            base * (end + (1.0 - end) * (1.0 + (PI * progress).cos()) / 2.0)
        }
        ScheduleConfig::Linear { end, .. } => {
            base * (1.0 - (1.0 - end) * progress(step, warmup_steps, total_steps))
        }
        ScheduleConfig::Step {
            every_epochs,
            every_steps,
            factor,
            ..
        } => {
            let epochs = every_epochs.map(|epochs| epochs as u64 * steps_per_epoch);
            let every = every_steps.or(epochs).unwrap_or(u64::MAX);
            let drops = step / every.max(1);
            base * factor.powi(i32::try_from(drops).unwrap_or(i32::MAX))
        }
    }
}

/// 0 at `start`, 1 at the last step; a stretch of a single step counts as its beginning.
fn progress(step: u64, start: u64, total_steps: u64) -> f64 {
    let span = total_steps.saturating_sub(1).saturating_sub(start);
    if span == 0 {
        return 0.0;
    }
    ((step - start) as f64 / span as f64).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-12 * b.abs().max(1e-3), "{a} is not {b}");
    }

    fn schedule(settings: &str) -> ScheduleConfig {
        toml::from_str(settings).unwrap()
    }

    #[test]
    fn warm_up_rises_to_the_base_rate_and_then_holds() {
        let schedule = schedule("kind = 'constant'\nwarmup_epochs = 0.5");
        let rates: Vec<f64> = (0..8)
            .map(|step| learning_rate(0.8, &schedule, step, 8, 16))
            .collect();
        for (step, &rate) in rates.iter().enumerate() {
            close(rate, 0.8 * ((step + 1) as f64 / 4.0).min(1.0));
        }
    }

    #[test]
    fn cosine_equals_pytorch() {
        // CosineAnnealingLR(SGD(lr=0.1), T_max=8, eta_min=0.01), get_last_lr() before each step.
        let expected = [
            0.1,
            0.0965745789630079,
            0.08681980515339463,
            0.07222075445642905,
            0.055,
            0.03777924554357096,
            0.023180194846605363,
            0.013425421036992097,
            0.01,
        ];
        let schedule = schedule("kind = 'cosine'\nend = 0.1");
        for (step, &rate) in expected.iter().enumerate() {
            close(learning_rate(0.1, &schedule, step as u64, 3, 9), rate);
        }
    }

    #[test]
    fn cosine_and_linear_run_from_the_warm_up_to_the_last_step() {
        for (kind, warmup) in [
            ("cosine", "warmup_epochs = 1"),
            ("linear", "warmup_epochs = 1"),
            ("cosine", "warmup_steps = 10"),
        ] {
            let schedule = schedule(&format!("kind = '{kind}'\nend = 0.2\n{warmup}"));
            let rate = |step| learning_rate(1.0, &schedule, step, 10, 51);
            close(rate(0), 0.1);
            close(rate(9), 1.0);
            close(rate(10), 1.0);
            close(rate(30), 0.6);
            close(rate(50), 0.2);
            close(rate(60), 0.2);
        }
    }

    #[test]
    fn a_single_step_has_the_base_rate() {
        let schedule = schedule("kind = 'cosine'");
        close(learning_rate(0.3, &schedule, 0, 1, 1), 0.3);
    }

    #[test]
    fn step_falls_every_so_many_epochs_or_steps() {
        for every in ["every_epochs = 2", "every_steps = 10"] {
            let schedule = schedule(&format!("kind = 'step'\n{every}"));
            let rate = |step| learning_rate(1.0, &schedule, step, 5, 30);
            close(rate(0), 1.0);
            close(rate(9), 1.0);
            close(rate(10), 0.1);
            close(rate(20), 0.01);
        }
    }
}
