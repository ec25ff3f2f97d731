//! What is shown of what is watched, and what keys make of that.

use crate::commands::terminal::Key;

/// Fewest rows that are zoomed in on.
const FEWEST: usize = 5;

/// Which curves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Curves {
    /// Accuracy and loss where there is room, else accuracy.
    #[default]
    Both,
    /// Accuracy.
    Accuracy,
    /// Loss.
    Loss,
    /// Learning rate.
    Rate,
}

/// What is shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct View {
    /// Which curves.
    pub curves: Curves,
    /// Whether their scale is logarithmic.
    pub log: bool,
    /// Only so many last rows.
    pub last: Option<usize>,
    /// Which trial of a sweep is chosen.
    pub chosen: usize,
    /// Whether that is shown, and not the table of all.
    pub opened: bool,
}

/// What is watched, as far as keys care.
#[derive(Debug, Clone, Copy)]
pub struct Watched {
    /// Rows of the run that is shown.
    pub rows: usize,
    /// Trials; `None` if it is a run.
    pub trials: Option<usize>,
    /// Lines of the screen.
    pub height: usize,
}

impl View {
    /// A key was pressed; whether that ends it.
    pub fn press(&mut self, key: Key, watched: Watched) -> bool {
        match (key, watched.trials) {
            (Key::Interrupt | Key::Char('q'), _) => return true,
            (Key::Escape, Some(_)) if self.opened => self.opened = false,
            (Key::Escape, _) => return true,
            (_, Some(trials)) if !self.opened => self.move_in_table(key, trials, watched.height),
            _ => self.change_curves(key, watched.rows),
        }
        false
    }

    fn move_in_table(&mut self, key: Key, trials: usize, height: usize) {
        let last = trials.saturating_sub(1);
        let page = (height / 2).max(1);
        self.chosen = match key {
            Key::Up | Key::Char('k') => self.chosen.saturating_sub(1),
            Key::Down | Key::Char('j') => self.chosen + 1,
            Key::PageUp => self.chosen.saturating_sub(page),
            Key::PageDown => self.chosen + page,
            Key::Home => 0,
            Key::End => last,
            _ => self.chosen,
        }
        .min(last);
        self.opened = key == Key::Enter && trials > 0;
    }

    fn change_curves(&mut self, key: Key, rows: usize) {
        let shown = self.last.unwrap_or(rows).min(rows);
        match key {
            Key::Char('a') => self.curves = Curves::Accuracy,
            Key::Char('l') => self.curves = Curves::Loss,
            Key::Char('r') => self.curves = Curves::Rate,
            Key::Char('b') => self.curves = Curves::Both,
            Key::Char('g') => self.log = !self.log,
            Key::Char('+' | '=') if rows > FEWEST => self.last = Some((shown / 2).max(FEWEST)),
            Key::Char('-') => self.last = Some(2 * shown).filter(|last| *last < rows),
            Key::Char('0') => self.last = None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_choose_and_zoom() {
        let mut view = View::default();
        let run = Watched {
            rows: 40,
            trials: None,
            height: 24,
        };
        let mut zoom = |keys: &str| {
            for key in keys.chars() {
                assert!(!view.press(Key::Char(key), run));
            }
            view.last
        };
        assert_eq!(zoom("+"), Some(20));
        assert_eq!(zoom("++++"), Some(5));
        assert_eq!(zoom("--"), Some(20));
        assert_eq!(zoom("--"), None);
        assert_eq!(zoom("+0"), None);
        assert!(zoom("gl").is_none() && view.log && view.curves == Curves::Loss);
        assert!(view.press(Key::Escape, run));
        assert!(view.press(Key::Interrupt, run));
    }

    #[test]
    fn a_trial_is_opened_and_closed() {
        let mut view = View::default();
        let sweep = Watched {
            rows: 0,
            trials: Some(3),
            height: 24,
        };
        for key in [Key::Down, Key::Down, Key::Down, Key::Up] {
            assert!(!view.press(key, sweep));
        }
        assert_eq!(view.chosen, 1);
        assert!(!view.press(Key::Enter, sweep) && view.opened);
        assert!(!view.press(Key::Char('l'), sweep) && view.curves == Curves::Loss);
        assert!(!view.press(Key::Escape, sweep) && !view.opened);
        assert!(!view.press(Key::End, sweep) && view.chosen == 2);
        assert!(view.press(Key::Escape, sweep));
        let empty = Watched {
            trials: Some(0),
            ..sweep
        };
        assert!(!view.press(Key::Enter, empty) && !view.opened && view.chosen == 0);
    }
}
