//! Exit codes: 0 ok, 1 the work failed, 2 the user's mistake.

/// What only the user can put right: a bad argument, a file that is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Mistake(String);

/// An error that ends the program with exit code 2.
pub fn mistake(message: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Mistake(message.into()))
}

/// The exit code of a failed verb.
pub fn code_of(error: &anyhow::Error) -> u8 {
    if error.is::<Mistake>() { 2 } else { 1 }
}

/// The error with its causes on one line, each said once: many messages hold their cause already.
pub fn shown(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_the_message_holds_already_is_not_said_again() {
        let error = anyhow::anyhow!("disk full").context("cannot write a: disk full").context("produce");
        assert_eq!(shown(&error), "produce: cannot write a: disk full");
        assert_eq!(code_of(&error), 1);
        assert_eq!(code_of(&mistake("x")), 2);
    }
}
