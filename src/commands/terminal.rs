//! The terminal as a screen to draw on, lent to one command and given back however that ends. With
//! the printer the only code that touches it.

use std::io::{self, IsTerminal};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::{DefaultTerminal, Frame};

/// A key, as far as commands know any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Char(char),
    /// Enter.
    Enter,
    /// Escape.
    Escape,
    /// Ctrl-C.
    Interrupt,
    /// Up.
    Up,
    /// Down.
    Down,
    /// A screen up.
    PageUp,
    /// A screen down.
    PageDown,
    /// To the beginning.
    Home,
    /// To the end.
    End,
    /// The window has another size.
    Resized,
}

/// The whole terminal. Dropping it, or a panic, brings back what was there before.
#[derive(Debug)]
pub struct Screen {
    terminal: DefaultTerminal,
}

/// Whether somebody sits before stdout who can be shown a screen.
pub fn is_there() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    io::stdout().is_terminal() && (cfg!(windows) || !dumb)
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// If there is none.
    pub fn take() -> io::Result<Self> {
        // Restores the terminal before the message of a panic is printed, too.
        let terminal = ratatui::try_init();
        let terminal = terminal.inspect_err(|_| drop(ratatui::try_restore()))?;
        Ok(Self { terminal })
    }

    /// Draws the screen.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(draw).map(|_| ())
    }

    /// Waits so long for a key.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn key(&mut self, wait: Duration) -> io::Result<Option<Key>> {
        if !event::poll(wait)? {
            return Ok(None);
        }
        Ok(match event::read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release => {
                let control = key.modifiers.contains(KeyModifiers::CONTROL);
                match key.code {
                    KeyCode::Char('c' | 'd') if control => Some(Key::Interrupt),
                    KeyCode::Char(_) if control => None,
                    KeyCode::Char(c) => Some(Key::Char(c)),
                    KeyCode::Enter => Some(Key::Enter),
                    KeyCode::Esc => Some(Key::Escape),
                    KeyCode::Up => Some(Key::Up),
                    KeyCode::Down => Some(Key::Down),
                    KeyCode::PageUp => Some(Key::PageUp),
                    KeyCode::PageDown => Some(Key::PageDown),
                    KeyCode::Home => Some(Key::Home),
                    KeyCode::End => Some(Key::End),
                    _ => None,
                }
            }
            Event::Resize(..) => Some(Key::Resized),
            _ => None,
        })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone wants nothing back.
        let _ = ratatui::try_restore();
    }
}
