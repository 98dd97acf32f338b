//! Empties what a connector has written, and has it written anew.

use clickmill_broker::BrokerError;

use super::{Connectors, SetError, note};
use crate::{Connector, SinkError};

impl Connectors {
    /// Empties a connector's side of its server, as far as the topic holds it, and starts it from the topic's beginning, one that
    /// was stopped too. Raw events stay, and go on: the input topic may not have them any more.
    ///
    /// # Errors
    /// [`SetError`]. After [`SetError::NotEmptied`] one that ran goes on from where it was, and one that was stopped stays so;
    /// after [`SetError::Unwritten`] it is emptied and stays stopped.
    pub async fn rebuild(&self, name: &str) -> Result<(), SetError> {
        let mut stopped = self.changing.lock().await;
        let (connector, runs) = self.known(name)?;
        let not_emptied = |why: String| SetError::NotEmptied { name: name.to_owned(), why };
        if matches!(connector, Connector::Http(_)) {
            return Err(not_emptied("an HTTP endpoint cannot be told to forget".to_owned()));
        }
        self.end(name).await;
        if let Err(e) = self.empty(&connector).await {
            let why = connector.hidden().redact(&e.chain());
            return if !runs || self.begin(connector).await { Err(not_emptied(why)) } else { Err(SetError::Closed) };
        }
        note(&mut stopped, name, false)?;
        if self.begin(connector).await { Ok(()) } else { Err(SetError::Closed) }
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
