//! Empties what a connector has written, and has it written anew.

use std::time::Duration;

use clickmill_broker::BrokerError;

use super::{Connectors, SetError, note};
use crate::{Connector, SinkError};

/// Longest time to empty a server's side.
const EMPTY_TIME: Duration = Duration::from_secs(300);

impl Connectors {
    /// Empties a connector's side of its server, as far as the topic holds it, and starts it from the topic's beginning, one that
    /// was stopped too. Raw events stay, and go on: the input topic may not have them any more.
    ///
    /// # Errors
    /// [`SetError`]. After [`SetError::NotEmptied`] one that ran goes on from where it was, and one that was stopped stays so;
    /// after [`SetError::Unwritten`] it is emptied and stays stopped.
    pub async fn rebuild(&self, name: &str) -> Result<(), SetError> {
        let connector = self.set_to_be_emptied(name).await?;
        // The others can be started and stopped meanwhile: a server that hangs takes its time.
        let emptied = tokio::time::timeout(EMPTY_TIME, self.empty(&connector)).await;
        let late = |_| Err(SinkError::unavailable("empty", format!("not done within {EMPTY_TIME:?}")));
        let emptied = emptied.unwrap_or_else(late);
        let mut stopped = self.changing.lock().await;
        let is_begun = match self.emptied(name) {
            Some(was_stopped) if emptied.is_ok() || !was_stopped => {
                if emptied.is_ok() {
                    note(&mut stopped, name, false)?;
                }
                self.begin(connector.clone()).await
            }
            // Somebody has stopped it, or made it another.
            _ => true,
        };
        match emptied {
            _ if !is_begun => Err(SetError::Closed),
            Ok(()) => Ok(()),
            Err(e) => Err(SetError::NotEmptied { name: name.to_owned(), why: connector.hidden().redact(&e.chain()) }),
        }
    }

    /// Ends a connector and marks it as one that is being emptied.
    async fn set_to_be_emptied(&self, name: &str) -> Result<Connector, SetError> {
        let _turn = self.changing.lock().await;
        let (connector, _) = self.known(name)?;
        let not_emptied = |why: &str| SetError::NotEmptied { name: name.to_owned(), why: why.to_owned() };
        if matches!(connector, Connector::Http(_)) {
            return Err(not_emptied("an HTTP endpoint cannot be told to forget"));
        }
        self.end(name).await;
        match self.members().by_name.get_mut(name) {
            Some(member) if member.is_emptied => return Err(not_emptied("it is being emptied just now")),
            Some(member) => member.is_emptied = true,
            None => {}
        }
        Ok(connector)
    }

    /// Takes the mark away: whether it is stopped, and none where it was taken away already.
    fn emptied(&self, name: &str) -> Option<bool> {
        let mut members = self.members();
        let member = members.by_name.get_mut(name).filter(|member| member.is_emptied)?;
        member.is_emptied = false;
        Some(!member.wanted)
    }

    async fn empty(&self, connector: &Connector) -> Result<(), SinkError> {
        let source = &self.starter.source;
        let runs = source.runs.clone();
        let run = tokio::task::spawn_blocking(move || runs()).await.unwrap_or(Err(BrokerError::Closed))?.id;
        let endpoint = self.starter.endpoint(connector.url());
        match connector {
            Connector::Postgres(options) => options.empty(endpoint, run, &source.windows).await,
            Connector::Redis(options) => options.empty(endpoint, run).await,
            Connector::Parquet(options) => options.empty(endpoint, run, &source.windows).await,
            // Never asked for one.
            Connector::Http(_) => Ok(()),
        }
    }
}
