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
