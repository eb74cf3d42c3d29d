//! The terminal while `top` has it: a screen of its own, no cursor, keys as they are pressed. Dropped, it
//! is as it was.

use std::io::{self, IsTerminal, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::sync::mpsc;

use super::view::Style;

/// Another screen, without a cursor, without lines that go on in the next.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l\u{1b}[?7l";
const LEAVE: &str = "\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l";
const HOME: &str = "\u{1b}[H";
const CLEAR_LINE: &str = "\u{1b}[K";
const CLEAR_BELOW: &str = "\u{1b}[J";

/// The size of a terminal that does not tell.
const USUAL: (usize, usize) = (80, 24);

pub(super) struct Screen {
    /// How keys came before; `None`: they do not come from a terminal.
    before: Option<Termios>,
}

impl Screen {
    pub(super) fn take() -> io::Result<Self> {
        let mut out = io::stdout().lock();
        out.write_all(ENTER.as_bytes())?;
        out.flush()?;
        // From here on a drop puts it right.
        let mut screen = Self { before: None };
        let stdin = io::stdin();
        if stdin.is_terminal()
            && let Ok(before) = tcgetattr(&stdin)
        {
            let mut modes = before.clone();
            modes
                .local_modes
                .remove(LocalModes::ICANON | LocalModes::ECHO);
            tcsetattr(&stdin, OptionalActions::Now, &modes)?;
            screen.before = Some(before);
        }
        Ok(screen)
    }

    /// The keys that are pressed. A thread of its own waits for them, to the end of the process.
    pub(super) fn keys(&self) -> mpsc::Receiver<u8> {
        let (pressed, keys) = mpsc::channel(16);
        if self.before.is_some() {
            std::thread::spawn(move || {
                let mut key = [0; 1];
                while matches!(io::stdin().read(&mut key), Ok(1)) {
                    if pressed.blocking_send(key[0]).is_err() {
                        return;
                    }
                }
            });
        }
        keys
    }

    /// Columns and lines.
    pub(super) fn size(&self) -> (usize, usize) {
        match tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                (usize::from(size.ws_col), usize::from(size.ws_row))
            }
            Ok(_) | Err(_) => USUAL,
        }
    }

    pub(super) fn style(&self) -> Style {
        match std::env::var_os("NO_COLOR") {
            Some(_) => Style::Plain,
            None => Style::Colour,
        }
    }

    /// Draws over what is there, so that nothing flickers.
    pub(super) fn draw(&mut self, text: &str) -> io::Result<()> {
        let mut all = String::from(HOME);
        for (index, line) in text.lines().enumerate() {
            if index > 0 {
                all += "\r\n";
            }
            all += line;
            all += CLEAR_LINE;
        }
        all += CLEAR_BELOW;
        let mut out = io::stdout().lock();
        out.write_all(all.as_bytes())?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // A terminal that is gone needs nothing.
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
        let mut out = io::stdout().lock();
        let _ = out.write_all(LEAVE.as_bytes());
        let _ = out.flush();
    }
}
