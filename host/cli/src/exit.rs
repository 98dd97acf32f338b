//! Exit codes: 0 ok, 1 the work failed, 2 the user's mistake.

use std::error::Error;
use std::io;
use std::sync::Arc;

use clickmill_broker::BrokerError;
use clickmill_pipeline::blame::BlameError;
use clickmill_pipeline::deployment::ask::RequestError;
use clickmill_pipeline::deployment::body::BadBody;
use clickmill_pipeline::deployment::control::DeployError;
use clickmill_pipeline::dlq::DlqError;
use clickmill_pipeline::savepoint::SavepointError;
use clickmill_pipeline::topics::TopicError;
use clickmill_pipeline::views::ViewError;
use clickmill_pipeline::{StartError, WorkerError};
use clickmill_server::BindError;

/// What only the user can put right: a bad argument, a file that is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Mistake(String);

/// An error that ends the program with exit code 2.
pub fn mistake(message: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Mistake(message.into()))
}

/// An end that is no failure and has a code of its own; what there is to say has been said.
#[derive(Debug, thiserror::Error)]
#[error("exit code {0}")]
pub struct Ended(pub u8);

/// The exit code of a failed verb: here alone is said which errors are the user's to mend.
pub fn code_of(error: &anyhow::Error) -> u8 {
    match error.downcast_ref() {
        Some(Ended(code)) => *code,
        None if error.chain().any(is_the_users) => 2,
        None => 1,
    }
}

fn is_the_users(cause: &(dyn Error + 'static)) -> bool {
    // The broker shares its I/O errors.
    let shared = || cause.downcast_ref::<Arc<io::Error>>().map(AsRef::as_ref);
    cause.is::<Mistake>()
        || cause.is::<BindError>()
        || matches!(cause.downcast_ref(), Some(BrokerError::Locked { .. } | BrokerError::NewerFormat { .. }))
        || cause.is::<BadBody>()
        || matches!(cause.downcast_ref(), Some(RequestError::Body(_)))
        || matches!(cause.downcast_ref(), Some(BlameError::NoPartition { .. } | BlameError::NoOffset { .. }))
        || matches!(
            cause.downcast_ref(),
            Some(DlqError::Unknown(_) | DlqError::NotEditable(_) | DlqError::NotDeployed | DlqError::State { .. })
        )
        || matches!(cause.downcast_ref(), Some(TopicError::Own { .. }))
        || cause.downcast_ref().is_some_and(SavepointError::is_a_mistake)
        || matches!(cause.downcast_ref(), Some(StartError::Savepoint(error)) if error.is_a_mistake())
        || matches!(
            cause.downcast_ref().or(match cause.downcast_ref() {
                Some(TopicError::Broker(error)) => Some(error),
                _ => None,
            }),
            Some(
                BrokerError::UnknownTopic { .. } | BrokerError::PartitionsDiffer { .. } | BrokerError::BadTopic { .. }
            )
        )
        || matches!(cause.downcast_ref(), Some(DeployError::Change(_) | DeployError::NoPartition { .. }))
        || matches!(cause.downcast_ref(), Some(StartError::Refused(_)))
        || matches!(cause.downcast_ref(), Some(WorkerError::Newer { .. }))
        || matches!(cause.downcast_ref(), Some(ViewError::TooLarge { .. }))
        || cause.downcast_ref().or_else(shared).is_some_and(is_a_wrong_place)
}

/// A path where this user cannot write, or that leads through a file.
fn is_a_wrong_place(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), NotADirectory | PermissionDenied | ReadOnlyFilesystem)
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

    #[test]
    fn what_the_user_has_to_mend_is_found_behind_every_context() {
        let newer = || BrokerError::NewerFormat { file: "f".into(), found: 2, known: 1 };
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        let shared = BrokerError::Io { doing: "open", file: "f".into(), source: Arc::new(denied()) };
        for error in
            [mistake("x"), newer().into(), shared.clone().into(), StartError::Broker(shared).into(), denied().into()]
        {
            assert_eq!(code_of(&error.context("while").context("we did")), 2);
        }
        let full = BrokerError::DiskFull { file: "f".into(), source: Arc::new(io::ErrorKind::StorageFull.into()) };
        assert_eq!(code_of(&anyhow::Error::new(full)), 1);
    }
}
