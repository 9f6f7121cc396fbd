//! Lines of commands from standard input.

use std::io::{BufRead, Read, Write};

use crate::failure::Failure;
use crate::remote::Remote;
use crate::shell::Shell;

/// The longest line.
const LONGEST: u64 = 64 << 10;

/// Where lines come from.
pub(crate) trait Lines {
    /// The next line, if there is one; `prompt` asks for it.
    fn next<R: Remote, W: Write>(
        &mut self,
        prompt: &str,
        shell: &mut Shell<R, W>,
    ) -> Result<Option<Vec<u8>>, Failure>;

    /// Whether a person writes them, at this moment.
    fn is_terminal(&self) -> bool;
}

/// Lines from a pipe or a file.
pub(crate) struct Piped<I> {
    input: I,
    prompt: bool,
}

impl<I: BufRead> Piped<I> {
    /// With `prompt`, shows the prompt all the same.
    pub(crate) fn new(input: I, prompt: bool) -> Self {
        Self { input, prompt }
    }
}

impl<I: BufRead> Lines for Piped<I> {
    fn next<R: Remote, W: Write>(
        &mut self,
        prompt: &str,
        shell: &mut Shell<R, W>,
    ) -> Result<Option<Vec<u8>>, Failure> {
        if self.prompt {
            shell.output().raw(&[prompt.as_bytes()])?;
        }
        let mut line = Vec::new();
        let read = (&mut self.input).take(LONGEST).read_until(b'\n', &mut line);
        if read.map_err(Failure::local("cannot read commands"))? as u64 == LONGEST && !line.ends_with(b"\n") {
            return Err(Failure::Usage(format!("cldcli: a line is longer than {LONGEST} bytes")));
        }
        Ok((!line.is_empty()).then_some(line))
    }

    fn is_terminal(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{Format, Output};
    use crate::shell::scripted::Scripted;

    fn lines(input: &[u8], prompt: bool) -> (Vec<Vec<u8>>, String) {
        let mut out = Vec::new();
        let mut shell = Shell::new(Scripted::new([]), Output::new(&mut out, Format::Human));
        let mut lines = Piped::new(input, prompt);
        let mut read = Vec::new();
        while let Some(line) = lines.next("[bob /]$ ", &mut shell).unwrap() {
            read.push(line);
        }
        (read, String::from_utf8(out).unwrap())
    }

    #[test]
    fn lines_end_with_a_newline_or_with_the_input() {
        let (read, out) = lines(b"ls\n\ncat /\xff", false);
        assert_eq!(read, [b"ls\n".to_vec(), b"\n".to_vec(), b"cat /\xff".to_vec()]);
        assert_eq!(out, "");
    }

    #[test]
    fn the_prompt_is_shown_before_each_line_if_it_is_asked_for() {
        assert_eq!(lines(b"ls\n", true).1, "[bob /]$ [bob /]$ ");
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let endless = vec![b'x'; 70_000];
        let mut out = Vec::new();
        let mut shell = Shell::new(Scripted::new([]), Output::new(&mut out, Format::Human));
        assert!(Piped::new(endless.as_slice(), false).next("", &mut shell).is_err());
    }
}
